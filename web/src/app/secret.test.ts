import { expect, test } from 'vitest';
import { deviceName, kindOf, secretOf } from './secret';

test('a code and a token are told apart', () => {
  expect(kindOf('6eeU200IHNA6CDOD2xm76Q')).toBe('code');
  expect(kindOf('skein_0123456789abcdefghijklmnop')).toBe('token');
  expect(kindOf('skei')).toBeNull();
});

test('a whole sign-in link may be pasted', () => {
  expect(secretOf('http://127.0.0.1:7700/#/sign-in?code=7QK4-M2XD')).toBe('7QK4-M2XD');
  expect(secretOf('  7QK4-M2XD ')).toBe('7QK4-M2XD');
});

test('a device is called by browser and system', () => {
  expect(deviceName('Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0')).toBe('Firefox on Linux');
  expect(deviceName('something else')).toBe('Browser');
});
