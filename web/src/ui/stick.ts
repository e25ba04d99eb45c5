// The one owner of a scroll place that follows what grows below. An event that matches our own last write is ours; every
// other is the person's: upwards lets go, near the end takes hold again.

const near = 40;

export interface Box {
  scrollTop: number;
  readonly scrollHeight: number;
  readonly clientHeight: number;
}

export class Stick {
  #box: Box;
  #held = true;
  #written: number | null = null;
  #top = 0;
  #changed: (held: boolean) => void;

  constructor(box: Box, changed: (held: boolean) => void) {
    this.#box = box;
    this.#changed = changed;
  }

  get held(): boolean {
    return this.#held;
  }

  /** Something grew or shrank: follow it, if we hold. */
  follow(): void {
    if (!this.#held) return;
    const end = Math.max(0, this.#box.scrollHeight - this.#box.clientHeight);
    if (Math.abs(this.#box.scrollTop - end) < 1) return;
    this.#box.scrollTop = end;
    this.#written = this.#box.scrollTop;
    this.#top = this.#written;
  }

  /** The box has scrolled, whoever did it. */
  scrolled(): void {
    const top = this.#box.scrollTop;
    const ours = this.#written !== null && Math.abs(top - this.#written) < 1;
    const up = top < this.#top - 1;
    this.#top = top;
    this.#written = null;
    if (ours) return;
    const left = this.#box.scrollHeight - this.#box.clientHeight - top;
    if (left <= near) this.#set(true);
    else if (up) this.#set(false);
  }

  /** The person turns upwards: by wheel, key or finger. */
  release(): void {
    if (this.#box.scrollHeight > this.#box.clientHeight) this.#set(false);
  }

  /** Back to the end, and hold. */
  jump(): void {
    this.#set(true);
    this.follow();
  }

  #set(held: boolean): void {
    if (held === this.#held) return;
    this.#held = held;
    this.#changed(held);
  }
}
