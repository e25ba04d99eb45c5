// The address bar as a signal. Everything else asks for a page through `go`.

import { parse, type Route } from '../commands/address';
import type { Address } from '../commands/context.svelte';

export class HashAddress implements Address {
  #route = $state.raw<Route>(parse(location.hash));

  constructor() {
    // Back, forward and typed addresses come as popstate or hashchange; links to another hash as both.
    addEventListener('popstate', () => this.#read());
    addEventListener('hashchange', () => this.#read());
  }

  get route(): Route {
    return this.#route;
  }

  go(hash: string, replace = false): void {
    if (hash === location.hash) return;
    history[replace ? 'replaceState' : 'pushState'](null, '', hash);
    this.#read();
  }

  #read(): void {
    this.#route = parse(location.hash);
  }
}
