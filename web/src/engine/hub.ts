// The worker's side of the seam: which tabs there are, what each watches, and what goes to it next. Pure: ports are
// objects that post, the engine is an object that answers.
//
// A tab has one batch in flight until it says that it has drawn it. An answer never overtakes the patches that its call
// has caused.

import { Outbox } from './outbox';
import { type Fault, type FromWorker, type Patch, PROTOCOL, type ToWorker } from './protocol';
import type { DocumentId } from './types.gen';

/** The engine, as the hub needs it. */
export interface Core {
  /** What a tab starts from: identity, workspace, all rows, state of sync. */
  opening(): Patch[];
  /** Publishes this session's patches from now on, and gives out all of it as it is. */
  watch(session: DocumentId): Patch[];
  unwatch(session: DocumentId): void;
  /** Everything else that a page can ask for. Rejects with a `Fault`. */
  call(name: string, args: unknown): Promise<unknown>;
}

/** Where a tab is reached. */
export interface Port {
  post(message: FromWorker): void;
}

/** One tab. Others hold it only to name it. */
export class Tab {
  readonly outbox = new Outbox();
  readonly watching = new Set<DocumentId>();
  readonly answers: FromWorker[] = [];
  greeted = false;
  drawing = false;

  constructor(readonly port: Port) {}
}

type Call = Extract<ToWorker, { type: 'call' }>;

export class Hub {
  #tabs = new Set<Tab>();
  #core: Core | null = null;
  /** `undefined` until the worker knows its lock. */
  #life: string | null | undefined;
  /** What tabs said before the engine was there. */
  #early: [Tab, ToWorker][] = [];

  get tabs(): number {
    return this.#tabs.size;
  }

  join(port: Port): Tab {
    const tab = new Tab(port);
    this.#tabs.add(tab);
    return tab;
  }

  /** The worker holds the lock of this name (or there are none): tabs can be greeted. */
  alive(life: string | null): void {
    this.#life = life;
    this.#replay();
  }

  /** The engine is there. */
  start(core: Core): void {
    this.#core = core;
    for (const tab of this.#tabs) this.#open(tab);
    this.#replay();
  }

  /** The engine can't start, or has stopped: tabs learn why, and that they need another. */
  stop(fault: Fault): void {
    this.#core = null;
    for (const tab of this.#tabs) {
      tab.port.post({ type: 'patches', patches: [...tab.outbox.take(), { type: 'fault', fault }] });
      tab.port.post({ type: 'gone' });
    }
    this.#tabs.clear();
  }

  receive(tab: Tab, message: ToWorker): void {
    if (!this.#tabs.has(tab)) return;
    switch (message.type) {
      case 'hello':
        if (this.#life === undefined) this.#early.push([tab, message]);
        else this.#greet(tab, message.protocol);
        break;
      case 'call':
        if (this.#life === undefined || !this.#core) this.#early.push([tab, message]);
        else this.#call(tab, this.#core, message);
        break;
      case 'drawn':
        tab.drawing = false;
        this.#pump(tab);
        break;
      case 'bye':
        this.leave(tab);
        break;
    }
  }

  leave(tab: Tab): void {
    if (!this.#tabs.delete(tab)) return;
    for (const session of tab.watching) this.#unwatch(tab, session);
  }

  /** Patches of the engine, to whom they concern. */
  publish(patches: readonly Patch[]): void {
    for (const tab of this.#tabs) {
      for (const patch of patches) {
        if (!('session' in patch) || tab.watching.has(patch.session)) tab.outbox.add(patch);
      }
      this.#pump(tab);
    }
  }

  #replay(): void {
    const early = this.#early;
    this.#early = [];
    for (const [tab, message] of early) this.receive(tab, message);
  }

  #greet(tab: Tab, protocol: number): void {
    tab.port.post({ type: 'ready', protocol: PROTOCOL, life: this.#life ?? null });
    // A tab of another build learns the version, and nothing that it might misread.
    if (protocol !== PROTOCOL) {
      this.#tabs.delete(tab);
      return;
    }
    tab.greeted = true;
    if (this.#core) this.#open(tab);
    this.#pump(tab);
  }

  #open(tab: Tab): void {
    if (!tab.greeted || !this.#core) return;
    for (const patch of this.#core.opening()) tab.outbox.add(patch);
    this.#pump(tab);
  }

  #call(tab: Tab, core: Core, { call, name, args }: Call): void {
    if (name === 'session.watch') {
      tab.watching.add(args.session);
      for (const patch of core.watch(args.session)) tab.outbox.add(patch);
      this.#answer(tab, { type: 'done', call, result: null });
    } else if (name === 'session.unwatch') {
      tab.watching.delete(args.session);
      tab.outbox.forget(args.session);
      this.#unwatch(tab, args.session);
      this.#answer(tab, { type: 'done', call, result: null });
    } else {
      core.call(name, args).then(
        (result) => this.#answer(tab, { type: 'done', call, result }),
        (error: unknown) => this.#answer(tab, { type: 'failed', call, fault: faultOf(error) }),
      );
    }
  }

  #unwatch(tab: Tab, session: DocumentId): void {
    for (const other of this.#tabs) if (other !== tab && other.watching.has(session)) return;
    this.#core?.unwatch(session);
  }

  #answer(tab: Tab, answer: FromWorker): void {
    tab.answers.push(answer);
    this.#pump(tab);
  }

  #pump(tab: Tab): void {
    if (!tab.greeted || !this.#tabs.has(tab)) return;
    if (!tab.drawing && !tab.outbox.empty) {
      tab.drawing = true;
      tab.port.post({ type: 'patches', patches: tab.outbox.take() });
    }
    if (tab.outbox.empty) for (const answer of tab.answers.splice(0)) tab.port.post(answer);
  }
}

/** A rejection of the engine is a fault already; anything else is the engine's own failure. */
export function faultOf(error: unknown): Fault {
  if (typeof error === 'object' && error !== null && 'code' in error && 'detail' in error) return error as Fault;
  return { code: 'engine', detail: error instanceof Error ? error.message : String(error) };
}
