import { expect, test } from 'vitest';
import { args, laidOut, oneLine } from './input';

test('an object reads as names and values', () => {
  expect(args('{"database":"staging","expect_rows":214,"dry":null}')).toEqual([
    { name: 'database', value: 'staging' },
    { name: 'expect_rows', value: '214' },
    { name: 'dry', value: 'null' },
  ]);
});

test('what is no object, or not whole yet, shows as it is', () => {
  for (const input of ['[1]', '"text"', '{"a": 1', '']) expect(args(input)).toBeNull();
  expect(oneLine('{"file": "codes-wave-t')).toBe('{"file": "codes-wave-t');
  expect(laidOut('{"a": 1')).toBe('{"a": 1');
});

test('one line is one line', () => {
  expect(oneLine('{"command":"cargo test\\n  -p relay","rounds":400}')).toBe('cargo test -p relay 400');
});
