// The fixtures: one relay for each spec file, two devices of one person for each test that asks for them. Every test ends
// with a look at what the browsers complained of.

import { expect, test as base } from '@playwright/test';
import { Device } from './device';
import { Skein } from './skein';

export const test = base.extend<{ desk: Device; laptop: Device }, { skein: Skein; speed: number }>({
  speed: [150, { scope: 'worker', option: true }],
  skein: [
    async ({ speed }, use) => {
      const skein = await Skein.serve(speed);
      await use(skein);
      await skein.stop();
    },
    { scope: 'worker' },
  ],
  desk: async ({ skein, browser }, use) => {
    const desk = await Device.of(skein, browser);
    await desk.signIn();
    await use(desk);
    expect(desk.complaints).toEqual([]);
    await desk.close();
  },
  laptop: async ({ skein, browser }, use) => {
    const laptop = await Device.of(skein, browser);
    await laptop.signIn();
    await use(laptop);
    expect(laptop.complaints).toEqual([]);
    await laptop.close();
  },
});

export { expect };
