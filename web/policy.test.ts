import { expect, test } from 'vitest';
import { policy, relays } from './policy';

test('a page that its relay serves talks to that one alone', () => {
  expect(policy([])).toContain("default-src 'self'");
  expect(policy([])).not.toContain('connect-src');
});

test('a page elsewhere names the relays it may talk to, by HTTP and by WebSocket, and is otherwise as strict', () => {
  const strict = policy([]);
  const named = policy(relays(' https://skein.example.org/  http://192.168.1.5:7700 '));
  expect(named).toBe(
    `${strict}; connect-src 'self' https://skein.example.org http://192.168.1.5:7700 wss://skein.example.org ws://192.168.1.5:7700`,
  );
});

test('what is no address ends the build', () => {
  for (const given of ['skein.example.org', '*', 'ftp://x', "https://a' 'unsafe-inline"]) {
    expect(() => relays(given)).toThrow('SKEIN_RELAYS');
  }
});
