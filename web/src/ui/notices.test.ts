import { expect, test } from 'vitest';
import { add, type Toast } from './notices';

const toast = (id: number, text: string, action: Toast['action'] = null): Toast => ({ id, text, action });
const undo = { label: 'Undo', run: () => {} };

test('the same news twice is one notice', () => {
  const { list, shown } = add([toast(1, 'Copied'), toast(2, 'Offline')], toast(3, 'Copied'));
  expect(list.map(({ id }) => id)).toEqual([1, 2]);
  expect(shown.id).toBe(1);
});

test('two archived sessions of one name each keep their way back', () => {
  expect(add([toast(1, 'Archived Notes', undo)], toast(2, 'Archived Notes', undo)).list).toHaveLength(2);
});

test('the last three stand', () => {
  const { list } = add([toast(1, 'a'), toast(2, 'b'), toast(3, 'c')], toast(4, 'd'));
  expect(list.map(({ id }) => id)).toEqual([2, 3, 4]);
});
