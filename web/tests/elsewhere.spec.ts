// The page on a static host of its own, built for a relay at another origin: it signs in there, and both tell each other
// what browsers want to hear (CORS, the page's policy). A page of any other origin gets nowhere.

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from '@playwright/test';
import { Skein } from './skein';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2',
  '.webmanifest': 'application/manifest+json',
};

/** A host that knows files and the headers that they are to have, and nothing else. */
async function host(files: () => string, policy: () => string): Promise<Server> {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url ?? '/', 'http://host').pathname);
    const file = join(files(), path === '/' ? 'index.html' : path);
    readFile(file).then(
      (content) => {
        response.setHeader('content-type', TYPES[extname(file)] ?? 'application/octet-stream');
        response.setHeader('content-security-policy', policy());
        response.end(content);
      },
      () => {
        response.statusCode = 404;
        response.end();
      },
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

const origin = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

test('a page on a static host works with the relay that it was built for, and no other page does', async ({ browser }) => {
  const files = await mkdtemp(join(tmpdir(), 'skein-elsewhere-'));
  let policy = '';
  const [allowed, other] = await Promise.all([host(() => files, () => policy), host(() => files, () => policy)]);
  const skein = await Skein.serve(500, `[relay]\nallowed_origins = ["${origin(allowed)}"]\n`);
  const relay = `http://127.0.0.1:${skein.port}`;
  const built = ['vite', 'build', '--outDir', files, '--logLevel', 'error', '--emptyOutDir'];
  await promisify(execFile)('npx', ['--no-install', ...built], { env: { ...process.env, SKEIN_RELAYS: relay } });
  const headers = await readFile(join(files, '_headers'), 'utf8');
  policy = /Content-Security-Policy: (.*)/.exec(headers)?.[1] ?? '';
  expect(policy).toContain(`connect-src 'self' ${relay} ${relay.replace('http', 'ws')}`);

  for (const [from, works] of [
    [allowed, true],
    [other, false],
  ] as const) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${origin(from)}/#/`);
    await page.getByRole('textbox', { name: 'Relay' }).fill(relay);
    await page.getByRole('textbox', { name: 'Access token or pairing code' }).fill(await skein.ownerToken());
    await page.getByRole('button', { name: 'Sign in' }).click();
    if (works) {
      await expect(page.getByRole('heading', { name: 'Sessions' })).toBeVisible();
      await expect(page.getByRole('button', { name: 'Sync: up to date' })).toBeVisible();
    } else {
      await expect(page.getByRole('alert')).toBeVisible();
    }
    await context.close();
  }
  await skein.stop();
  for (const server of [allowed, other]) {
    server.close();
    server.closeAllConnections();
  }
  await rm(files, { recursive: true, force: true });
});
