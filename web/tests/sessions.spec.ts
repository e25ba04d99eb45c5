// Signing in, creating, finding, renaming, archiving; and what no mouse is needed for.

import AxeBuilder from '@axe-core/playwright';
import { Device } from './device';
import { expect, test } from './test';

test('the printed address signs in once, and its code leaves the address bar', async ({ skein, browser }) => {
  const first = await Device.of(skein, browser);
  await first.open(`#/sign-in?code=${skein.code}`);
  await expect(first.page.getByRole('heading', { name: 'Sessions' })).toBeVisible();
  expect(first.page.url()).toBe(`${first.origin}/#/`);
  const second = await Device.of(skein, browser);
  await second.open(`#/sign-in?code=${skein.code}`);
  await expect(second.page.getByRole('alert')).toContainText('This code was used already');
  expect(second.page.url()).not.toContain(skein.code);
  for (const device of [first, second]) {
    expect(device.complaints).toEqual([]);
    await device.close();
  }
});

test('a wrong token is said so', async ({ skein, browser }) => {
  const device = await Device.of(skein, browser);
  await device.open('#/');
  await device.page.getByRole('textbox', { name: 'Access token or pairing code' }).fill('skein-nonsense-nonsense-nonsense');
  await device.page.getByRole('button', { name: 'Sign in' }).click();
  await expect(device.page.getByRole('alert')).toContainText('doesn’t know');
  await device.close();
});

for (const message of [undefined, 'Hello']) {
  for (const agent of [undefined, 'Assistant (default)']) {
    for (const name of [undefined, 'Called so']) {
      const fields = { message, agent, name };
      const given = Object.entries(fields).flatMap(([field, value]) => (value ? [field] : []));
      test(`a new session with ${given.join(', ') || 'nothing'}`, async ({ desk }) => {
        await desk.create(fields);
        if (name) await expect(desk.heading).toHaveText(name);
        else await expect(desk.heading).not.toBeEmpty();
        if (message) await expect(desk.answers.last()).toContainText('demo model');
        else await expect(desk.log).toContainText('Nothing has been said yet.');
        await expect(desk.sync).toHaveAccessibleName('Sync: up to date');
      });
    }
  }
}

test('views, search, archive and restore', async ({ desk }) => {
  const { page } = desk;
  await desk.create({ name: 'Needle' });
  await desk.create({ name: 'Hay' });
  await page.getByRole('navigation', { name: 'Workspace' }).getByRole('link', { name: 'Sessions' }).click();
  const cards = page.getByRole('list', { name: 'Sessions' });
  await expect(cards.getByRole('link', { name: 'Needle' })).toBeVisible();
  await page.getByRole('searchbox', { name: 'Search sessions' }).fill('needl');
  await expect(cards.getByRole('listitem')).toHaveCount(1);
  await expect(page).toHaveURL(/q=needl/);
  await page.reload();
  await expect(cards.getByRole('listitem')).toHaveCount(1);
  await page.getByRole('radio', { name: 'List' }).check();
  const grid = page.getByRole('grid', { name: 'Sessions' });
  await expect(grid.getByRole('row')).toHaveCount(2);
  await grid.getByRole('link', { name: 'Needle' }).focus();
  await page.keyboard.press('e');
  await expect(page.getByRole('heading', { name: 'Nothing matches' })).toBeVisible();
  await page.getByRole('button', { name: 'Clear filters' }).click();
  await page.getByRole('navigation', { name: 'Workspace' }).getByRole('link', { name: 'Archive' }).click();
  await expect(page.getByRole('heading', { name: 'Archive' })).toBeVisible();
  await page.getByRole('link', { name: 'Needle' }).click();
  await page.getByRole('button', { name: 'Session menu' }).click();
  await page.getByRole('menuitem', { name: 'Restore' }).click();
  await expect(page.getByRole('status').filter({ hasText: 'Restored Needle' })).toBeVisible();
  await page.getByRole('navigation', { name: 'Workspace' }).getByRole('link', { name: 'Sessions' }).click();
  await expect(page.getByRole('link', { name: 'Needle' })).toBeVisible();
});

test('by keyboard: new, rename, back, and a draft that stays with its session', async ({ desk }) => {
  const { page } = desk;
  await page.keyboard.press('n');
  const dialog = page.getByRole('dialog', { name: 'New session' });
  await expect(dialog.getByRole('textbox', { name: 'First message' })).toBeFocused();
  await page.keyboard.press('Escape');
  await expect(dialog).toHaveCount(0);
  await desk.create({ name: 'Drafted' });
  await page.getByRole('textbox', { name: 'Message', exact: true }).fill('Half a thought');
  await page.reload();
  await expect(page.getByRole('textbox', { name: 'Message', exact: true })).toHaveValue('Half a thought');
  await page.getByRole('textbox', { name: 'Message', exact: true }).press('Shift+Enter');
  await expect(page.getByRole('textbox', { name: 'Message', exact: true })).toHaveValue('Half a thought\n');
  await desk.heading.click();
  await page.keyboard.press('r');
  await page.getByRole('textbox', { name: 'Session name' }).fill('Renamed by key');
  await page.keyboard.press('Enter');
  await expect(desk.heading).toHaveText('Renamed by key');
  await page.getByRole('status').getByRole('button', { name: 'Undo' }).click();
  await expect(desk.heading).toHaveText('Drafted');
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keyboard shortcuts' })).toBeVisible();
});

test('no page breaks the rules for screen readers', async ({ desk }) => {
  test.slow();
  const look = async () => {
    const { violations } = await new AxeBuilder({ page: desk.page }).withTags(['wcag2a', 'wcag2aa']).analyze();
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`)).toEqual([]);
  };
  await desk.create({ name: 'Looked at', message: 'tool' });
  await expect(desk.answers.last()).toContainText('nothing left this machine');
  await desk.rest();
  await look();
  await desk.page.getByRole('button', { name: /^Cost:/ }).click();
  await expect(desk.page.getByRole('dialog', { name: 'Cost' })).toBeVisible();
  await look();
  await desk.page.keyboard.press('Escape');
  await desk.page.getByRole('navigation', { name: 'Workspace' }).getByRole('link', { name: 'Sessions' }).click();
  await expect(desk.page.getByRole('link', { name: 'Looked at' })).toBeVisible();
  await look();
  await desk.page.getByRole('radio', { name: 'List' }).check();
  await expect(desk.page.getByRole('grid', { name: 'Sessions' })).toBeVisible();
  await look();
});

test('the dialog Sync says what is stored here, and whether the browser keeps it', async ({ desk }) => {
  await expect(desk.sync).toHaveAccessibleName('Sync: up to date');
  await desk.sync.click();
  const dialog = desk.page.getByRole('dialog', { name: 'Sync' });
  await expect(dialog).toContainText(/[\d,.]+ [KMG]B stored\. The browser (promised to keep it|may delete it)/);
});
