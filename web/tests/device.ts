// A person's device: a browser context of its own, behind a wire of its own. Finds things as a person does, by role and
// name; keeps every word of the console that speaks of a policy.

import { type Browser, type BrowserContext, expect, type Locator, type Page } from '@playwright/test';
import { Proxy } from './proxy';
import type { Skein } from './skein';

export class Device {
  readonly #skein: Skein;
  readonly context: BrowserContext;
  readonly proxy: Proxy;
  /** What the browser refused, or the page threw. */
  readonly complaints: string[] = [];
  page!: Page;

  private constructor(skein: Skein, context: BrowserContext, proxy: Proxy) {
    this.#skein = skein;
    this.context = context;
    this.proxy = proxy;
  }

  static async of(skein: Skein, browser: Browser, options: Parameters<Browser['newContext']>[0] = {}): Promise<Device> {
    const device = new Device(skein, await browser.newContext(options), await Proxy.to(skein.port));
    await device.turnOn();
    return device;
  }

  get origin(): string {
    return `http://127.0.0.1:${this.proxy.port}`;
  }

  /** A new tab. */
  async turnOn(): Promise<Page> {
    const page = await this.context.newPage();
    page.on('console', (message) => {
      if (/Content Security Policy|TrustedScript|TrustedHTML|trusted-types/i.test(message.text())) this.complaints.push(message.text());
    });
    page.on('pageerror', (error) => this.complaints.push(error.stack ?? error.message));
    this.page = page;
    return page;
  }

  async open(hash: string): Promise<void> {
    await this.page.goto(`${this.origin}/${hash}`);
  }

  /** By the owner's token, typed into the page. */
  async signIn(): Promise<void> {
    await this.open('#/');
    await this.page.getByRole('textbox', { name: 'Access token or pairing code' }).fill(await this.#skein.ownerToken());
    await this.page.getByRole('button', { name: 'Sign in' }).click();
    await expect(this.page.getByRole('heading', { name: 'Sessions' })).toBeVisible();
  }

  async create(fields: { message?: string; agent?: string; name?: string }): Promise<void> {
    const { page } = this;
    await page.getByRole('button', { name: 'New session' }).first().click();
    const dialog = page.getByRole('dialog', { name: 'New session' });
    if (fields.message !== undefined) await dialog.getByRole('textbox', { name: 'First message' }).fill(fields.message);
    if (fields.agent !== undefined) await dialog.getByRole('combobox', { name: 'Agent' }).selectOption({ label: fields.agent });
    if (fields.name !== undefined) await dialog.getByRole('textbox', { name: 'Name' }).fill(fields.name);
    await dialog.getByRole('button', { name: 'Create' }).click();
    await expect(page.getByRole('textbox', { name: 'Message', exact: true })).toBeVisible();
  }

  /** Opens a session from the list of all. */
  async find(name: string): Promise<void> {
    await this.page.getByRole('navigation', { name: 'Workspace' }).getByRole('link', { name: 'Sessions' }).click();
    await this.page.getByRole('list', { name: 'Sessions' }).getByRole('link', { name }).click();
    await expect(this.heading).toHaveText(name);
  }

  async send(text: string): Promise<void> {
    const box = this.page.getByRole('textbox', { name: 'Message', exact: true });
    await box.fill(text);
    await box.press('Enter');
    await expect(box).toHaveValue('');
  }

  async rename(name: string): Promise<void> {
    await this.page.getByRole('button', { name: 'Rename session' }).click();
    await this.page.getByRole('textbox', { name: 'Session name' }).fill(name);
    await this.page.getByRole('textbox', { name: 'Session name' }).press('Enter');
    await expect(this.heading).toHaveText(name);
  }

  get heading(): Locator {
    return this.page.getByRole('heading', { level: 1 });
  }

  get log(): Locator {
    return this.page.getByRole('log', { name: 'Conversation' });
  }

  /** What the agent said, message by message. */
  get answers(): Locator {
    return this.log.getByRole('article', { name: 'Assistant' });
  }

  get activity(): Locator {
    return this.page.getByRole('status', { name: 'Activity' });
  }

  get sync(): Locator {
    return this.page.getByRole('button', { name: /^Sync:/ });
  }

  /** Nothing is under way any more. */
  async rest(): Promise<void> {
    await expect(this.page.getByRole('button', { name: 'Pause', exact: true })).toHaveCount(0);
    await expect(this.activity).toHaveCount(0);
  }

  async close(): Promise<void> {
    await this.context.close();
    await this.proxy.close();
  }
}

/** The words of an answer, whatever the layout around them. */
export async function wordsOf(answer: Locator): Promise<string> {
  const texts = await answer.locator('.prose').allInnerTexts();
  return texts.join(' ').replace(/\s+/g, ' ').trim();
}
