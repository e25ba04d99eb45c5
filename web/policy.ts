// What the page may do: the Content Security Policy, which the relay sends with the pages that it serves itself. A page
// on a static host says so in itself, and names the relays elsewhere that it may talk to: `SKEIN_RELAYS` at its build,
// their addresses with spaces between.

import { readFileSync } from 'node:fs';
import type { Plugin } from 'vite';

const BASE = readFileSync(new URL('policy.txt', import.meta.url), 'utf8').trim();

/** The origins of relays that are given as addresses with spaces between. */
export function relays(given: string): string[] {
  return given
    .split(/\s+/)
    .filter((address) => address !== '')
    .map((address) => {
      const url = URL.canParse(address) ? new URL(address) : undefined;
      if (url?.protocol !== 'https:' && url?.protocol !== 'http:') {
        throw new Error(`SKEIN_RELAYS: "${address}" must be an address like https://skein.example.org`);
      }
      return url.origin;
    });
}

/** The policy of a page that may talk to these relays, beside the one that serves it. */
export function policy(relays: string[]): string {
  if (relays.length === 0) return BASE;
  // "http" becomes "ws", "https" "wss".
  const sockets = relays.map((relay) => relay.replace(/^http/, 'ws'));
  return `${BASE}; connect-src 'self' ${[...relays, ...sockets].join(' ')}`;
}

/** For static hosts: the policy in the page, and in `_headers`, which some hosts read and others can be told. */
export function withPolicy(relays: string[]): Plugin {
  const whole = policy(relays);
  return {
    name: 'skein-policy',
    apply: 'build',
    transformIndexHtml() {
      if (relays.length === 0) return [];
      // In a page this directive means nothing; only a header can say it.
      const content = whole.replace("frame-ancestors 'none'; ", '');
      const attrs = { 'http-equiv': 'Content-Security-Policy', content };
      return [{ tag: 'meta', attrs, injectTo: 'head-prepend' as const }];
    },
    generateBundle() {
      if (relays.length === 0) return;
      const headers = [`Content-Security-Policy: ${whole}`, 'Referrer-Policy: no-referrer', 'X-Content-Type-Options: nosniff'];
      const source = `/*\n${headers.map((header) => `  ${header}\n`).join('')}`;
      this.emitFile({ type: 'asset', fileName: '_headers', source });
    },
  };
}
