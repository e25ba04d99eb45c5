// The address bar as a typed route and back. What is filtered, sorted and open lives there, so that it can be linked and
// survives a reload.

import type { DocumentId } from '../engine/types.gen';

export const statusFilters = ['all', 'needs', 'active', 'streaming', 'paused', 'failed', 'queued'] as const;
export const sorts = ['order', 'name', 'status', 'agent', 'cost', 'duration', 'updated'] as const;

export type StatusFilter = (typeof statusFilters)[number];
export type Sort = (typeof sorts)[number];

export interface Filters {
  /** Null: as remembered on this device. */
  view: 'grid' | 'list' | null;
  status: StatusFilter;
  agent: string | null;
  sort: Sort;
  descending: boolean;
  search: string;
}

export type Route =
  | { page: 'sessions' | 'archive'; filters: Filters }
  | { page: 'session'; session: DocumentId; filters: Filters }
  | { page: 'sign-in'; code: string | null };

export const noFilters: Filters = { view: null, status: 'all', agent: null, sort: 'updated', descending: true, search: '' };

/** Reads what stands after `#`; what it doesn't know is the list of sessions. */
export function parse(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#/, '').split('?', 2);
  const parameters = new URLSearchParams(query);
  if (path === '/sign-in') return { page: 'sign-in', code: parameters.get('code') };
  const filters = readFilters(parameters);
  const session = /^\/s\/([0-9A-Za-z]{1,64})$/.exec(path)?.[1];
  if (session) return { page: 'session', session, filters };
  return { page: path === '/archive' ? 'archive' : 'sessions', filters };
}

/** The inverse of `parse`, without what is as usual. */
export function format(route: Route): string {
  if (route.page === 'sign-in') return '#/sign-in';
  const path = route.page === 'session' ? `/s/${route.session}` : route.page === 'archive' ? '/archive' : '/';
  const query = writeFilters(route.filters).toString();
  return `#${path}${query ? `?${query}` : ''}`;
}

export function isFiltered(filters: Filters): boolean {
  return filters.status !== 'all' || filters.agent !== null || filters.search !== '';
}

function readFilters(parameters: URLSearchParams): Filters {
  const one = <T extends string>(name: string, of: readonly T[], usual: T): T =>
    of.find((value) => value === parameters.get(name)) ?? usual;
  const view = parameters.get('view');
  return {
    view: view === 'grid' || view === 'list' ? view : null,
    status: one('status', statusFilters, noFilters.status),
    agent: parameters.get('agent'),
    sort: one('sort', sorts, noFilters.sort),
    descending: one('dir', ['asc', 'desc'], 'desc') === 'desc',
    search: parameters.get('q') ?? '',
  };
}

function writeFilters(filters: Filters): URLSearchParams {
  const parameters = new URLSearchParams();
  if (filters.view) parameters.set('view', filters.view);
  if (filters.status !== noFilters.status) parameters.set('status', filters.status);
  if (filters.agent !== null) parameters.set('agent', filters.agent);
  if (filters.sort !== noFilters.sort) parameters.set('sort', filters.sort);
  if (!filters.descending) parameters.set('dir', 'asc');
  if (filters.search) parameters.set('q', filters.search);
  return parameters;
}
