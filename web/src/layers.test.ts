// Which folder may import which: what is above never reaches down into what is beside it.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

const below: Record<string, readonly string[]> = {
  words: ['engine'],
  engine: [],
  markdown: ['words'],
  ui: ['words'],
  rows: ['engine', 'markdown'],
  commands: ['engine', 'rows', 'ui', 'words'],
  composer: ['engine', 'rows', 'ui', 'words', 'markdown', 'commands'],
  sessions: ['engine', 'rows', 'ui', 'words', 'markdown', 'commands', 'composer'],
  session: ['engine', 'rows', 'ui', 'words', 'markdown', 'commands', 'composer'],
  app: ['engine', 'rows', 'ui', 'words', 'markdown', 'commands', 'composer', 'sessions', 'session'],
};

const root = new URL('.', import.meta.url).pathname;

test.each(Object.keys(below))('%s imports only what lies below it', (folder) => {
  const files = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
  for (const file of files.filter((name) => /(?<!\.test)\.(ts|svelte)$/.test(name))) {
    const text = readFileSync(join(root, folder, file), 'utf8');
    for (const [, path = ''] of text.matchAll(/(?:from|import) '(\.[^']+)'/g)) {
      const target = normalize(join(folder, dirname(file), path)).split('/')[0] ?? '';
      if (target !== folder) expect(below[folder], `${folder}/${file} imports ${path}`).toContain(target);
    }
  }
});
