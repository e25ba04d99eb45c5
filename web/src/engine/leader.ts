// How a tab reaches the one engine: a SharedWorker; where there is none, a dedicated worker of the tab that holds the
// lock "skein-leader", which the others reach through a BroadcastChannel. Where there are no locks either, each tab has
// an engine of its own: they share the store, which bears that, and meet at the relay.

import url from './worker.ts?worker&url';

import type { Dial, Ends } from './link';
import { haveLocks } from './locks';
import type { FromWorker, ToWorker } from './protocol';

/** What passes between the leading tab and the others. */
type Relayed =
  | { to: 'leader'; tab: string; message: ToWorker }
  | { to: 'tab'; tab: string; message: FromWorker }
  /** A tab leads from now on: greet it. */
  | { to: 'all' };

/** The way that this browser has. */
export function dial(tab: string): Dial {
  if (typeof SharedWorker !== 'undefined') return shared;
  if (haveLocks() && typeof BroadcastChannel !== 'undefined') return elected(tab);
  return alone;
}

const shared: Dial = (ends) => {
  const worker = new SharedWorker(url, { type: 'module', name: 'skein' });
  worker.onerror = () => ends.died();
  return overPort(worker.port, ends);
};

const alone: Dial = (ends) => {
  const worker = new Worker(url, { type: 'module', name: 'skein' });
  worker.onerror = () => ends.died();
  const wire = overPort(portTo(worker), ends);
  return {
    post: wire.post,
    close() {
      wire.close();
      worker.terminate();
    },
  };
};

/** The tab leads if the lock is free, or as soon as it becomes so. */
function elected(tab: string): Dial {
  return (ends) => {
    const channel = new BroadcastChannel('skein');
    const giveUp = new AbortController();
    let leader: Leader | null = null;
    let mine: MessagePort | null = null;

    channel.onmessage = ({ data }: MessageEvent<Relayed>) => {
      if (data.to === 'tab' && data.tab === tab && !leader) ends.receive(data.message);
      else if (data.to === 'leader') leader?.pass(data.tab, data.message);
      // Another tab leads now: what was said to the last one is lost.
      else if (data.to === 'all' && !leader) ends.died();
    };
    navigator.locks
      .request('skein-leader', { signal: giveUp.signal }, async () => {
        leader = new Leader(channel, () => ends.died());
        mine = leader.port();
        mine.onmessage = ({ data }: MessageEvent<FromWorker>) => ends.receive(data);
        for (const message of early.splice(0)) mine.postMessage(message);
        channel.postMessage({ to: 'all' } satisfies Relayed);
        await leader.ended;
      })
      .catch(() => {});

    // Said before it is known who leads: to the leader that may be there, and to the own worker if this tab comes to lead.
    const early: ToWorker[] = [];
    return {
      post(message) {
        if (mine) {
          mine.postMessage(message);
        } else {
          early.push(message);
          channel.postMessage({ to: 'leader', tab, message } satisfies Relayed);
        }
      },
      close() {
        giveUp.abort();
        leader?.end();
        channel.close();
      },
    };
  };
}

/** The leading tab's half: a worker, and a port to it for each tab. */
class Leader {
  #worker = new Worker(url, { type: 'module', name: 'skein' });
  #ports = new Map<string, MessagePort>();
  #ended: () => void = () => {};
  /** The lock is held until then. */
  readonly ended = new Promise<void>((resolve) => (this.#ended = resolve));

  constructor(
    private readonly channel: BroadcastChannel,
    died: () => void,
  ) {
    this.#worker.onerror = died;
  }

  port(): MessagePort {
    return portTo(this.#worker);
  }

  pass(tab: string, message: ToWorker): void {
    let port = this.#ports.get(tab);
    // A greeting begins anew: the tab has a new link.
    if (!port || message.type === 'hello') {
      port?.close();
      port = this.port();
      port.onmessage = ({ data }: MessageEvent<FromWorker>) =>
        this.channel.postMessage({ to: 'tab', tab, message: data } satisfies Relayed);
      this.#ports.set(tab, port);
    }
    port.postMessage(message);
  }

  end(): void {
    this.#worker.terminate();
    this.#ended();
  }
}

function portTo(worker: Worker): MessagePort {
  const { port1, port2 } = new MessageChannel();
  worker.postMessage('port', [port2]);
  return port1;
}

function overPort(port: MessagePort, ends: Ends) {
  port.onmessage = ({ data }: MessageEvent<FromWorker>) => ends.receive(data);
  return {
    post: (message: ToWorker) => port.postMessage(message),
    close: () => port.close(),
  };
}
