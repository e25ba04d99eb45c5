// The engine's worker, shared by all tabs (or dedicated to one that leads: leader.ts). It takes ports at once, then
// loads the wasm module; what tabs say meanwhile waits in the hub.

import load, { Engine } from './pkg/skein_client_wasm.js';
import wasm from './pkg/skein_client_wasm_bg.wasm?url';
import { type Core, Hub, faultOf } from './hub';
import { awaitEnd, haveLocks, holdLock } from './locks';
import type { Patch, ToWorker } from './protocol';

declare const self: SharedWorkerGlobalScope & DedicatedWorkerGlobalScope;

const hub = new Hub();
let loaded = false;
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

/** After a panic or a trap the module's memory can't be trusted: tabs are told, and open another worker. */
function broken(detail: string): void {
  const document = loaded ? Engine.atWork() : undefined;
  hub.stop({ code: 'engine', detail });
  // Once the messages are on their way.
  const end = () => setTimeout(() => self.close(), 100);
  if (document) setAside(document).then(end, end);
  else end();
}

/** What the engine died of is left alone by the next one: client-wasm's account.rs reads these notes. */
function setAside(document: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('skein', 1);
    opening.onerror = reject;
    opening.onsuccess = () => {
      const writing = opening.result.transaction('device', 'readwrite');
      writing.objectStore('device').put(new Uint8Array(), `aside/${document}`);
      writing.oncomplete = () => resolve();
      writing.onabort = reject;
    };
  });
}

// An allocation that fails traps without a panic.
self.addEventListener('error', (event) => {
  if (event.error instanceof WebAssembly.RuntimeError) broken(String(event.error));
});
self.addEventListener('unhandledrejection', (event) => {
  if (event.reason instanceof WebAssembly.RuntimeError) broken(String(event.reason));
});

async function start(): Promise<void> {
  if (life) await holdLock(life);
  hub.alive(life);
  await load({ module_or_path: wasm });
  loaded = true;
  const engine = await Engine.start((patches: Patch[]) => hub.publish(patches), broken);
  hub.start(engine as Core);
}

start().catch((error: unknown) => broken(faultOf(error).detail));
