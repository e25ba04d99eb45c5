// Text as it streams: on every screen at once, whole after a reload, kept by a pause.

import { wordsOf } from './device';
import { expect, test } from './test';

// Slow enough that the second device comes while it streams.
test.use({ speed: 40 });

const whole = 'That was the whole of it. To talk to a real model, name one in skein.toml.';

test('two browsers see the same stream', async ({ desk, laptop }) => {
  await desk.create({ name: 'Two screens', message: 'A long one' });
  await laptop.find('Two screens');
  for (const device of [desk, laptop]) {
    await expect(device.activity).toHaveText(/^(Thinking|Writing|Waiting)/);
    await expect(device.answers.last()).toContainText('so that you can watch it stream');
    await expect(device.page.getByRole('button', { name: 'Pause', exact: true })).toBeVisible();
  }
  for (const device of [desk, laptop]) await expect(device.answers.last()).toContainText(whole);
  expect(await wordsOf(laptop.answers.last())).toBe(await wordsOf(desk.answers.last()));
  await desk.rest();
  await expect(desk.page.getByRole('button', { name: /^Cost: \$0\.\d{4}$/ })).toBeVisible();
});

test('a reload in the middle loses nothing and doubles nothing', async ({ desk, laptop }) => {
  await desk.create({ name: 'Reloaded', message: 'Another long one' });
  await laptop.find('Reloaded');
  await expect(desk.answers.last()).toContainText('A skein is a length of thread');
  const before = await wordsOf(desk.answers.last());
  await desk.page.reload();
  await expect(desk.answers.last()).toContainText('A skein is a length of thread');
  expect((await wordsOf(desk.answers.last())).length).toBeGreaterThanOrEqual(before.length - 20);
  for (const device of [desk, laptop]) await expect(device.answers.last()).toContainText(whole);
  expect(await wordsOf(desk.answers.last())).toBe(await wordsOf(laptop.answers.last()));
});

test('a pause keeps what came, continue goes on, nothing is said twice', async ({ desk }) => {
  await desk.create({ name: 'Paused', message: 'A third long one' });
  await expect(desk.answers.last()).toContainText('A skein is a length of thread');
  await desk.page.getByRole('textbox', { name: 'Message', exact: true }).press('Escape');
  await expect(desk.log).toContainText('Paused by You');
  await expect(desk.page.getByRole('button', { name: 'Pause', exact: true })).toHaveCount(0);
  const kept = await wordsOf(desk.answers.last());
  expect(kept).toContain('A skein is a length of thread');
  await desk.page.getByRole('button', { name: 'Continue' }).first().click();
  await expect(desk.answers.last()).toContainText(whole);
  await desk.rest();
  // What is far outside the window isn't drawn: a window so tall holds all of it.
  await desk.page.setViewportSize({ width: 1280, height: 6000 });
  await expect(desk.log).toContainText('Thread');
  const said = (await Promise.all((await desk.answers.all()).map(wordsOf))).join(' ');
  for (const once of ['Thread', 'so that you can watch it stream', 'A skein is a length of thread', 'Line 12 of twelve', whole]) {
    expect(said.split(once).length, once).toBe(2);
  }
});

test('a message written while an answer streams waits behind it', async ({ desk }) => {
  await desk.create({ name: 'Queue', message: 'One more long one' });
  await expect(desk.page.getByRole('button', { name: 'Pause', exact: true })).toBeVisible();
  await desk.send('And then a short one');
  const queue = desk.page.getByRole('list', { name: 'Queued messages' });
  await expect(queue).toContainText('after this answer');
  await desk.send('Not this one');
  await queue.getByRole('listitem').filter({ hasText: 'Not this one' }).getByRole('button', { name: 'Remove' }).click();
  await expect(queue.getByRole('listitem')).toHaveCount(1);
  await expect(queue).toHaveCount(0);
  await expect(desk.answers.last()).toContainText('no language model is configured yet');
});
