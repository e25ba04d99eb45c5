// The engine behind the page: one for all tabs, whatever the browser has; it may die, the page goes on.

import { expect, test } from './test';

test('two tabs of one browser share an engine: what one writes, both show', async ({ desk }) => {
  await desk.create({ name: 'In two tabs', message: 'Hello' });
  await desk.rest();
  const first = desk.page;
  const second = await desk.turnOn();
  await second.goto(first.url());
  await expect(desk.answers).toHaveCount(1);
  await desk.send('From the second tab');
  await expect(first.getByRole('log', { name: 'Conversation' })).toContainText('From the second tab');
});

test('the worker dies: another is opened, and nothing that was written is lost', async ({ desk, browser }) => {
  await desk.create({ name: 'Survivor', message: 'Hello' });
  await desk.rest();
  const cdp = await browser.newBrowserCDPSession();
  const { targetInfos } = await cdp.send('Target.getTargets');
  const workers = targetInfos.filter(({ type, url }) => type === 'shared_worker' && url.startsWith(desk.origin));
  expect(workers).toHaveLength(1);
  for (const { targetId } of workers) await cdp.send('Target.closeTarget', { targetId });

  await expect(desk.sync).toHaveAccessibleName('Sync: up to date');
  await expect(desk.answers).toHaveCount(1);
  await expect(async () => desk.send('After the death')).toPass();
  await expect(desk.answers).toHaveCount(2);
});

test('without SharedWorker one tab leads, and another takes over when it closes', async ({ desk }) => {
  await desk.create({ name: 'Led', message: 'Hello' });
  await desk.rest();
  await desk.context.addInitScript(() => Reflect.deleteProperty(globalThis, 'SharedWorker'));
  const leader = desk.page;
  await leader.reload();
  await expect(desk.answers).toHaveCount(1);
  await desk.turnOn();
  await desk.page.goto(leader.url());
  await expect(desk.answers).toHaveCount(1);
  await desk.send('Passed on by the leader');
  await expect(leader.getByRole('log', { name: 'Conversation' })).toContainText('Passed on by the leader');
  await desk.rest();

  await leader.close();
  await expect(desk.sync).toHaveAccessibleName('Sync: up to date');
  await expect(async () => desk.send('Leading now')).toPass();
  await expect(desk.answers).toHaveCount(3);
});
