// From a key to a command. Single letters are commands only outside text fields, never while an input method composes,
// while something lies open, or when a component took the key.

export interface Press {
  readonly key: string;
  readonly shift: boolean;
  /** Ctrl, Alt or the command key: the browser's own. */
  readonly modified: boolean;
  /** A field that takes text has the focus. */
  readonly inField: boolean;
  readonly composing: boolean;
  /** A dialog, menu or popover lies open. */
  readonly layer: boolean;
}

/** Within this time a second key makes a sequence ("g s"). */
const patience = 1000;

export class Keys {
  #first = '';
  #at = Number.NEGATIVE_INFINITY;

  /** The keys of the command that this press completes, in the table's writing; null if none. */
  press(press: Press, now: number, known: ReadonlySet<string>): string | null {
    const name = nameOf(press);
    const begun = now - this.#at <= patience ? this.#first : '';
    this.#first = '';
    if (press.composing || press.modified) return null;
    if (name === 'Escape') return known.has(name) ? name : null;
    if (press.inField || press.layer) return null;
    if (begun !== '' && known.has(`${begun} ${name}`)) return `${begun} ${name}`;
    if (known.has(name)) return name;
    if ([...known].some((keys) => keys.startsWith(`${name} `))) {
      this.#first = name;
      this.#at = now;
    }
    return null;
  }
}

function nameOf({ key, shift }: Press): string {
  return shift && /^[a-z]$/i.test(key) ? `Shift+${key.toUpperCase()}` : key;
}

/** Reads a browser's event. */
export function pressOf(event: KeyboardEvent, layer: boolean): Press {
  const target = event.target instanceof HTMLElement ? event.target : null;
  return {
    key: event.key,
    shift: event.shiftKey,
    modified: event.ctrlKey || event.altKey || event.metaKey,
    inField: target?.matches('input:not([type="radio"], [type="checkbox"]), textarea, select, [contenteditable]') ?? false,
    composing: event.isComposing || event.keyCode === 229,
    layer,
  };
}
