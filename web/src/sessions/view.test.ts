import { expect, test } from 'vitest';
import { noFilters } from '../commands/address';
import type { Summary } from '../engine/types.gen';
import { counts, shelf, view } from './view';

const row = (id: string, more: Partial<Summary>): Summary => ({
  id,
  name: id,
  nameSource: 'user',
  status: 'ACTIVE',
  beneath: null,
  reason: null,
  queued: { count: 0, held: false, reason: null },
  agent: null,
  costMicros: 0,
  estimated: false,
  durationMs: 0,
  createdAt: 1,
  updatedAt: 1,
  archivedAt: null,
  deletedAt: null,
  position: null,
  pinned: false,
  task: null,
  duplicateOf: null,
  progress: 0,
  unread: false,
  preview: '',
  strand: '',
  work: null,
  ...more,
});

const rows = [
  row('a', { name: 'Café notes', updatedAt: 3, costMicros: null, position: '0000000002' }),
  row('b', { name: 'Build 10', status: 'PAUSED', reason: { kind: 'approval', calls: ['c'] }, updatedAt: 2, position: '0000000001' }),
  row('c', { name: 'Build 9', status: 'FAILED', updatedAt: 1, costMicros: 5 }),
  row('d', { name: 'Old', status: 'ARCHIVED', beneath: 'ACTIVE' }),
];
const live = shelf(rows, false);
const names = () => '';

test('the archive is apart', () => {
  expect(live.map((r) => r.id)).toEqual(['a', 'b', 'c']);
  expect(shelf(rows, true).map((r) => r.id)).toEqual(['d']);
});

test('newest first, unless asked otherwise', () => {
  expect(view(live, noFilters, names)).toEqual(['a', 'b', 'c']);
  expect(view(live, { ...noFilters, descending: false }, names)).toEqual(['c', 'b', 'a']);
});

test('search finds words in any order, whatever their accents and case', () => {
  expect(view(live, { ...noFilters, search: 'NOTES cafe' }, names)).toEqual(['a']);
  expect(view(live, { ...noFilters, search: 'build' }, names)).toEqual(['b', 'c']);
  expect(view(live, { ...noFilters, search: 'nothing' }, names)).toEqual([]);
});

test('numbers in names sort as numbers; unknown costs and missing places come after all', () => {
  expect(view(live, { ...noFilters, sort: 'name', descending: false }, names)).toEqual(['c', 'b', 'a']);
  expect(view(live, { ...noFilters, sort: 'cost' }, names)).toEqual(['c', 'b', 'a']);
  expect(view(live, { ...noFilters, sort: 'order', descending: false }, names)).toEqual(['b', 'a', 'c']);
});

test('what needs you counts beside its own status', () => {
  expect(counts(live)).toEqual({ all: 3, needs: 2, active: 1, streaming: 0, paused: 1, failed: 1, queued: 0 });
});
