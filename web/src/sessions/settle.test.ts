import { expect, test } from 'vitest';
import { settle } from './settle';

test('under the hand rows keep their places, new ones come at the end, gone ones go', () => {
  expect(settle(['a', 'b', 'c'], ['d', 'c', 'a'], true)).toEqual(['a', 'c', 'd']);
});

test('when the hand leaves, the order is as wanted', () => {
  expect(settle(['a', 'b'], ['b', 'a'], false)).toEqual(['b', 'a']);
});
