// The one `Engine` of the page: calls that are answered once, patches that are drawn in batches. What it gives out is
// what a worker sent; it keeps nothing but calls in flight and which sessions are watched.

import { dial } from './leader';
import { Link, type Surroundings } from './link';
import { awaitEnd, holdLock } from './locks';
import { type Commands, type Fault, type FromWorker, type Patch, PROTOCOL, type ToWorker } from './protocol';
import type { DocumentId } from './types.gen';

/** Why a call failed. */
export class EngineFault extends Error {
  constructor(readonly fault: Fault) {
    super(fault.detail || fault.code);
    this.name = 'EngineFault';
  }
}

/** `reload`: this page and the worker are of different builds. */
export type EngineState = 'starting' | 'ready' | 'restarting' | 'reload';

/** Calls `draw` when the next frame is due, and no later than a second from now in a tab that isn't shown. */
export type NextFrame = (draw: () => void) => void;

interface Pending {
  resolve(result: unknown): void;
  reject(fault: EngineFault): void;
}

/** A batch is applied in one pass, without `await`. */
export type OnPatches = (patches: readonly Patch[]) => void;

export class Engine {
  #link: Link;
  #tab: string;
  #nextFrame: NextFrame;
  #calls = new Map<number, Pending>();
  #lastCall = 0;
  #watching = new Map<DocumentId, number>();
  #listeners = new Set<OnPatches>();
  #stateListeners = new Set<(state: EngineState) => void>();
  #state: EngineState = 'starting';
  /** Calls from before `open`. */
  #early: ToWorker[] | null = [];

  constructor(tab: string, around: Surroundings, nextFrame: NextFrame) {
    this.#tab = tab;
    this.#nextFrame = nextFrame;
    this.#link = new Link(around, {
      opened: () => {
        this.#link.post({ type: 'hello', protocol: PROTOCOL, tab });
        for (const session of this.#watching.keys()) this.#watch(session);
        for (const message of this.#early ?? []) this.#link.post(message);
        this.#early = null;
      },
      receive: (message) => this.#receive(message),
      lost: () => this.#lost(),
    });
  }

  /** Opens the worker. Listeners that are to hear everything are there before. */
  open(): void {
    this.#link.open();
  }

  /** The tab is going. */
  close(): void {
    this.#link.post({ type: 'bye' });
    this.#link.close();
  }

  get state(): EngineState {
    return this.#state;
  }

  /** The random name under which the worker knows this tab. */
  get tab(): string {
    return this.#tab;
  }

  /** Rejects with an `EngineFault`. Without a worker it waits for one. */
  call<N extends keyof Commands>(name: N, args: Commands[N]['args']): Promise<Commands[N]['result']> {
    const call = ++this.#lastCall;
    return new Promise((resolve, reject) => {
      if (this.#state === 'reload') {
        reject(new EngineFault({ code: 'version', detail: '' }));
        return;
      }
      if (this.#state === 'restarting') {
        // Nothing was begun: better to say so than to do it some time later.
        reject(new EngineFault({ code: 'engine', detail: 'the engine is starting again' }));
        return;
      }
      this.#calls.set(call, { resolve: (result) => resolve(result as Commands[N]['result']), reject });
      // The map of commands ties name and arguments together; the union that crosses the port can't follow a generic.
      const message = { type: 'call', call, name, args } as ToWorker;
      if (this.#early) this.#early.push(message);
      else this.#link.post(message);
    });
  }

  /** Patches of this session come until the returned function is called; a restarted worker is asked again. */
  watch(session: DocumentId): () => void {
    const watchers = this.#watching.get(session) ?? 0;
    this.#watching.set(session, watchers + 1);
    if (watchers === 0) this.#watch(session);
    let done = false;
    return () => {
      if (done) return;
      done = true;
      const left = (this.#watching.get(session) ?? 1) - 1;
      if (left > 0) {
        this.#watching.set(session, left);
        return;
      }
      this.#watching.delete(session);
      this.call('session.unwatch', { session }).catch(() => {});
    };
  }

  onPatches(listener: OnPatches): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Called with the state as it is now, and whenever it changes. */
  onState(listener: (state: EngineState) => void): () => void {
    this.#stateListeners.add(listener);
    listener(this.#state);
    return () => this.#stateListeners.delete(listener);
  }

  /** Sent even while the worker starts: it keeps what comes early. A fault shows as patches that don't come. */
  #watch(session: DocumentId): void {
    const call = ++this.#lastCall;
    this.#link.post({ type: 'call', call, name: 'session.watch', args: { session } });
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case 'ready':
        if (message.protocol === PROTOCOL) {
          this.#become('ready');
        } else {
          this.#become('reload');
          this.#link.close();
          this.#failAll({ code: 'version', detail: '' });
        }
        break;
      case 'done':
        this.#calls.get(message.call)?.resolve(message.result);
        this.#calls.delete(message.call);
        break;
      case 'failed':
        this.#calls.get(message.call)?.reject(new EngineFault(message.fault));
        this.#calls.delete(message.call);
        break;
      case 'patches':
        for (const listener of this.#listeners) listener(message.patches);
        this.#nextFrame(() => this.#link.post({ type: 'drawn' }));
        break;
    }
  }

  #lost(): void {
    this.#become('restarting');
    this.#failAll({ code: 'engine', detail: 'the engine stopped before it answered' });
  }

  #failAll(fault: Fault): void {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const { reject } of calls) reject(new EngineFault(fault));
  }

  #become(state: EngineState): void {
    if (state === this.#state) return;
    this.#state = state;
    for (const listener of this.#stateListeners) listener(state);
  }
}

/** The page's engine, opened. */
export function openEngine(): Engine {
  const tab = randomName();
  const engine = new Engine(
    tab,
    { dial: dial(tab), awaitEnd, after: (ms, run) => void setTimeout(run, ms), now: () => performance.now() },
    nextFrame,
  );
  // The worker asks for this lock, and gets it when the tab has ended: so the tab must hold it first.
  void holdLock(`skein-tab-${tab}`).then(() => engine.open());
  // Timers of a device that slept are late: whoever looks at the page now doesn't wait for them.
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible' && engine.state === 'ready') {
      engine.call('sync.retry', {}).catch(() => {});
    }
  });
  addEventListener('pagehide', (event) => {
    // A page that may come back from the cache keeps its worker.
    if (!event.persisted) engine.close();
  });
  return engine;
}

/** A tab that isn't shown gets no frames: it draws once a second, so that what it watches doesn't pile up. */
const nextFrame: NextFrame = (draw) => {
  let drawn = false;
  const once = () => {
    if (drawn) return;
    drawn = true;
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    draw();
  };
  const timer = setTimeout(once, 1000);
  const frame = requestAnimationFrame(once);
};

/** `crypto.randomUUID` is missing over plain http. */
function randomName(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
