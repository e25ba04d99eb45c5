import { expect, test } from 'vitest';
import { strand } from './strand';

test('each letter takes one step, the newest stands at the right', () => {
  const { width, ticks, dots, lines } = strand('kbbk');
  expect(width).toBe(36);
  expect(ticks).toEqual([4, 26.5]);
  expect(dots).toEqual([11.5, 19]);
  expect(lines).toEqual([[0, 36]]);
});

test('a failure breaks the thread, which goes on after it', () => {
  const { lines, breaks } = strand('kbbx');
  expect(breaks).toEqual([26.5]);
  expect(lines).toEqual([
    [0, 23.5],
    [29.5, 36],
  ]);
});

test('a letter of a later version is a plain stretch', () => {
  expect(strand('k?t')).toMatchObject({ ticks: [4], dots: [], breaks: [], width: 28.5 });
});
