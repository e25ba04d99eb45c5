import { expect, test } from 'vitest';
import { Engine, EngineFault, type EngineState } from './client';
import type { Ends, Surroundings, Wire } from './link';
import { type FromWorker, type Patch, PROTOCOL, type ToWorker } from './protocol';

/** Workers that the test speaks for, and a clock that it turns. */
class Fake implements Surroundings {
  workers: { ends: Ends; said: ToWorker[]; closed: boolean }[] = [];
  deaths = new Map<string, () => void>();
  timers: { at: number; run: () => void }[] = [];
  time = 0;
  frames: (() => void)[] = [];

  dial = (ends: Ends): Wire => {
    const worker = { ends, said: [] as ToWorker[], closed: false };
    this.workers.push(worker);
    return { post: (message) => worker.said.push(message), close: () => (worker.closed = true) };
  };
  awaitEnd = (lock: string, ended: () => void) => {
    this.deaths.set(lock, ended);
    return () => this.deaths.delete(lock);
  };
  after = (ms: number, run: () => void) => void this.timers.push({ at: this.time + ms, run });
  now = () => this.time;

  pass(ms: number): void {
    this.time += ms;
    const due = this.timers.filter(({ at }) => at <= this.time);
    this.timers = this.timers.filter(({ at }) => at > this.time);
    for (const { run } of due) run();
  }
  say(message: FromWorker): void {
    this.workers.at(-1)?.ends.receive(message);
  }
  heard(): ToWorker[] {
    return this.workers.at(-1)?.said.splice(0) ?? [];
  }
  engine(): Engine {
    return new Engine('tab', this, (draw) => this.frames.push(draw));
  }
}

const ready: FromWorker = { type: 'ready', protocol: PROTOCOL, life: 'life' };
const hello: ToWorker = { type: 'hello', protocol: PROTOCOL, tab: 'tab' };

test('calls from before the worker is open are sent after the greeting', async () => {
  const fake = new Fake();
  const engine = fake.engine();
  const answer = engine.call('identity', {});
  engine.open();
  expect(fake.heard()).toEqual([hello, { type: 'call', call: 1, name: 'identity', args: {} }]);
  fake.say(ready);
  fake.say({ type: 'done', call: 1, result: null });
  expect(await answer).toBeNull();
});

test('a fault rejects its own call only', async () => {
  const fake = new Fake();
  const engine = fake.engine();
  engine.open();
  const one = engine.call('sync.retry', {});
  const two = engine.call('sync.retry', {});
  fake.say({ type: 'failed', call: 1, fault: { code: 'unreachable', detail: 'nobody there' } });
  fake.say({ type: 'done', call: 2, result: null });
  await expect(one).rejects.toMatchObject({ fault: { code: 'unreachable' } });
  expect(await two).toBeNull();
});

test('a batch is given out whole, and called drawn in the next frame', () => {
  const fake = new Fake();
  const engine = fake.engine();
  const batches: (readonly Patch[])[] = [];
  const stop = engine.onPatches((patches) => batches.push(patches));
  engine.open();
  fake.heard();
  const patches: Patch[] = [{ type: 'identity', identity: null }];
  fake.say({ type: 'patches', patches });
  expect(batches).toEqual([patches]);
  expect(fake.heard()).toEqual([]);
  fake.frames[0]?.();
  expect(fake.heard()).toEqual([{ type: 'drawn' }]);
  stop();
  fake.say({ type: 'patches', patches });
  expect(batches).toHaveLength(1);
});

test('a session is watched once however many ask, and unwatched when the last lets go', () => {
  const fake = new Fake();
  const engine = fake.engine();
  engine.open();
  fake.heard();
  const first = engine.watch('s');
  const second = engine.watch('s');
  expect(fake.heard()).toMatchObject([{ name: 'session.watch', args: { session: 's' } }]);
  first();
  first();
  expect(fake.heard()).toEqual([]);
  second();
  expect(fake.heard()).toMatchObject([{ name: 'session.unwatch', args: { session: 's' } }]);
});

test('when the worker dies, calls fail, another is opened, and what was watched is watched again', async () => {
  const fake = new Fake();
  const engine = fake.engine();
  const states: EngineState[] = [];
  engine.onState((state) => states.push(state));
  engine.open();
  fake.say(ready);
  engine.watch('s');
  const call = engine.call('sync.retry', {});
  const failed = expect(call).rejects.toBeInstanceOf(EngineFault);
  fake.deaths.get('life')?.();
  await failed;
  expect(fake.workers).toHaveLength(1);
  expect(fake.workers[0]?.closed).toBe(true);
  fake.pass(1000);
  expect(fake.workers).toHaveLength(2);
  expect(fake.heard()).toMatchObject([hello, { name: 'session.watch', args: { session: 's' } }]);
  fake.say(ready);
  expect(states).toEqual(['starting', 'ready', 'restarting', 'ready']);
});

test('a worker that keeps failing is opened ever more seldom', () => {
  const fake = new Fake();
  fake.engine().open();
  const opened = () => fake.workers.length;
  for (let n = 0; n < 8; n += 1) {
    fake.say({ type: 'gone' });
    fake.pass(10_000);
  }
  expect(opened()).toBe(9);
  fake.say({ type: 'gone' });
  fake.pass(9_000);
  expect(opened()).toBe(9);
  fake.pass(1_000);
  expect(opened()).toBe(10);
  // One that has run for a while has earned a quick restart.
  fake.pass(60_000);
  fake.say({ type: 'gone' });
  fake.pass(200);
  expect(opened()).toBe(11);
});

test('what a dead worker still says is not heard', () => {
  const fake = new Fake();
  const engine = fake.engine();
  const batches: (readonly Patch[])[] = [];
  engine.onPatches((patches) => batches.push(patches));
  engine.open();
  const first = fake.workers[0];
  fake.say({ type: 'gone' });
  first?.ends.receive({ type: 'patches', patches: [] });
  expect(batches).toEqual([]);
});

test('a worker of another build: nothing is guessed, a reload is needed', async () => {
  const fake = new Fake();
  const engine = fake.engine();
  engine.open();
  fake.say({ type: 'ready', protocol: PROTOCOL + 1, life: null });
  expect(engine.state).toBe('reload');
  await expect(engine.call('sync.retry', {})).rejects.toMatchObject({ fault: { code: 'version' } });
});
