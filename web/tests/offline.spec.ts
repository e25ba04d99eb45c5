// Without a network: the wire is cut, and the relay must see nothing until it is mended.

import { expect, test } from './test';

test('offline send and rename here, rename there: both show the same name', async ({ desk, laptop }) => {
  await desk.create({ name: 'First name', message: 'Hello' });
  await expect(desk.answers).toHaveCount(1);
  await desk.rest();
  await laptop.find('First name');

  desk.proxy.cut();
  await expect(desk.sync).toHaveAccessibleName(/^Sync: offline/);
  const reached = desk.proxy.reached;
  await desk.send('Written offline');
  await expect(desk.page.getByRole('list', { name: 'Queued messages' })).toContainText('Waiting: you are offline');
  await desk.rename('Name from the desk');
  await expect(desk.sync).toHaveAccessibleName('Sync: offline, 2 changes waiting');
  await laptop.rename('Name from the laptop');
  await expect(laptop.sync).toHaveAccessibleName('Sync: up to date');
  expect(desk.proxy.reached).toBe(reached);

  desk.proxy.mend();
  for (const device of [desk, laptop]) {
    await expect(device.sync).toHaveAccessibleName('Sync: up to date');
    await expect(device.log).toContainText('Written offline');
    await expect(device.answers).toHaveCount(2);
  }
  await expect.poll(async () => (await desk.heading.textContent()) === (await laptop.heading.textContent())).toBe(true);
  await expect(desk.heading).toHaveText(/^Name from the (desk|laptop)$/);
});

test('the first opening offline, after one visit, shows what was there', async ({ desk }) => {
  await desk.create({ name: 'Read on a train', message: 'Hello' });
  await expect(desk.answers.last()).toContainText('name one in skein.toml');
  await desk.rest();
  await expect(desk.sync).toHaveAccessibleName('Sync: up to date');
  await desk.page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));

  desk.proxy.cut();
  const reached = desk.proxy.reached;
  await desk.page.close();
  await desk.turnOn();
  await desk.open('#/');
  await desk.find('Read on a train');
  await expect(desk.answers.last()).toContainText('name one in skein.toml');
  await expect(desk.sync).toHaveAccessibleName(/^Sync: (offline|connecting)/);
  await desk.send('Written on the train');
  await expect(desk.page.getByRole('list', { name: 'Queued messages' })).toContainText('Written on the train');
  expect(desk.proxy.reached).toBe(reached);

  desk.proxy.mend();
  await expect(desk.answers).toHaveCount(2);
  await expect(desk.sync).toHaveAccessibleName('Sync: up to date');
});

test('archived offline: gone at once, back by Undo', async ({ desk }) => {
  await desk.create({ name: 'Old notes' });
  await desk.page.getByRole('navigation', { name: 'Workspace' }).getByRole('link', { name: 'Sessions' }).click();
  const note = desk.page.getByRole('list', { name: 'Sessions' }).getByRole('listitem').filter({ hasText: 'Old notes' });
  await expect(note).toBeVisible();
  desk.proxy.cut();
  await note.hover();
  await note.getByRole('button', { name: 'Actions for Old notes' }).click();
  await desk.page.getByRole('menuitem', { name: 'Archive' }).click();
  await expect(note).toHaveCount(0);
  await desk.page.getByRole('status').getByRole('button', { name: 'Undo' }).click();
  await expect(note).toBeVisible();
  desk.proxy.mend();
  await expect(desk.sync).toHaveAccessibleName('Sync: up to date');
});
