// A newer version of the page: it waits until someone says yes, then this tab alone reloads; others only get the notice.

import { Workbox } from 'workbox-window';

/** Registers the service worker; `ready` is called when a newer version waits. Returns what a yes does. */
export function watchForNewer(ready: () => void): () => void {
  addEventListener('vite:preloadError', ready);
  if (!('serviceWorker' in navigator) || import.meta.env.DEV) return () => location.reload();
  const workbox = new Workbox('./sw.js');
  let waits = false;
  workbox.addEventListener('waiting', (event) => {
    waits = true;
    if (event.isUpdate || event.isExternal) ready();
  });
  workbox.addEventListener('installed', (event) => {
    if (event.isExternal) ready();
  });
  workbox.register().catch((reason: unknown) => console.warn('no service worker:', reason));
  return () => {
    if (!waits) return location.reload();
    workbox.addEventListener('controlling', () => location.reload());
    workbox.messageSkipWaiting();
  };
}
