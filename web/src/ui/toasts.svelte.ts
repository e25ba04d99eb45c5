// Short notices with a way back. They wait while the pointer or the focus is on them.

import { add, type Toast } from './notices';

const shownFor = 10_000;

export class Toasts {
  #list = $state.raw<readonly Toast[]>([]);
  #timers = new Map<number, ReturnType<typeof setTimeout>>();
  #last = 0;

  get list(): readonly Toast[] {
    return this.#list;
  }

  show(text: string, action: Toast['action'] = null): void {
    const { list, shown } = add(this.#list, { id: ++this.#last, text, action });
    this.#list = list;
    this.go(shown.id);
  }

  /** The time runs (again). */
  go(id: number): void {
    this.hold(id);
    this.#timers.set(
      id,
      setTimeout(() => this.drop(id), shownFor),
    );
  }

  /** The time stands still. */
  hold(id: number): void {
    clearTimeout(this.#timers.get(id));
  }

  drop(id: number): void {
    this.hold(id);
    this.#timers.delete(id);
    this.#list = this.#list.filter((toast) => toast.id !== id);
  }
}
