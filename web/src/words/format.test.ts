import { expect, test } from 'vitest';
import { ago, clock, count, elapsed, money, moneyText, size } from './format';
import { counted } from './plural';

test('money goes to a hundredth of a cent', () => {
  expect(money(689_700)).toEqual({ cents: '$0.68', mil: '97' });
  expect(money(3_000_000)).toEqual({ cents: '$3.00', mil: '00' });
  expect(money(1_234_567_890)).toEqual({ cents: '$1,234.56', mil: '79' });
  expect(money(0)).toEqual({ cents: '$0.00', mil: '00' });
});

test('an unknown cost is said in words, an estimate has its sign before it', () => {
  expect(moneyText(null, false, 'unknown')).toBe('unknown');
  expect(moneyText(689_700, true, 'unknown')).toBe('≈ $0.6897');
  expect(moneyText(312, false, 'unknown')).toBe('$0.0003');
});

test('times grow from now to days', () => {
  const now = Date.UTC(2026, 10, 25, 12);
  expect(ago(now - 59_000, now)).toBe('now');
  expect(ago(now + 5_000, now)).toBe('now');
  expect(ago(now - 21 * 60_000, now)).toBe('21 min');
  expect(ago(now - 5 * 3_600_000, now)).toBe('5 h');
  expect(ago(now - 50 * 3_600_000, now)).toBe('2 d');
  expect(ago(now - 30 * 86_400_000, now)).toBe('26 Oct');
  expect(clock(now - 86_400_000, now)).toMatch(/^24 Nov, \d\d:\d\d$/);
});

test('durations and counts', () => {
  expect(elapsed(42_900)).toBe('0:42');
  expect(elapsed(1_100_000)).toBe('18:20');
  expect(elapsed(3_723_000)).toBe('1:02:03');
  expect(count(282022)).toBe('282,022');
  expect(counted(1, 'change', 'changes')).toBe('1 change');
  expect(counted(0, 'change', 'changes')).toBe('0 changes');
});

test('a size keeps three figures at most, and no unit is left at a thousand', () => {
  expect([0, 1, 640_000, 999_600, 2_100_000, 999_960_000, 1_400_000_000].map(size)).toEqual(['0 KB', '1 KB', '640 KB', '1.0 MB', '2.1 MB', '1.0 GB', '1.4 GB']);
});
