// Unit tests of what needs no DOM: the pure half that stands beside each component.

import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['src/**/*.test.ts', '*.test.ts'], environment: 'node' },
});
