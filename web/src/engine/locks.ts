// Web Locks tell of a death: whoever holds one holds it until it ends. Over plain http from another machine there are
// none; then nobody learns of a death, and the rest goes on.

const locks: LockManager | undefined = globalThis.navigator?.locks;

/** Takes a lock for as long as this tab or worker lives. Settles once it is held. */
export function holdLock(name: string): Promise<void> {
  if (!locks) return Promise.resolve();
  return new Promise((held) => {
    locks
      .request(name, () => {
        held();
        return new Promise<never>(() => {});
      })
      // Refused (an opaque origin, a page that is being left): as if there were none.
      .catch(() => held());
  });
}

/** Whether deaths can be noticed here. */
export function haveLocks(): boolean {
  return locks !== undefined;
}

/** Calls `ended` when the holder of this lock is gone; the returned function gives up waiting. */
export function awaitEnd(name: string, ended: () => void): () => void {
  if (!locks) return () => {};
  const giveUp = new AbortController();
  locks.request(name, { signal: giveUp.signal }, () => ended()).catch(() => {});
  return () => giveUp.abort();
}
