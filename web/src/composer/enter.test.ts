import { expect, test } from 'vitest';
import { sends, type EnterPress } from './enter';

const enter = (more: Partial<EnterPress> = {}): EnterPress => ({ key: 'Enter', shift: false, alt: false, ctrl: false, composing: false, ...more });

test('Enter sends, Shift-Enter breaks', () => {
  expect(sends(enter(), false)).toBe(true);
  expect(sends(enter({ shift: true }), false)).toBe(false);
});

test('while an input method composes, Enter is its own', () => {
  expect(sends(enter({ composing: true }), false)).toBe(false);
});

test('on a touch keyboard Enter breaks, Ctrl-Enter sends', () => {
  expect(sends(enter(), true)).toBe(false);
  expect(sends(enter({ ctrl: true }), true)).toBe(true);
});

test('other keys never send', () => {
  expect(sends(enter({ key: 'a' }), false)).toBe(false);
});
