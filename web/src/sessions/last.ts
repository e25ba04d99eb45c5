// The two lines under a session's name: what calls says so first, else the last words.

import type { Summary } from '../engine/types.gen';
import { needsYou } from '../rows/status';
import { waiting, words } from '../words/en';

export function lastWords(row: Summary): string {
  const { reason } = row;
  if (needsYou(row) && reason?.kind === 'failed') return words.failedWith(reason.error.message);
  if (needsYou(row) && reason?.kind === 'limit') return reason.message;
  if (row.status === 'ACTIVE' && row.queued.count > 0 && row.queued.reason && row.queued.reason !== 'due') {
    return waiting[row.queued.reason];
  }
  return row.preview;
}
