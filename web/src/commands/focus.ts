// Where the focus goes among sessions on the screen: each row or card of a list carries `data-session`.

import { tick } from 'svelte';
import type { DocumentId } from '../engine/types.gen';

const rows = (): HTMLElement[] => [...document.querySelectorAll<HTMLElement>('[data-session]')];
const link = (row: HTMLElement | undefined) => row?.querySelector<HTMLElement>('a') ?? null;

/** The session whose row holds the focus. */
export function focused(): DocumentId | null {
  return document.activeElement?.closest<HTMLElement>('[data-session]')?.dataset['session'] ?? null;
}

/** A row is about to go: if the focus is in it, the next one gets it, or the one before. */
export function focusNeighbour(id: DocumentId): void {
  if (focused() !== id && document.activeElement !== document.body) return;
  const list = rows();
  const at = list.findIndex((row) => row.dataset['session'] === id);
  if (at < 0) return;
  const next = list[at + 1] ?? list[at - 1];
  void tick().then(() => link(next)?.focus());
}

/** The session before or after this one on the screen. */
export function beside(id: DocumentId | null, step: 1 | -1): DocumentId | null {
  const list = rows();
  const at = list.findIndex((row) => row.dataset['session'] === id);
  const to = at < 0 ? (step === 1 ? 0 : list.length - 1) : at + step;
  return list[to]?.dataset['session'] ?? null;
}

export function focusSession(id: DocumentId): void {
  link(rows().find((row) => row.dataset['session'] === id))?.focus();
}

export function focusSearch(): void {
  const boxes = [...document.querySelectorAll<HTMLInputElement>('input[type="search"]')];
  boxes.find((box) => box.offsetParent !== null)?.focus();
}
