// The page's side: opens a worker, notices its death, opens another. Knows no command.

import type { FromWorker, ToWorker } from './protocol';

/** An open way to a worker. */
export interface Wire {
  post(message: ToWorker): void;
  /** Says nothing more and hears nothing more. */
  close(): void;
}

/** What a wire tells of. */
export interface Ends {
  receive(message: FromWorker): void;
  /** The worker is gone, or never came up. */
  died(): void;
}

export type Dial = (ends: Ends) => Wire;

/** Waits until the lock of this name is free, that is until its holder has ended; the returned function gives up. */
export type AwaitEnd = (lock: string, ended: () => void) => () => void;

/** What the link asks of its surroundings; tests have their own. */
export interface Surroundings {
  dial: Dial;
  awaitEnd: AwaitEnd;
  after(ms: number, run: () => void): void;
  now(): number;
}

/** What the link tells its owner. */
export interface Owner {
  /** A worker is being opened: greet it. */
  opened(): void;
  receive(message: FromWorker): void;
  /** The worker has died; another will be opened. Calls in flight have no answer. */
  lost(): void;
}

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
/** A worker that lived this long has earned a quick restart. */
const SETTLED_MS = 30_000;

export class Link {
  #wire: Wire | null = null;
  #stopWaiting: () => void = () => {};
  #opened = 0;
  #pause = FIRST_PAUSE_MS;
  #closed = false;

  constructor(
    private readonly around: Surroundings,
    private readonly owner: Owner,
  ) {}

  open(): void {
    if (this.#closed || this.#wire) return;
    this.#opened = this.around.now();
    let dead = false;
    const died = () => {
      if (dead) return;
      dead = true;
      this.#lost();
    };
    this.#wire = this.around.dial({
      died,
      receive: (message) => {
        if (dead) return;
        if (message.type === 'gone') {
          died();
          return;
        }
        if (message.type === 'ready' && message.life !== null) {
          this.#stopWaiting();
          this.#stopWaiting = this.around.awaitEnd(message.life, died);
        }
        this.owner.receive(message);
      },
    });
    this.owner.opened();
  }

  post(message: ToWorker): void {
    this.#wire?.post(message);
  }

  /** For good: the page goes, or is of another build than the worker. */
  close(): void {
    this.#closed = true;
    this.#stopWaiting();
    this.#wire?.close();
    this.#wire = null;
  }

  #lost(): void {
    if (this.#closed) return;
    this.#stopWaiting();
    this.#wire?.close();
    this.#wire = null;
    const settled = this.around.now() - this.#opened >= SETTLED_MS;
    const pause = settled ? FIRST_PAUSE_MS : this.#pause;
    this.#pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    this.owner.lost();
    this.around.after(pause, () => this.open());
  }
}
