// The conversation that is watched: messages by id, their order apart from them, and what the worker is doing.

import { SvelteMap } from 'svelte/reactivity';
import type { ConversationHead, Patch } from '../engine/protocol';
import type { DocumentId, ShownPart, ShownTurn, WaitingCommand } from '../engine/types.gen';
import { MessageRow } from './message.svelte';

type Of<T extends Patch['type']> = Extract<Patch, { type: T }>;
type ToolResult = Extract<ShownPart, { type: 'tool_result' }>;

export class ConversationRows {
  readonly session: DocumentId;
  #messages = new SvelteMap<string, MessageRow>();
  #results = new SvelteMap<string, ToolResult>();
  #head = $state.raw<ConversationHead | null>(null);
  #order = $state.raw<readonly string[]>([]);
  #queued = $state.raw<readonly string[]>([]);
  #absent = $state.raw<Of<'absent'>['why'] | null>('opening');
  #commands = $state.raw<readonly WaitingCommand[]>([]);
  #activity = $state.raw<{ state: Of<'activity'>['state']; tool: string | null } | null>(null);

  constructor(session: DocumentId) {
    this.session = session;
  }

  get head(): ConversationHead | null {
    return this.#head;
  }

  /** Ids of what is visible, in order. */
  get order(): readonly string[] {
    return this.#order;
  }

  /** Ids of what waits for a turn. */
  get queued(): readonly string[] {
    return this.#queued;
  }

  /** Why nothing can be shown; null once something is. */
  get absent(): Of<'absent'>['why'] | null {
    return this.#absent;
  }

  /** What waits for this session, or could not be done when it had come. */
  get commands(): readonly WaitingCommand[] {
    return this.#commands;
  }

  get activity(): { state: Of<'activity'>['state']; tool: string | null } | null {
    return this.#activity;
  }

  message(id: string): MessageRow | undefined {
    return this.#messages.get(id);
  }

  result(call: string): ToolResult | undefined {
    return this.#results.get(call);
  }

  /** The turn that is under way or was last. */
  get front(): ShownTurn | undefined {
    return this.#head?.turns.find((turn) => turn.run === this.#head?.front);
  }

  put(patch: Of<'conversation'>): void {
    const streams = patch.head.status === 'STREAMING';
    const front = patch.head.turns.find((turn) => turn.run === patch.head.front)?.id;
    for (const shown of patch.messages) {
      const live = streams && shown.role === 'assistant' && shown.turn === front;
      const row = this.#messages.get(shown.id);
      if (row) row.put(shown, live);
      else this.#messages.set(shown.id, new MessageRow(shown, live));
      for (const part of shown.parts) if (part.type === 'tool_result') this.#results.set(part.callId, part);
    }
    const known = new Set([...patch.order, ...patch.queued]);
    for (const id of this.#messages.keys()) if (!known.has(id)) this.#messages.delete(id);
    if (!streams) {
      this.#activity = null;
      for (const id of patch.order.slice(-3)) this.#messages.get(id)?.settle();
    }
    this.#head = patch.head;
    this.#order = patch.order;
    this.#queued = patch.queued;
    this.#absent = null;
    this.#commands = patch.head.commands;
  }

  lack(patch: Of<'absent'>): void {
    this.#commands = patch.commands;
    this.#absent = this.#head && patch.why !== 'unknown' ? null : patch.why;
  }

  grow(patch: Of<'grew'>): void {
    this.#messages.get(patch.message)?.grow(patch);
  }

  act(patch: Of<'activity'>): void {
    this.#activity = { state: patch.state, tool: patch.tool };
  }
}
