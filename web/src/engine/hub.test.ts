import { describe, expect, test } from 'vitest';
import { type Core, Hub, type Tab } from './hub';
import { type Commands, type Fault, type FromWorker, type Patch, PROTOCOL } from './protocol';
import type { ShownMessage, Summary } from './types.gen';

const message = (id: string, text: string): ShownMessage => ({
  id,
  role: 'assistant',
  author: null,
  createdAt: 1,
  turn: 't',
  epoch: 1,
  unverified: false,
  parts: [{ index: 0, type: 'text', text }],
});

const conversation = (session: string, order: string[], messages: ShownMessage[]): Patch => ({
  type: 'conversation',
  session,
  head: {
    waiting: null,
    decided: [],
    loading: false,
    commands: [],
    turns: [],
    front: null,
    stops: [],
    status: 'ACTIVE',
    reason: null,
    resume: null,
    totals: {
      usage: { input: 0, output: 0, reasoning: 0, cacheRead: 0, cacheWrite: 0, cacheWriteLong: 0 },
      costMicros: 0,
      incomplete: false,
      estimated: false,
      durationMs: 0,
    },
  },
  order,
  queued: [],
  messages,
});

const grew = (session: string, id: string, offset: number, text: string): Patch => ({
  type: 'grew',
  session,
  message: id,
  part: 0,
  kind: 'text',
  offset,
  text,
});

const row = (id: string, name: string): Summary => ({ id, name }) as Summary;
const rows = (...list: Summary[]): Patch => ({ type: 'summaries', rows: list, removed: [], reset: false });

/** An engine whose calls are settled by the test. */
class FakeCore implements Core {
  watched: string[] = [];
  calls: { name: string; args: unknown; done(result: unknown): void; fail(fault: Fault): void }[] = [];

  opening(): Patch[] {
    return [{ type: 'summaries', rows: [row('a', 'A')], removed: [], reset: true }];
  }
  watch(session: string): Patch[] {
    this.watched.push(session);
    return [conversation(session, ['m'], [message('m', 'so far')])];
  }
  unwatch(session: string): void {
    this.watched = this.watched.filter((other) => other !== session);
  }
  call(name: string, args: unknown): Promise<unknown> {
    return new Promise((done, fail) => this.calls.push({ name, args, done, fail }));
  }
}

class FakePort {
  got: FromWorker[] = [];
  post(message: FromWorker): void {
    this.got.push(message);
  }
  /** What came since the last look. */
  take(): FromWorker[] {
    return this.got.splice(0);
  }
  patches(): Patch[] {
    return this.take().flatMap((message) => (message.type === 'patches' ? message.patches : []));
  }
}

let numbers = 0;
function call<N extends keyof Commands>(hub: Hub, tab: Tab, name: N, args: Commands[N]['args']): number {
  const call = ++numbers;
  hub.receive(tab, { type: 'call', call, name, args } as Parameters<Hub['receive']>[1]);
  return call;
}

function join(hub: Hub): { port: FakePort; tab: Tab } {
  const port = new FakePort();
  const tab = hub.join(port);
  hub.receive(tab, { type: 'hello', protocol: PROTOCOL, tab: 'x' });
  return { port, tab };
}

function started(): { hub: Hub; core: FakeCore } {
  const hub = new Hub();
  const core = new FakeCore();
  hub.alive('life');
  hub.start(core);
  return { hub, core };
}

/** As a tab whose screen is up to date. */
function drawn(hub: Hub, { port, tab }: { port: FakePort; tab: Tab }): void {
  while (port.take().some((message) => message.type === 'patches')) hub.receive(tab, { type: 'drawn' });
}

describe('before the engine is there', () => {
  test('a tab that comes first is greeted and answered once it can be', () => {
    const hub = new Hub();
    const { port, tab } = join(hub);
    const watch = call(hub, tab, 'session.watch', { session: 'a' });
    expect(port.take()).toEqual([]);
    hub.alive('life');
    expect(port.take()).toEqual([{ type: 'ready', protocol: PROTOCOL, life: 'life' }]);
    hub.start(new FakeCore());
    expect(port.take().map(({ type }) => type)).toEqual(['patches']);
    hub.receive(tab, { type: 'drawn' });
    expect(port.take()).toEqual([
      { type: 'patches', patches: [conversation('a', ['m'], [message('m', 'so far')])] },
      { type: 'done', call: watch, result: null },
    ]);
  });

  test('an engine that cannot start says why, and that another is needed', () => {
    const hub = new Hub();
    const { port } = join(hub);
    hub.alive(null);
    port.take();
    hub.stop({ code: 'engine', detail: 'no wasm' });
    expect(port.take()).toEqual([
      { type: 'patches', patches: [{ type: 'fault', fault: { code: 'engine', detail: 'no wasm' } }] },
      { type: 'gone' },
    ]);
  });

  test('a tab of another build learns the version and nothing else', () => {
    const { hub } = started();
    const port = new FakePort();
    const tab = hub.join(port);
    hub.receive(tab, { type: 'hello', protocol: PROTOCOL + 1, tab: 'x' });
    hub.publish([rows(row('a', 'B'))]);
    expect(port.take()).toEqual([{ type: 'ready', protocol: PROTOCOL, life: 'life' }]);
  });
});

describe('batches', () => {
  test('one is in flight until it is drawn; what comes meanwhile is merged', () => {
    const { hub } = started();
    const a = join(hub);
    drawn(hub, a);
    hub.publish([rows(row('a', 'one'), row('b', 'B'))]);
    hub.publish([rows(row('a', 'two'))]);
    hub.publish([{ type: 'summaries', rows: [row('a', 'three')], removed: ['b'], reset: false }]);
    expect(a.port.patches()).toEqual([rows(row('a', 'one'), row('b', 'B'))]);
    hub.receive(a.tab, { type: 'drawn' });
    expect(a.port.patches()).toEqual([{ type: 'summaries', rows: [row('a', 'three')], removed: ['b'], reset: false }]);
  });

  test('a slow tab does not hold up another', () => {
    const { hub } = started();
    const slow = join(hub);
    const quick = join(hub);
    drawn(hub, quick);
    slow.port.take();
    hub.publish([rows(row('a', 'one'))]);
    expect(slow.port.patches()).toEqual([]);
    expect(quick.port.patches()).toEqual([rows(row('a', 'one'))]);
  });

  test('live texts of one part join, by bytes of UTF-8', () => {
    const { hub } = started();
    const a = join(hub);
    call(hub, a.tab, 'session.watch', { session: 's' });
    drawn(hub, a);
    hub.publish([rows(row('a', 'busy'))]);
    hub.publish([grew('s', 'm', 6, 'é')]);
    hub.publish([grew('s', 'm', 8, '漢')]);
    hub.publish([grew('s', 'm', 11, '!')]);
    a.port.take();
    hub.receive(a.tab, { type: 'drawn' });
    expect(a.port.patches()).toEqual([grew('s', 'm', 6, 'é漢!')]);
  });

  test('a message that comes whole replaces its live text; others keep theirs', () => {
    const { hub } = started();
    const a = join(hub);
    call(hub, a.tab, 'session.watch', { session: 's' });
    drawn(hub, a);
    hub.publish([rows(row('a', 'busy'))]);
    hub.publish([grew('s', 'm', 0, 'old'), grew('s', 'n', 0, 'stays')]);
    hub.publish([conversation('s', ['m', 'n'], [message('m', 'whole')])]);
    hub.publish([grew('s', 'm', 5, ' more')]);
    a.port.take();
    hub.receive(a.tab, { type: 'drawn' });
    expect(a.port.patches()).toEqual([
      conversation('s', ['m', 'n'], [message('m', 'whole')]),
      grew('s', 'n', 0, 'stays'),
      grew('s', 'm', 5, ' more'),
    ]);
  });

  test('of two conversations, each message comes once and as it is last', () => {
    const { hub } = started();
    const a = join(hub);
    call(hub, a.tab, 'session.watch', { session: 's' });
    drawn(hub, a);
    hub.publish([rows(row('a', 'busy'))]);
    hub.publish([conversation('s', ['m', 'n', 'gone'], [message('m', '1'), message('n', '1'), message('gone', '1')])]);
    hub.publish([conversation('s', ['m', 'n'], [message('m', '2')])]);
    a.port.take();
    hub.receive(a.tab, { type: 'drawn' });
    expect(a.port.patches()).toEqual([conversation('s', ['m', 'n'], [message('n', '1'), message('m', '2')])]);
  });
});

describe('watching', () => {
  test('only a tab that watches a session hears of it', () => {
    const { hub } = started();
    const a = join(hub);
    const b = join(hub);
    call(hub, a.tab, 'session.watch', { session: 's' });
    drawn(hub, a);
    drawn(hub, b);
    hub.publish([grew('s', 'm', 0, 'x')]);
    expect(a.port.patches()).toEqual([grew('s', 'm', 0, 'x')]);
    expect(b.port.patches()).toEqual([]);
  });

  test('the engine watches a session while any tab does, however a tab ends', () => {
    const { hub, core } = started();
    const a = join(hub);
    const b = join(hub);
    call(hub, a.tab, 'session.watch', { session: 's' });
    call(hub, b.tab, 'session.watch', { session: 's' });
    call(hub, a.tab, 'session.unwatch', { session: 's' });
    expect(core.watched).toEqual(['s', 's']);
    hub.receive(b.tab, { type: 'bye' });
    expect(core.watched).toEqual([]);
    expect(hub.tabs).toBe(1);
    hub.leave(b.tab);
    expect(hub.tabs).toBe(1);
  });

  test('what waited of a session is dropped with the watch', () => {
    const { hub } = started();
    const a = join(hub);
    call(hub, a.tab, 'session.watch', { session: 's' });
    drawn(hub, a);
    hub.publish([rows(row('a', 'busy'))]);
    hub.publish([grew('s', 'm', 0, 'x')]);
    a.port.take();
    call(hub, a.tab, 'session.unwatch', { session: 's' });
    hub.receive(a.tab, { type: 'drawn' });
    expect(a.port.patches()).toEqual([]);
  });
});

describe('answers', () => {
  test('never overtake the patches that their call has caused', async () => {
    const { hub, core } = started();
    const a = join(hub);
    drawn(hub, a);
    hub.publish([rows(row('a', 'being drawn'))]);
    const number = call(hub, a.tab, 'session.do', { session: 'a', command: { type: 'archive' } });
    hub.publish([rows(row('a', 'archived'))]);
    core.calls[0]?.done({ id: null });
    await Promise.resolve();
    expect(a.port.take().map(({ type }) => type)).toEqual(['patches']);
    hub.receive(a.tab, { type: 'drawn' });
    expect(a.port.take()).toEqual([
      { type: 'patches', patches: [rows(row('a', 'archived'))] },
      { type: 'done', call: number, result: { id: null } },
    ]);
  });

  test('a fault of the engine comes as it is, anything else as the engine failing', async () => {
    const { hub, core } = started();
    const a = join(hub);
    drawn(hub, a);
    const one = call(hub, a.tab, 'sync.retry', {});
    const two = call(hub, a.tab, 'sync.retry', {});
    core.calls[0]?.fail({ code: 'not-here', detail: 'where?' });
    core.calls[1]?.fail(new Error('boom') as unknown as Fault);
    await new Promise((settled) => setTimeout(settled));
    expect(a.port.take()).toEqual([
      { type: 'failed', call: one, fault: { code: 'not-here', detail: 'where?' } },
      { type: 'failed', call: two, fault: { code: 'engine', detail: 'boom' } },
    ]);
  });
});
