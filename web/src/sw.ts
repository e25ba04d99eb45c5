// The service worker: the whole client, precached, so that it opens without a network; never anything of the relay's.

import { cleanupOutdatedCaches, createHandlerBoundToURL, precacheAndRoute } from 'workbox-precaching';
import { NavigationRoute, registerRoute } from 'workbox-routing';

declare const self: ServiceWorkerGlobalScope;

/** The relay's own paths, where a page would be the wrong answer. */
const RELAY = [/^\/(?:sync|catalog|tickets|pair|whoami|health)$/, /^\/blobs\//];

precacheAndRoute(self.__WB_MANIFEST);
cleanupOutdatedCaches();
registerRoute(new NavigationRoute(createHandlerBoundToURL('index.html'), { denylist: RELAY }));

// A newer version waits until a person says yes: a page must not change under the hand.
self.addEventListener('message', (event) => {
  if ((event.data as { type?: unknown } | null)?.type === 'SKIP_WAITING') void self.skipWaiting();
});
