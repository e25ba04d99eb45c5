// The menu of one session, the same wherever the session stands.

import { format, noFilters } from '../commands/address';
import { keysOf } from '../commands/commands';
import type { App } from '../commands/context.svelte';
import { archive, restore } from '../commands/session';
import type { Summary } from '../engine/types.gen';
import type { MenuEntry } from '../ui/Menu.svelte';
import { words } from '../words/en';

export function menu(app: App, row: Summary): MenuEntry[] {
  const open = {
    label: words.open,
    keys: '↵',
    run: () => app.address.go(format({ page: 'session', session: row.id, filters: noFilters })),
  };
  if (app.rows.workspace.readsOnly) return [open];
  return [
    open,
    { label: words.rename, keys: keysOf('session.rename'), run: () => (app.renaming = row.id) },
    row.status === 'ARCHIVED'
      ? { label: words.restore, keys: keysOf('session.restore'), apart: true, run: () => void restore(app, row.id) }
      : { label: words.archive, keys: keysOf('session.archive'), apart: true, run: () => void archive(app, row.id) },
  ];
}
