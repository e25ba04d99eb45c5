import { expect, test, vi } from 'vitest';
import { Keys, type Press } from './keys';

vi.mock('./context.svelte', () => ({}));
vi.mock('./session', () => ({}));

const known = new Set(['n', '/', 'g s', 'Escape', 'Shift+E', 'e', '?']);
const press = (key: string, more: Partial<Press> = {}): Press => ({
  key,
  shift: false,
  modified: false,
  inField: false,
  composing: false,
  layer: false,
  ...more,
});

test('a single letter is a command outside fields only', () => {
  const keys = new Keys();
  expect(keys.press(press('n'), 0, known)).toBe('n');
  expect(keys.press(press('n', { inField: true }), 0, known)).toBeNull();
  expect(keys.press(press('n', { modified: true }), 0, known)).toBeNull();
  expect(keys.press(press('n', { layer: true }), 0, known)).toBeNull();
});

test('while an input method composes, keys are its own', () => {
  expect(new Keys().press(press('Escape', { composing: true, inField: true }), 0, known)).toBeNull();
});

test('Escape works inside a field', () => {
  expect(new Keys().press(press('Escape', { inField: true }), 0, known)).toBe('Escape');
});

test('two keys make a sequence only in quick succession', () => {
  const keys = new Keys();
  expect(keys.press(press('g'), 0, known)).toBeNull();
  expect(keys.press(press('s'), 900, known)).toBe('g s');
  expect(keys.press(press('g'), 2000, known)).toBeNull();
  expect(keys.press(press('s'), 3500, known)).toBeNull();
  expect(keys.press(press('g'), 4000, known)).toBeNull();
  expect(keys.press(press('n'), 4100, known)).toBe('n');
});

test('a capital is another key', () => {
  expect(new Keys().press(press('E', { shift: true }), 0, known)).toBe('Shift+E');
  expect(new Keys().press(press('?', { shift: true }), 0, known)).toBe('?');
});

test('no two commands have one key', async () => {
  const { commands } = await import('./commands');
  const keys = commands.map((command) => command.keys);
  expect(new Set(keys).size).toBe(keys.length);
  expect(new Set(commands.map((command) => command.id)).size).toBe(commands.length);
});
