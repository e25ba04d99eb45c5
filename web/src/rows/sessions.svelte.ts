// Rows of all sessions, by id; who wants an order derives it (sessions/view.ts).

import { SvelteMap } from 'svelte/reactivity';
import type { Patch } from '../engine/protocol';
import type { DocumentId, Summary } from '../engine/types.gen';
import { Expected } from './expected.svelte';

export class SessionRows {
  readonly expected = new Expected();
  #rows = new SvelteMap<DocumentId, Summary>();
  #loaded = $state.raw(false);

  /** Whether the engine has said what is on this device. */
  get loaded(): boolean {
    return this.#loaded;
  }

  get(id: DocumentId): Summary | undefined {
    const row = this.#rows.get(id);
    return row && this.expected.over(row);
  }

  /** All of them but the deleted, in no order. */
  all(): Summary[] {
    const rows: Summary[] = [];
    for (const row of this.#rows.values()) if (row.deletedAt === null) rows.push(this.expected.over(row));
    return rows;
  }

  put(patch: Extract<Patch, { type: 'summaries' }>): void {
    if (patch.reset) {
      const kept = new Set(patch.rows.map((row) => row.id));
      for (const id of this.#rows.keys()) if (!kept.has(id)) this.#rows.delete(id);
    }
    for (const row of patch.rows) this.#rows.set(row.id, row);
    for (const id of patch.removed) this.#rows.delete(id);
    this.#loaded = true;
  }
}
