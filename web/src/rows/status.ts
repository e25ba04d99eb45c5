// A session's state as a mark and words: what lists, header and filters all read.

import type { Status, Summary } from '../engine/types.gen';

export type Kind = 'active' | 'streaming' | 'paused' | 'failed' | 'queued' | 'needs' | 'archived';

/** The part of a summary that its state is read from. */
export type Stateful = Pick<Summary, 'status' | 'beneath' | 'reason' | 'queued'>;

export type Words = 'active' | 'streaming' | 'paused' | 'failed' | 'queued' | 'needsApproval' | 'spendLimit' | 'archived';

/** What shows: the mark, and the key of its words. */
export function stateOf(row: Stateful): { kind: Kind; words: Words } {
  if (row.status === 'ARCHIVED') {
    const beneath = needsYou(row) ? stateOf({ ...row, status: row.beneath ?? 'ACTIVE' }) : null;
    return beneath ?? { kind: 'archived', words: 'archived' };
  }
  if (row.status === 'STREAMING') return { kind: 'streaming', words: 'streaming' };
  if (row.status === 'FAILED') return { kind: 'failed', words: 'failed' };
  if (row.status === 'PAUSED') {
    if (asks(row)) return { kind: 'needs', words: 'needsApproval' };
    if (row.reason?.kind === 'limit') return { kind: 'needs', words: 'spendLimit' };
    return { kind: 'paused', words: 'paused' };
  }
  return row.queued.count > 0 ? { kind: 'queued', words: 'queued' } : { kind: 'active', words: 'active' };
}

/** Only three things may call: an approval, a failure, a spend limit. */
export function needsYou(row: Stateful): boolean {
  const status: Status = row.status === 'ARCHIVED' ? (row.beneath ?? 'ACTIVE') : row.status;
  return status === 'FAILED' || (status === 'PAUSED' && (asks(row) || row.reason?.kind === 'limit'));
}

/** Calls wait for a person. Once all are decided the reason stays until a worker goes on, but names none. */
export function asks(row: Pick<Stateful, 'reason'>): boolean {
  return row.reason?.kind === 'approval' && row.reason.calls.length > 0;
}
