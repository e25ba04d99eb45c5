// What a screen reader hears while text streams: whole sentences, each once.

/** Ends at a full stop, mark or colon before a space, or at a line's end. */
const end = /[.!?…:](?=["’”)\]]*\s)["’”)\]]*|\n/g;

export class Sentences {
  #said: number;

  /** Nothing before `from` is said: it was there already. */
  constructor(from: number) {
    this.#said = from;
  }

  /** The sentences that have become whole, as words without marks; empty if none. */
  take(text: string, over = false): string {
    if (text.length < this.#said) this.#said = text.length;
    const rest = text.slice(this.#said);
    let length = over ? rest.length : 0;
    if (!over) for (const match of rest.matchAll(end)) length = match.index + match[0].length;
    this.#said += length;
    return rest
      .slice(0, length)
      .replace(/```[\s\S]*?(```|$)/g, ' ')
      .replace(/[*_`#>|]+/g, '')
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .replace(/\s+/g, ' ')
      .trim();
  }
}
