// What commands and components reach: the engine, the rows, what is open, and the way to another page.

import { createContext } from 'svelte';
import { EngineFault, type Engine as Client } from '../engine/client';
import type { Fault } from '../engine/protocol';
import type { DocumentId } from '../engine/types.gen';
import { Rows } from '../rows/rows.svelte';
import { Toasts } from '../ui/toasts.svelte';
import { faults, words } from '../words/en';
import { format, type Filters, type Route } from './address';

/** The page's end of the seam, as much of it as the page uses. A call that can't be done rejects with an `EngineFault`. */
export type Engine = Pick<Client, 'call' | 'watch' | 'onPatches' | 'onState'>;

/** Longer than the longest pause before an engine is opened again, and the time it takes to start. */
const quietAfterEndMs = 60_000;

/** The address bar, kept by the app. */
export interface Address {
  readonly route: Route;
  go(hash: string, replace?: boolean): void;
}

export class App {
  readonly engine: Engine;
  readonly address: Address;
  readonly toasts = new Toasts();
  readonly rows = new Rows((fault) => this.#told(fault));
  #creating = $state.raw(false);
  #helping = $state.raw(false);
  #renaming = $state.raw<DocumentId | null>(null);
  #drawer = $state.raw(false);
  #outdated = $state.raw(false);
  #spoken = $state.raw('');
  /** When the engine last told of its own end. */
  #ended = Number.NEGATIVE_INFINITY;

  constructor(engine: Engine, address: Address) {
    this.engine = engine;
    this.address = address;
  }

  /** The dialog "New session". */
  get creating(): boolean {
    return this.#creating;
  }

  set creating(open: boolean) {
    this.#creating = open;
  }

  /** The dialog "Keyboard shortcuts". */
  get helping(): boolean {
    return this.#helping;
  }

  set helping(open: boolean) {
    this.#helping = open;
  }

  /** The session whose name is being edited in place. */
  get renaming(): DocumentId | null {
    return this.#renaming;
  }

  set renaming(session: DocumentId | null) {
    this.#renaming = session;
  }

  /** The sidebar over the session, on a phone. */
  get drawer(): boolean {
    return this.#drawer;
  }

  set drawer(open: boolean) {
    this.#drawer = open;
  }

  /** A newer version is ready, or the engine is of another one: only a reload helps. */
  get outdated(): boolean {
    return this.#outdated;
  }

  set outdated(yes: boolean) {
    this.#outdated = yes;
  }

  /** What the polite live region says last. */
  get spoken(): string {
    return this.#spoken;
  }

  say(sentence: string): void {
    this.#spoken = sentence;
  }

  /** The session that is open on the screen. */
  get session(): DocumentId | null {
    const { route } = this.address;
    return route.page === 'session' ? route.session : null;
  }

  get filters(): Filters | null {
    const { route } = this.address;
    return route.page === 'sign-in' ? null : route.filters;
  }

  filter(change: Partial<Filters>, replace = false): void {
    const { route } = this.address;
    if (route.page === 'sign-in') return;
    this.address.go(format({ ...route, filters: { ...route.filters, ...change } }), replace);
  }

  /** Says why something couldn't be done. */
  fail(reason: unknown): void {
    const fault = faultOf(reason);
    if (fault) this.#fault(fault);
    else {
      console.error(reason);
      this.toasts.show(faults.engine);
    }
  }

  /** What nobody asked for. An engine that ends again soon after its last end has nothing new to say. */
  #told(fault: Fault): void {
    if (fault.code === 'engine') {
      const again = performance.now() - this.#ended < quietAfterEndMs;
      this.#ended = performance.now();
      if (again) return;
    }
    this.#fault(fault);
  }

  #fault(fault: Fault): void {
    if (fault.code === 'version') this.#outdated = true;
    this.toasts.show(sentence(fault));
  }
}

export function faultOf(reason: unknown): Fault | null {
  return reason instanceof EngineFault ? reason.fault : null;
}

/** A fault in words: the engine's own sentence where it has one for the person, else ours. */
export function sentence(fault: Fault): string {
  if (fault.code !== 'bad-command' && fault.code !== 'refused') return faults[fault.code];
  const detail = fault.detail.trim();
  return detail === '' ? faults[fault.code] : `${detail.charAt(0).toUpperCase()}${detail.slice(1)}${detail.endsWith('.') ? '' : '.'}`;
}

/** A session's name for sentences about it. */
export function nameOf(app: App, id: DocumentId): string {
  return app.rows.sessions.get(id)?.name ?? words.unknown;
}

export const [useApp, provideApp] = createContext<App>();
