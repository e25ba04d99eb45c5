// Which sessions a list shows, and in what order. Pure: rows in, ids out.

import type { Filters, Sort, StatusFilter } from '../commands/address';
import type { DocumentId, Summary } from '../engine/types.gen';
import { needsYou, stateOf } from '../rows/status';

const collator = new Intl.Collator('en', { sensitivity: 'base', numeric: true });

/** Archived sessions or the others. */
export function shelf(rows: readonly Summary[], archived: boolean): Summary[] {
  return rows.filter((row) => (row.status === 'ARCHIVED') === archived);
}

export function hasStatus(row: Summary, wanted: StatusFilter): boolean {
  if (wanted === 'all') return true;
  if (wanted === 'needs') return needsYou(row);
  if (wanted === 'queued') return row.queued.count > 0;
  return (row.status === 'ARCHIVED' ? row.beneath : row.status)?.toLowerCase() === wanted;
}

/** How many there are of each status, before any filter. */
export function counts(rows: readonly Summary[]): Record<StatusFilter, number> {
  const of = (wanted: StatusFilter) => rows.filter((row) => hasStatus(row, wanted)).length;
  return {
    all: rows.length,
    needs: of('needs'),
    active: of('active'),
    streaming: of('streaming'),
    paused: of('paused'),
    failed: of('failed'),
    queued: of('queued'),
  };
}

/** Every word of the search somewhere in the name, whatever its case and accents. */
export function named(row: Summary, search: string): boolean {
  const name = plain(row.name);
  return plain(search)
    .split(/\s+/)
    .every((word) => name.includes(word));
}

export function view(rows: readonly Summary[], filters: Filters, agentName: (id: string | null) => string): DocumentId[] {
  const kept = rows.filter(
    (row) =>
      hasStatus(row, filters.status) &&
      (filters.agent === null || row.agent === filters.agent) &&
      (filters.search === '' || named(row, filters.search)),
  );
  const sign = filters.descending ? -1 : 1;
  const order = compare(filters.sort, agentName);
  return kept.sort((a, b) => sign * order(a, b) || (a.id < b.id ? -1 : 1)).map((row) => row.id);
}

const byStatus = ['needs', 'failed', 'streaming', 'queued', 'paused', 'active', 'archived'];

function compare(sort: Sort, agentName: (id: string | null) => string): (a: Summary, b: Summary) => number {
  switch (sort) {
    case 'order':
      // A session without a place sorts last, whichever way the list runs upwards.
      return (a, b) => bytes(a.position ?? '~', b.position ?? '~');
    case 'name':
      return (a, b) => collator.compare(a.name, b.name);
    case 'status':
      return (a, b) => byStatus.indexOf(stateOf(a).kind) - byStatus.indexOf(stateOf(b).kind);
    case 'agent':
      return (a, b) => collator.compare(agentName(a.agent), agentName(b.agent));
    case 'cost':
      return (a, b) => (a.costMicros ?? -1) - (b.costMicros ?? -1);
    case 'duration':
      return (a, b) => a.durationMs - b.durationMs;
    case 'updated':
      return (a, b) => (a.updatedAt ?? a.createdAt ?? 0) - (b.updatedAt ?? b.createdAt ?? 0);
  }
}

const bytes = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

const plain = (text: string) => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase().trim();
