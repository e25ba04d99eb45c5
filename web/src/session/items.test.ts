import { expect, test } from 'vitest';
import type { ShownTurn } from '../engine/types.gen';
import { items } from './items';

const turn = (id: string, more: Partial<ShownTurn> = {}): ShownTurn => ({
  id,
  run: `${id}/1`,
  state: 'completed',
  stopReason: null,
  agent: 'a',
  model: null,
  usage: { input: 0, output: 0, reasoning: 0, cacheRead: 0, cacheWrite: 0, cacheWriteLong: 0 },
  costMicros: 0,
  estimated: false,
  error: null,
  startedAt: 0,
  endedAt: 0,
  inherited: false,
  ...more,
});

const lines = new Map([
  ['u1', { role: 'user', turn: 't1' }],
  ['m1', { role: 'assistant', turn: 't1' }],
  ['u2', { role: 'user', turn: 't2' }],
  ['m2', { role: 'assistant', turn: 't2' }],
] as const);
const order = [...lines.keys()];
const kinds = (list: { kind: string }[]) => list.map((item) => item.kind);

test('a completed turn ends quietly, the last one with its tools', () => {
  const list = items(order, (id) => lines.get(id as 'u1'), [turn('t1'), turn('t2')], false);
  expect(kinds(list)).toEqual(['message', 'message', 'message', 'message', 'end']);
  expect(list.at(-1)).toMatchObject({ last: true, answers: ['m2'] });
});

test('a failed turn in the middle says so where it stands', () => {
  const list = items(order, (id) => lines.get(id as 'u1'), [turn('t1', { state: 'failed' }), turn('t2')], true);
  expect(kinds(list)).toEqual(['message', 'message', 'end', 'message', 'message', 'end', 'queue']);
});

test('a change of agent stands between the turns', () => {
  const list = items(order, (id) => lines.get(id as 'u1'), [turn('t1'), turn('t2', { agent: 'b' })], false);
  expect(kinds(list)).toEqual(['message', 'message', 'agent', 'message', 'message', 'end']);
});

test('a turn without a word yet ends behind its question', () => {
  const list = items(['u1'], (id) => lines.get(id as 'u1'), [turn('t1', { state: 'streaming' })], false);
  expect(kinds(list)).toEqual(['message', 'end']);
});

test('keys are unique', () => {
  const list = items(order, (id) => lines.get(id as 'u1'), [turn('t1', { state: 'failed' }), turn('t2', { agent: 'b' })], true);
  expect(new Set(list.map((item) => item.key)).size).toBe(list.length);
});
