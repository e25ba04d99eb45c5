// The engine's worker, shared by all tabs (or dedicated to one that leads: leader.ts). It takes ports at once, then
// loads the wasm module; what tabs say meanwhile waits in the hub.

import load, { Engine } from './pkg/skein_client_wasm.js';
import wasm from './pkg/skein_client_wasm_bg.wasm?url';
import { type Core, Hub, faultOf } from './hub';
import { awaitEnd, haveLocks, holdLock } from './locks';
import type { Patch, ToWorker } from './protocol';

declare const self: SharedWorkerGlobalScope & DedicatedWorkerGlobalScope;

const hub = new Hub();
const life = haveLocks() ? `skein-engine-${Date.now()}-${Math.random()}` : null;

function take(port: MessagePort): void {
  const tab = hub.join({ post: (message) => port.postMessage(message) });
  port.onmessage = ({ data }: MessageEvent<ToWorker>) => {
    if (data.type === 'hello') awaitEnd(`skein-tab-${data.tab}`, () => hub.leave(tab));
    hub.receive(tab, data);
  };
}

if ('onconnect' in self) self.onconnect = ({ ports }) => ports.forEach(take);
else (self as DedicatedWorkerGlobalScope).onmessage = ({ ports }) => ports.forEach(take);

/** After a panic the module's memory can't be trusted: tabs are told, and the lock's end lets them open another worker. */
function broken(detail: string): void {
  hub.stop({ code: 'engine', detail });
  // After this task, so that the messages are on their way.
  setTimeout(() => self.close(), 100);
}

async function start(): Promise<void> {
  if (life) await holdLock(life);
  hub.alive(life);
  await load({ module_or_path: wasm });
  const engine = await Engine.start((patches: Patch[]) => hub.publish(patches), broken);
  hub.start(engine as Core);
}

start().catch((error: unknown) => broken(faultOf(error).detail));
