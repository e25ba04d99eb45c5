import { expect, test } from 'vitest';
import { words } from './en';

test('no label is empty', () => {
  for (const word of Object.values(words)) expect(String(word)).not.toBe('');
});
