import { expect, test } from 'vitest';
import { format, isFiltered, noFilters, parse, type Route } from './address';

test('each address comes back as it was', () => {
  const routes: Route[] = [
    { page: 'sessions', filters: noFilters },
    { page: 'archive', filters: { ...noFilters, search: 'old & new', view: 'list' } },
    { page: 'session', session: '3nVjwQ', filters: { ...noFilters, status: 'needs', agent: 'a1' } },
    { page: 'sessions', filters: { ...noFilters, sort: 'cost', descending: false } },
  ];
  for (const route of routes) expect(parse(format(route))).toEqual(route);
});

test('what is as usual is left out', () => {
  expect(format({ page: 'sessions', filters: noFilters })).toBe('#/');
  expect(isFiltered(noFilters)).toBe(false);
});

test('what nobody wrote is the list of sessions, with the usual filters', () => {
  for (const hash of ['', '#', '#/nowhere', '#/s/', '#/s/a/b', '#/?status=odd&sort=odd&dir=odd&view=odd']) {
    expect(parse(hash)).toEqual({ page: 'sessions', filters: noFilters });
  }
});

test('a sign-in address carries its code, and is never written back with it', () => {
  expect(parse('#/sign-in?code=7QK4-M2XD')).toEqual({ page: 'sign-in', code: '7QK4-M2XD' });
  expect(format({ page: 'sign-in', code: '7QK4-M2XD' })).toBe('#/sign-in');
});
