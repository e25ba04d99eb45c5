// One part's text while it grows: appended by UTF-8 offset, read as blocks only while someone looks.

import { BlockReader, type View } from '../markdown/blocks';

const utf8 = new TextEncoder();

export class LiveText {
  #text = $state.raw('');
  #live = $state.raw(false);
  #bytes = 0;
  #reader: BlockReader;
  #view = $derived.by(() => this.#reader.read(this.#text, this.#live));

  constructor(breaks = false) {
    this.#reader = new BlockReader(breaks);
  }

  get text(): string {
    return this.#text;
  }

  get view(): View {
    return this.#view;
  }

  /** The engine's word: replaces whatever stood here. */
  put(text: string, live: boolean): void {
    if (text !== this.#text) {
      this.#text = text;
      this.#bytes = utf8.encode(text).length;
    }
    this.#live = live;
  }

  /** Appends what lies beyond the text. False: a gap, which the engine's next word repairs. */
  grow(offset: number, text: string): boolean {
    if (offset > this.#bytes) return false;
    const bytes = utf8.encode(text);
    const known = this.#bytes - offset;
    this.#live = true;
    if (known >= bytes.length) return true;
    this.#text += known === 0 ? text : new TextDecoder().decode(bytes.subarray(known));
    this.#bytes = offset + bytes.length;
    return true;
  }
}
