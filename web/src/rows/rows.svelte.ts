// All tables of the page, and the one switch that puts a patch into its table.

import type { Fault, Patch, SyncRow } from '../engine/protocol';
import type { DocumentId } from '../engine/types.gen';
import { ConversationRows } from './conversation.svelte';
import { SessionRows } from './sessions.svelte';
import { Workspace } from './workspace.svelte';

export class Rows {
  readonly sessions = new SessionRows();
  readonly workspace = new Workspace();
  #sync = $state.raw<SyncRow>({ state: 'connecting', changes: 0, uploads: 0, waiting: 0, failed: 0, lastContact: null, reason: null });
  #open = $state.raw<ConversationRows | null>(null);
  /** The same, not as a signal: while a component goes, signals still read as they were before. */
  #latest: ConversationRows | null = null;
  #onfault: (fault: Fault) => void;

  constructor(onfault: (fault: Fault) => void) {
    this.#onfault = onfault;
  }

  get sync(): SyncRow {
    return this.#sync;
  }

  /** The conversation that is on the screen. */
  get open(): ConversationRows | null {
    return this.#open;
  }

  /** Starts an empty conversation; patches of any other session are dropped from now on. */
  begin(session: DocumentId): ConversationRows {
    const rows = new ConversationRows(session);
    this.#open = this.#latest = rows;
    return rows;
  }

  /** No conversation is on the screen, unless another one is already. */
  end(rows: ConversationRows): void {
    if (this.#latest === rows) this.#open = this.#latest = null;
  }

  /** Puts a batch into the tables in one pass, so that the screen changes once. */
  apply(patches: readonly Patch[]): void {
    for (const patch of patches) this.#put(patch);
  }

  #put(patch: Patch): void {
    const open = 'session' in patch && this.#open?.session === patch.session ? this.#open : null;
    switch (patch.type) {
      case 'summaries':
        return this.sessions.put(patch);
      case 'conversation':
        return open?.put(patch);
      case 'absent':
        return open?.lack(patch);
      case 'grew':
        return open?.grow(patch);
      case 'activity':
        return open?.act(patch);
      case 'workspace':
        return this.workspace.put(patch.workspace);
      case 'identity':
        this.workspace.identity = patch.identity;
        return;
      case 'sync':
        this.#sync = patch.sync;
        return;
      case 'fault':
        return this.#onfault(patch.fault);
    }
  }
}
