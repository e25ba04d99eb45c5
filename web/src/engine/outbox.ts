// What one tab has yet to draw. Patches that come while it is busy are merged, so that a slow tab costs no more than
// what it watches: rows replace their older selves, live texts of one part join. Pure.

import type { Fault, Patch } from './protocol';
import type { DocumentId, ShownMessage, Summary } from './types.gen';

type Of<T extends Patch['type']> = Extract<Patch, { type: T }>;

/** A session's part of it. `shown` comes first, then what has grown beyond it. */
interface Waiting {
  shown: Of<'conversation'> | Of<'absent'> | null;
  grew: Map<string, { patch: Of<'grew'>; end: number }>;
  activity: Of<'activity'> | null;
}

const encoder = new TextEncoder();

export class Outbox {
  #reset = false;
  #rows = new Map<DocumentId, Summary | null>();
  #sessions = new Map<DocumentId, Waiting>();
  #workspace: Of<'workspace'> | null = null;
  #identity: Of<'identity'> | null = null;
  #sync: Of<'sync'> | null = null;
  #faults: Fault[] = [];
  #empty = true;

  get empty(): boolean {
    return this.#empty;
  }

  add(patch: Patch): void {
    this.#empty = false;
    switch (patch.type) {
      case 'summaries':
        if (patch.reset) {
          this.#reset = true;
          this.#rows.clear();
        }
        for (const id of patch.removed) this.#rows.set(id, null);
        for (const row of patch.rows) this.#rows.set(row.id, row);
        break;
      case 'conversation':
        this.#conversation(patch);
        break;
      case 'absent':
        this.#sessions.set(patch.session, { shown: patch, grew: new Map(), activity: null });
        break;
      case 'grew':
        this.#grew(patch);
        break;
      case 'activity':
        this.#session(patch.session).activity = patch;
        break;
      case 'workspace':
        this.#workspace = patch;
        break;
      case 'identity':
        this.#identity = patch;
        break;
      case 'sync':
        this.#sync = patch;
        break;
      case 'fault':
        this.#faults.push(patch.fault);
        break;
    }
  }

  /** Drops what waits of a session that the tab no longer watches. */
  forget(session: DocumentId): void {
    this.#sessions.delete(session);
  }

  /** Everything that waits, in an order in which it can be applied. */
  take(): Patch[] {
    const patches: Patch[] = [];
    if (this.#identity) patches.push(this.#identity);
    if (this.#workspace) patches.push(this.#workspace);
    if (this.#reset || this.#rows.size > 0) patches.push(this.#summaries());
    for (const { shown, grew, activity } of this.#sessions.values()) {
      if (shown) patches.push(shown);
      for (const { patch } of grew.values()) patches.push(patch);
      if (activity) patches.push(activity);
    }
    if (this.#sync) patches.push(this.#sync);
    for (const fault of this.#faults) patches.push({ type: 'fault', fault });

    this.#reset = false;
    this.#rows = new Map();
    this.#sessions = new Map();
    this.#workspace = this.#identity = this.#sync = null;
    this.#faults = [];
    this.#empty = true;
    return patches;
  }

  #session(id: DocumentId): Waiting {
    let waiting = this.#sessions.get(id);
    if (!waiting) this.#sessions.set(id, (waiting = { shown: null, grew: new Map(), activity: null }));
    return waiting;
  }

  #summaries(): Patch {
    const rows: Summary[] = [];
    const removed: DocumentId[] = [];
    for (const [id, row] of this.#rows) {
      if (row) rows.push(row);
      else if (!this.#reset) removed.push(id);
    }
    return { type: 'summaries', rows, removed, reset: this.#reset };
  }

  #conversation(patch: Of<'conversation'>): void {
    const waiting = this.#session(patch.session);
    const visible = new Set([...patch.order, ...patch.queued]);
    const fresh = new Set(patch.messages.map((message) => message.id));
    const older = waiting.shown?.type === 'conversation' ? waiting.shown.messages : [];
    const kept: ShownMessage[] = older.filter(({ id }) => visible.has(id) && !fresh.has(id));
    waiting.shown = { ...patch, messages: [...kept, ...patch.messages] };
    for (const [key, { patch: grown }] of waiting.grew) {
      if (fresh.has(grown.message) || !visible.has(grown.message)) waiting.grew.delete(key);
    }
  }

  #grew(patch: Of<'grew'>): void {
    const { grew } = this.#session(patch.session);
    const key = `${patch.message} ${patch.part}`;
    const before = grew.get(key);
    const bytes = encoder.encode(patch.text).length;
    // What doesn't join on stands for itself: the page notices the gap, and the next conversation repairs it.
    if (before && before.patch.kind === patch.kind && before.end === patch.offset) {
      before.patch = { ...before.patch, text: before.patch.text + patch.text };
      before.end += bytes;
    } else {
      grew.delete(key);
      grew.set(key, { patch, end: patch.offset + bytes });
    }
  }
}
