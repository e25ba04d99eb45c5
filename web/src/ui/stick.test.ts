import { expect, test } from 'vitest';
import { Stick } from './stick';

const box = () => ({ scrollTop: 0, scrollHeight: 1000, clientHeight: 400 });

test('it follows what grows, and takes its own scroll for its own', () => {
  const b = box();
  const stick = new Stick(b, () => {});
  stick.follow();
  expect(b.scrollTop).toBe(600);
  stick.scrolled();
  b.scrollHeight = 1200;
  stick.follow();
  stick.scrolled();
  expect(b.scrollTop).toBe(800);
  expect(stick.held).toBe(true);
});

test('turning up lets go: what grows then moves nothing', () => {
  const b = box();
  const seen: boolean[] = [];
  const stick = new Stick(b, (held) => seen.push(held));
  stick.follow();
  stick.scrolled();
  stick.release();
  b.scrollTop = 300;
  stick.scrolled();
  b.scrollHeight = 1500;
  stick.follow();
  expect(b.scrollTop).toBe(300);
  expect(seen).toEqual([false]);
});

test('near the end it takes hold again', () => {
  const b = box();
  const stick = new Stick(b, () => {});
  stick.follow();
  stick.scrolled();
  b.scrollTop = 200;
  stick.scrolled();
  expect(stick.held).toBe(false);
  b.scrollTop = 570;
  stick.scrolled();
  expect(stick.held).toBe(true);
});

test('a shorter text does not let go', () => {
  const b = box();
  const stick = new Stick(b, () => {});
  stick.follow();
  stick.scrolled();
  b.scrollHeight = 700;
  b.scrollTop = 300; // the browser clamps
  stick.scrolled();
  expect(stick.held).toBe(true);
});

test('a box that has nothing to scroll cannot be let go', () => {
  const stick = new Stick({ scrollTop: 0, scrollHeight: 300, clientHeight: 400 }, () => {});
  stick.release();
  expect(stick.held).toBe(true);
});
