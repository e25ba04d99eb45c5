// What a command shows in the frame after the key, until the engine has answered it.

import { SvelteMap } from 'svelte/reactivity';
import type { DocumentId, Summary } from '../engine/types.gen';

export type Change = Partial<Pick<Summary, 'name' | 'nameSource' | 'status' | 'beneath' | 'archivedAt'>>;

export class Expected {
  #changes = new SvelteMap<DocumentId, readonly Change[]>();

  /** Shows a change of a row; the function that comes back takes it away again. */
  show(id: DocumentId, change: Change): () => void {
    this.#changes.set(id, [...(this.#changes.get(id) ?? []), change]);
    return () => {
      const left = (this.#changes.get(id) ?? []).filter((other) => other !== change);
      if (left.length > 0) this.#changes.set(id, left);
      else this.#changes.delete(id);
    };
  }

  over(row: Summary): Summary {
    const changes = this.#changes.get(row.id);
    return changes ? Object.assign({}, row, ...changes) : row;
  }
}
