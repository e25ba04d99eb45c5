// What a conversation shows, in order: messages, changes of agent between them, how each turn ended, and the queue. Pure.

import type { ShownMessage, ShownTurn } from '../engine/types.gen';

export type Item =
  | { kind: 'message'; key: string; id: string; turn: ShownTurn | undefined }
  | { kind: 'agent'; key: string; from: string | null; to: string | null }
  | { kind: 'end'; key: string; turn: ShownTurn; last: boolean; answers: readonly string[] }
  | { kind: 'queue'; key: string };

type Line = Pick<ShownMessage, 'role' | 'turn'>;

export function items(
  order: readonly string[],
  line: (id: string) => Line | undefined,
  turns: readonly ShownTurn[],
  queues: boolean,
): Item[] {
  const byId = new Map(turns.map((turn) => [turn.id, turn]));
  const list: Item[] = [];
  let before: ShownTurn | undefined;
  let answers: string[] = [];
  order.forEach((id, at) => {
    const message = line(id);
    const turn = byId.get(message?.turn ?? '');
    if (turn && before && turn !== before && turn.agent !== before.agent) {
      list.push({ kind: 'agent', key: `agent ${turn.id}`, from: before.agent, to: turn.agent });
    }
    if (turn && turn !== before) answers = [];
    if (turn) before = turn;
    if (message?.role === 'assistant') answers.push(id);
    list.push({ kind: 'message', key: id, id, turn });
    const next = order[at + 1];
    const ends = turn && line(next ?? '')?.turn !== turn.id;
    const last = turn === turns.at(-1);
    if (ends && (turn.state !== 'completed' || last)) list.push({ kind: 'end', key: `end ${turn.id}`, turn, last, answers });
  });
  if (queues) list.push({ kind: 'queue', key: 'queue' });
  return list;
}
