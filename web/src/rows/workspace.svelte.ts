// Who is signed in, and what the workspace holds besides sessions.

import type { Identity, WorkspaceRow } from '../engine/protocol';

export interface AgentLook {
  name: string;
  /** Colour of its thread, 1 to 7; 7 is an agent that was deleted. */
  thread: number;
}

export class Workspace {
  #row = $state.raw<WorkspaceRow | null>(null);
  #identity = $state.raw<Identity | null | undefined>(undefined);

  /** Undefined until the engine has said. */
  get identity(): Identity | null | undefined {
    return this.#identity;
  }

  set identity(identity: Identity | null) {
    this.#identity = identity;
  }

  get row(): WorkspaceRow | null {
    return this.#row;
  }

  put(row: WorkspaceRow): void {
    this.#row = row;
  }

  get agents(): WorkspaceRow['agents'] {
    return this.#row?.agents ?? [];
  }

  /** An agent by id; none named is the default one. */
  agent(id: string | null | undefined, deleted: string): AgentLook {
    const known = this.agents.find((agent) => agent.id === (id ?? this.#row?.defaultAgent));
    if (known) return { name: known.name, thread: Math.min(Math.max(known.thread, 1), 7) };
    return { name: deleted, thread: id === null || id === undefined ? 1 : 7 };
  }

  /** A member's name; null for the reader. */
  member(id: string | null): string | null | undefined {
    if (id === this.#identity?.member) return null;
    return this.#identity?.members.find((member) => member.id === id)?.name;
  }

  get readsOnly(): boolean {
    return this.#identity?.role === 'viewer';
  }
}
