// Short notices with a way back. They wait while the pointer or the focus is on them.

export interface Toast {
  readonly id: number;
  readonly text: string;
  readonly action: { readonly label: string; readonly run: () => void } | null;
}

const shownFor = 10_000;

export class Toasts {
  #list = $state.raw<readonly Toast[]>([]);
  #timers = new Map<number, ReturnType<typeof setTimeout>>();
  #last = 0;

  get list(): readonly Toast[] {
    return this.#list;
  }

  show(text: string, action: Toast['action'] = null): void {
    const id = ++this.#last;
    this.#list = [...this.#list.slice(-2), { id, text, action }];
    this.go(id);
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
