// One message of the open session: the engine's row, and the texts of its parts that grow between two of its words.

import type { Patch } from '../engine/protocol';
import type { ShownMessage, ShownPart } from '../engine/types.gen';
import { LiveText } from './live.svelte';

type Grew = Extract<Patch, { type: 'grew' }>;

export class MessageRow {
  #shown: ShownMessage;
  #parts: readonly ShownPart[];
  #texts = new Map<number, LiveText>();

  constructor(shown: ShownMessage, live: boolean) {
    this.#shown = $state.raw(shown);
    this.#parts = $state.raw(shown.parts);
    this.#read(shown, live);
  }

  get shown(): ShownMessage {
    return this.#shown;
  }

  get parts(): readonly ShownPart[] {
    return this.#parts;
  }

  /** The text of a part that has one: words, thinking, or a call's input. */
  text(index: number): LiveText {
    let text = this.#texts.get(index);
    if (!text) this.#texts.set(index, (text = new LiveText(this.#shown.role === 'user')));
    return text;
  }

  put(shown: ShownMessage, live: boolean): void {
    this.#shown = shown;
    this.#parts = shown.parts;
    for (const index of this.#texts.keys()) {
      if (!shown.parts.some((part) => part.index === index)) this.#texts.delete(index);
    }
    this.#read(shown, live);
  }

  grow({ part, kind, offset, text }: Grew): void {
    if (!this.#parts.some((known) => known.index === part)) {
      // A part that has just begun; of a call nobody knows the name yet, so it waits for the engine's word.
      if (kind === 'input' || offset > 0) return;
      this.#parts = [...this.#parts, { index: part, type: kind, text: '' }];
    }
    this.text(part).grow(offset, text);
  }

  /** Nothing is coming any more. */
  settle(): void {
    for (const text of this.#texts.values()) text.put(text.text, false);
  }

  #read(shown: ShownMessage, live: boolean): void {
    const last = shown.parts.at(-1)?.index;
    for (const part of shown.parts) {
      if (part.type === 'text' || part.type === 'thinking') this.text(part.index).put(part.text, live && part.index === last);
      else if (part.type === 'tool_call' && !(live && part.input === '')) this.text(part.index).put(part.input, false);
    }
  }
}
