// Whether this browser promised to keep what is stored here, and how much that is. Over plain http it says nothing of it.

export class Stored {
  #kept = $state.raw<boolean | null>(null);
  #bytes = $state.raw<number | null>(null);

  /** Null where the browser doesn't tell. */
  get kept(): boolean | null {
    return this.#kept;
  }

  get bytes(): number | null {
    return this.#bytes;
  }

  async look(): Promise<void> {
    const storage = this.#storage;
    if (!storage) return;
    this.#kept = await storage.persisted();
    this.#bytes = (await storage.estimate()).usage ?? null;
  }

  /** Asks for the promise; some browsers ask the person, others decide by themselves. */
  async keep(): Promise<void> {
    const storage = this.#storage;
    if (storage) this.#kept = await storage.persist();
  }

  get #storage(): StorageManager | undefined {
    // Missing in a page that isn't secure, whatever its type says.
    return (navigator as Partial<Navigator>).storage;
  }
}

/** Once a device is signed in, what it stores is worth keeping. The answer shows in the dialog "Sync". */
export function askToKeep(): void {
  new Stored().keep().catch((reason: unknown) => console.error(reason));
}
