// The binary under test: `skein serve` in a folder of its own, with the demo model at a known speed.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export class Skein {
  readonly #folder: string;
  readonly #child: ChildProcess;
  /** Where it listens. */
  readonly port: number;
  /** The code in the address that it printed: it signs one browser in. */
  readonly code: string;

  private constructor(folder: string, child: ChildProcess, address: URL) {
    this.#folder = folder;
    this.#child = child;
    this.port = Number(address.port);
    this.code = new URLSearchParams(address.hash.split('?')[1]).get('code') ?? '';
  }

  /** `speed`: tokens a second of the demo model; `settings`: its `skein.toml`. */
  static async serve(speed: number, settings = ''): Promise<Skein> {
    const binary = process.env['SKEIN_BIN'];
    if (!binary) throw new Error('SKEIN_BIN is not set: it names the skein binary to test');
    const folder = await mkdtemp(join(tmpdir(), 'skein-web-'));
    await writeFile(join(folder, 'skein.toml'), settings);
    const child = spawn(binary, ['serve', '--listen', '127.0.0.1:0', '--data', join(folder, 'data')], {
      cwd: folder,
      env: { PATH: process.env['PATH'], HOME: folder, SKEIN_DEMO_SPEED: String(speed) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
    for await (const line of createInterface(child.stdout)) {
      if (line.startsWith('http://')) return new Skein(folder, child, new URL(line));
    }
    throw new Error(`skein serve ended before it served; it said:\n${log}`);
  }

  /** What signs in any number of browsers. */
  async ownerToken(): Promise<string> {
    return (await readFile(join(this.#folder, 'data', 'owner-token'), 'utf8')).trim();
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await ended;
    await rm(this.#folder, { recursive: true, force: true });
  }
}
