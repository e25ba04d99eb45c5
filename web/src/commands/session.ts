// What a person does to a whole session: create, rename, archive, restore. Each shows at once, and has its way back.

import type { Command, DocumentId, NewSession } from '../engine/types.gen';
import { words } from '../words/en';
import { format, noFilters } from './address';
import { nameOf, type App } from './context.svelte';
import { focusNeighbour } from './focus';

/** One command on one session; false if it couldn't be done (then the reason is on the screen). */
export async function command(app: App, session: DocumentId, command: Command): Promise<boolean> {
  try {
    await app.engine.call('session.do', { session, command });
    return true;
  } catch (reason) {
    app.fail(reason);
    return false;
  }
}

export async function create(app: App, wanted: NewSession): Promise<void> {
  try {
    const { id } = await app.engine.call('session.create', { ...wanted, position: positionAfter(app) });
    app.creating = false;
    app.address.go(format({ page: 'session', session: id, filters: noFilters }));
  } catch (reason) {
    app.fail(reason);
  }
}

export async function rename(app: App, id: DocumentId, name: string, undoes = false): Promise<void> {
  const before = app.rows.sessions.get(id)?.name;
  const wanted = name.trim();
  if (wanted === '' || wanted === before) return;
  const settle = app.rows.sessions.expected.show(id, { name: wanted, nameSource: 'user' });
  const done = await command(app, id, { type: 'rename', name: wanted });
  settle();
  if (!done || undoes || before === undefined) return;
  app.toasts.show(words.renamedTo(wanted), { label: words.undo, run: () => void rename(app, id, before, true) });
}

export async function archive(app: App, id: DocumentId, undoes = false): Promise<void> {
  const row = app.rows.sessions.get(id);
  if (!row || row.status === 'ARCHIVED') return;
  focusNeighbour(id);
  const settle = app.rows.sessions.expected.show(id, { status: 'ARCHIVED', beneath: row.status, archivedAt: Date.now() });
  const done = await command(app, id, { type: 'archive' });
  settle();
  if (!done || undoes) return;
  app.toasts.show(words.archivedOne(row.name), { label: words.undo, run: () => void restore(app, id, true) });
}

export async function restore(app: App, id: DocumentId, undoes = false): Promise<void> {
  const row = app.rows.sessions.get(id);
  if (!row || row.status !== 'ARCHIVED') return;
  focusNeighbour(id);
  const settle = app.rows.sessions.expected.show(id, { status: row.beneath ?? 'ACTIVE', beneath: null, archivedAt: null });
  const done = await command(app, id, { type: 'restore', position: positionAfter(app) });
  settle();
  if (!done || undoes) return;
  app.toasts.show(words.restoredOne(nameOf(app, id)), { label: words.undo, run: () => void archive(app, id, true) });
}

/** Stops what streams; without a link the stop waits, and says so. */
export async function pause(app: App, id: DocumentId): Promise<void> {
  if ((await command(app, id, { type: 'pause' })) && app.rows.sync.state === 'offline') app.toasts.show(words.pauseWaits);
}

/** Takes a queued message back; undo writes it again, at the end of the queue. */
export async function removeQueued(app: App, id: DocumentId, message: string, text: string): Promise<void> {
  if (!(await command(app, id, { type: 'remove', message }))) return;
  app.toasts.show(words.removedMessage, {
    label: words.undo,
    run: () => void command(app, id, { type: 'send', text, queue: true }),
  });
}

/** The place after all sessions that this device knows, archived ones too (rule 17): ten digits, no fraction. */
function positionAfter(app: App): string {
  let highest = 0;
  for (const { position } of app.rows.sessions.all()) {
    const whole = Number(position?.slice(0, 10) ?? 0);
    if (Number.isSafeInteger(whole)) highest = Math.max(highest, whole);
  }
  return String(highest + 1).padStart(10, '0');
}
