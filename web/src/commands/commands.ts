// The table of commands: keyboard, menus and the shortcuts dialog read it. A body longer than a line is a function in the
// file of its subject.

import type { DocumentId } from '../engine/types.gen';
import { layerOpen } from '../ui/layers';
import { words } from '../words/en';
import { format, noFilters } from './address';
import type { App } from './context.svelte';
import { beside, focused, focusSearch, focusSession } from './focus';
import { archive, pause, restore } from './session';

export interface Command {
  readonly id: string;
  /** As typed: "n", "g s", "Escape". */
  readonly keys: string;
  readonly label: string;
  readonly when: (app: App) => boolean;
  readonly run: (app: App) => void;
}

/** The session that a command is about: the one that has the focus in a list, else the open one. */
export function chosen(app: App): DocumentId | null {
  return focused() ?? app.session;
}

const status = (app: App) => app.rows.sessions.get(chosen(app) ?? '')?.status;
const writes = (app: App) => !app.rows.workspace.readsOnly;
const always = () => true;

export const commands = [
  { id: 'session.new', keys: 'n', label: words.newSession, when: writes, run: (app) => (app.creating = true) },
  { id: 'search', keys: '/', label: words.searchSessions, when: always, run: focusSearch },
  { id: 'session.next', keys: 'j', label: words.nextSession, when: always, run: (app) => move(app, 1) },
  { id: 'session.previous', keys: 'k', label: words.previousSession, when: always, run: (app) => move(app, -1) },
  {
    id: 'session.archive',
    keys: 'e',
    label: words.archive,
    when: (app) => writes(app) && status(app) !== undefined && status(app) !== 'ARCHIVED',
    run: (app) => void archive(app, chosen(app) ?? ''),
  },
  {
    id: 'session.restore',
    keys: 'Shift+E',
    label: words.restore,
    when: (app) => writes(app) && status(app) === 'ARCHIVED',
    run: (app) => void restore(app, chosen(app) ?? ''),
  },
  {
    id: 'session.rename',
    keys: 'r',
    label: words.rename,
    when: (app) => writes(app) && status(app) !== undefined,
    run: (app) => (app.renaming = chosen(app)),
  },
  { id: 'go.sessions', keys: 'g s', label: words.goSessions, when: always, run: (app) => app.address.go('#/') },
  { id: 'go.archive', keys: 'g a', label: words.goArchive, when: always, run: (app) => app.address.go('#/archive') },
  { id: 'help', keys: '?', label: words.shortcuts, when: always, run: (app) => (app.helping = true) },
  { id: 'escape', keys: 'Escape', label: words.closeOrPause, when: streams, run: stop },
] as const satisfies readonly Command[];

export type CommandId = (typeof commands)[number]['id'];

/** The key of a command, for menus. */
export function keysOf(id: CommandId): string {
  return commands.find((command) => command.id === id)?.keys ?? '';
}

function streams(app: App): boolean {
  return writes(app) && !layerOpen() && !app.drawer && app.rows.open?.head?.status === 'STREAMING';
}

function stop(app: App): void {
  if (app.session) void pause(app, app.session);
}

function move(app: App, step: 1 | -1): void {
  const to = beside(app.session ?? focused(), step);
  if (to === null) return;
  if (app.session) app.address.go(format({ page: 'session', session: to, filters: app.filters ?? noFilters }));
  else focusSession(to);
}
