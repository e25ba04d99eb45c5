// Runs the module with the figures of the session model: in Chromium (`CHROMIUM`, as in the browser tests), else in this
// Node. Prints { place, figures } as JSON. The folder of the module is its only argument; `cargo xtask bench model` calls it.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium } from '@playwright/test';

const folder = process.argv[2];
const name = 'skein_client_wasm';
const types = { js: 'text/javascript', wasm: 'application/wasm', html: 'text/html' };
const page = `<!doctype html><script type="module">
import start, { measureModel } from './${name}.js';
await start({ module_or_path: await fetch('./${name}_bg.wasm') });
window.figures = measureModel(() => performance.now());
</script>`;

/** A server of the folder, on loopback; isolated, so that the clock is fine enough. */
async function serve() {
  const server = createServer(async (request, response) => {
    const path = request.url === '/' ? 'index.html' : request.url.slice(1);
    const known = path === 'index.html' ? page : await readFile(join(folder, path)).catch(() => null);
    response.writeHead(known === null ? 404 : 200, {
      'content-type': types[path.split('.').pop()] ?? 'text/plain',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
    });
    response.end(known);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return server;
}

async function inChromium() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  const server = await serve();
  try {
    const tab = await browser.newPage();
    const failed = new Promise((_, fail) => tab.on('pageerror', fail));
    // It may fail before anybody waits for it.
    failed.catch(() => {});
    await tab.goto(`http://127.0.0.1:${server.address().port}/`);
    await Promise.race([tab.waitForFunction(() => 'figures' in window, null, { timeout: 600_000 }), failed]);
    return { place: `Chromium ${browser.version()}`, figures: await tab.evaluate(() => window.figures) };
  } finally {
    server.close();
    await browser.close();
  }
}

async function inNode() {
  const bytes = await readFile(join(folder, `${name}_bg.wasm`));
  const { default: start, measureModel } = await import(pathToFileURL(join(folder, `${name}.js`)).href);
  await start({ module_or_path: bytes });
  return { place: `Node ${process.version}`, figures: measureModel(() => performance.now()) };
}

const found = await inChromium().catch((error) => {
  console.error(`no Chromium (${String(error).split('\n')[0]}): measured in Node`);
  return inNode();
});
console.log(JSON.stringify(found));
