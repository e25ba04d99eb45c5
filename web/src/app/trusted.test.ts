import { beforeAll, expect, test, vi } from 'vitest';

let trusted: (address: string) => string;

beforeAll(async () => {
  vi.stubGlobal('location', new URL('https://skein.example/'));
  vi.stubEnv('DEV', false);
  ({ trusted } = await import('./trusted'));
});

test('our own worker and service worker may start', () => {
  expect(trusted('/sw.js')).toBe('/sw.js');
  expect(trusted('./assets/worker-a1B2.js')).toBe('./assets/worker-a1B2.js');
});

test('nothing else may', () => {
  for (const address of ['https://evil.example/sw.js', '//evil.example/assets/a.js', 'data:text/javascript,1', 'blob:https://skein.example/1', '/blobs/abc', '/assets/../blobs/abc']) {
    expect(() => trusted(address)).toThrow();
  }
});
