// The time of day as a signal, at two paces: a second for what runs, half a minute for "12 min ago". It ticks only while
// someone reads it.

import { createSubscriber } from 'svelte/reactivity';

function pace(ms: number): { readonly now: number } {
  const subscribe = createSubscriber((update) => {
    const timer = setInterval(update, ms);
    return () => clearInterval(timer);
  });
  return {
    get now() {
      subscribe();
      return Date.now();
    },
  };
}

export const seconds = pace(1000);
export const minutes = pace(30_000);
