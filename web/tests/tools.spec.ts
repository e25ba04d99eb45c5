// Tool calls, approvals, and a turn that fails.

import { expect, test } from './test';

test('a call that asks runs after Allow once', async ({ desk }) => {
  await desk.create({ name: 'Allowed', message: 'Please approve' });
  const call = desk.page.getByRole('group', { name: 'Tool call: demo_send' });
  await expect(call).toContainText('waiting for approval');
  await expect(call).toContainText('nobody@example.org');
  await expect(desk.activity).toContainText('Waiting: for your decision');
  await expect(desk.page.getByRole('button', { name: 'Deny and send' })).toBeVisible();
  await expect(desk.page.getByRole('button', { name: 'Pause', exact: true })).toHaveCount(0);
  await call.getByRole('button', { name: 'Allow once' }).click();
  await expect(call).toContainText('done');
  await expect(desk.answers.last()).toContainText('was approved');
});

test('a decision taken offline waits to be sent, also after a reload', async ({ desk }) => {
  await desk.create({ name: 'Decided offline', message: 'Please approve' });
  const call = desk.page.getByRole('group', { name: 'Tool call: demo_send' });
  await expect(call).toContainText('waiting for approval');
  await expect(desk.sync).toHaveAccessibleName('Sync: up to date');
  await desk.page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
  desk.proxy.cut();
  await expect(desk.sync).toHaveAccessibleName(/^Sync: offline/);
  await call.getByRole('button', { name: 'Allow once' }).click();
  await expect(call).toContainText('kept here and sent when the relay answers');
  await desk.page.reload();
  await expect(call).toContainText('decided');
  await expect(call.getByRole('button', { name: 'Allow once' })).toHaveCount(0);
  await expect(desk.activity).toContainText('Waiting: you are offline');
  desk.proxy.mend();
  await expect(desk.answers.last()).toContainText('was approved');
});

test('a denied call says why to the agent', async ({ desk }) => {
  await desk.create({ name: 'Denied', message: 'Please approve' });
  const call = desk.page.getByRole('group', { name: 'Tool call: demo_send' });
  await call.getByRole('textbox', { name: 'Reason for denying' }).fill('not on a Friday');
  await call.getByRole('button', { name: 'Deny' }).click();
  await expect(call).toContainText('denied');
  await expect(desk.answers.last()).toContainText('not on a Friday');
});

test('two calls in one turn: one runs by itself, its input and result unfold', async ({ desk }) => {
  await desk.create({ name: 'Both', message: 'tool and approve' });
  const dice = desk.page.getByRole('group', { name: 'Tool call: demo_dice' });
  await expect(dice).toContainText('done');
  await dice.getByRole('button', { name: /demo_dice/ }).click();
  await expect(dice.getByRole('region', { name: 'Input' })).toContainText('"sides": 6');
  await expect(dice.getByRole('region', { name: 'Result' })).toBeVisible();
  await desk.page.getByRole('button', { name: 'Allow for this session' }).click();
  await expect(desk.answers.last()).toContainText('was approved');
});

test('a message instead of a decision answers the call with it', async ({ desk }) => {
  await desk.create({ name: 'Overruled', message: 'Please approve' });
  await expect(desk.activity).toContainText('Waiting: for your decision');
  await desk.page.getByRole('textbox', { name: 'Message', exact: true }).fill('Leave it');
  await desk.page.getByRole('button', { name: 'Deny and send' }).click();
  await expect(desk.answers.last()).toContainText('no language model is configured yet');
  await expect(desk.page.getByRole('group', { name: 'Tool call: demo_send' })).toContainText(/cancelled|denied/);
});

test('a failed turn shows the reason, and can be tried again', async ({ desk }) => {
  await desk.create({ name: 'Failing', message: 'fail' });
  const block = desk.page.getByRole('alert');
  await expect(block).toContainText('failing as it was asked to');
  await block.getByRole('button', { name: 'Retry' }).click();
  await expect(block).toContainText('failing as it was asked to');
  await desk.page.getByRole('navigation', { name: 'Workspace' }).getByRole('link', { name: 'Sessions' }).click();
  await expect(desk.page.getByRole('listitem').filter({ hasText: 'Failing' })).toContainText('Failed');
});
