import { expect, test } from 'vitest';
import { BlockReader, decoded, safeLink } from './blocks';

const sample = [
  '# Title',
  '',
  'A paragraph with **bold**, `code` and a [link](https://example.org/a_b).',
  'Its second line.',
  '',
  '- one',
  '- two',
  '  - nested',
  '',
  '| a | b |',
  '|---|--:|',
  '| 1 | 2 |',
  '',
  '```rust',
  'fn main() {}',
  '```',
  '',
  '> quoted',
  '',
  'The end.',
].join('\n');

const types = (view: { done: readonly { token: { type: string } }[] }) => view.done.map((block) => block.token.type);

test('a text that grew letter by letter ends as one that came whole', () => {
  const reader = new BlockReader();
  for (let end = 1; end <= sample.length; end += 1) reader.read(sample.slice(0, end), true);
  const live = reader.read(sample, true);
  const grown = reader.read(sample, false);
  live.done.forEach((block, at) => expect(grown.done[at]).toBe(block));
  const whole = new BlockReader().read(sample, false);
  expect(grown.done.map((block) => block.raw)).toEqual(whole.done.map((block) => block.raw));
  expect(types(whole)).toEqual(['heading', 'paragraph', 'list', 'table', 'code', 'blockquote', 'paragraph']);
});

test('a closed block is never read again: its identity stays while the text grows', () => {
  const reader = new BlockReader();
  const start = sample.indexOf('- one') + 5;
  const heading = reader.read(sample.slice(0, start), true).done[0];
  expect(heading?.token.type).toBe('heading');
  for (let end = start; end <= sample.length; end += 1) {
    expect(reader.read(sample.slice(0, end), true).done[0]).toBe(heading);
  }
});

test('keys of blocks never repeat and never go back, open or closed', () => {
  const reader = new BlockReader();
  for (let end = 1; end <= sample.length; end += 1) {
    const { done, open } = reader.read(sample.slice(0, end), true);
    const keys = [...done, ...open].map((block) => block.key);
    expect(keys).toEqual([...keys.keys()]);
  }
});

test('no text is lost while it streams', () => {
  const reader = new BlockReader();
  for (let end = 1; end <= sample.length; end += 1) {
    const { done } = reader.read(sample.slice(0, end), true);
    expect(sample.replaceAll('\n', '')).toContain(done.map((block) => block.raw).join('').replaceAll('\n', ''));
  }
});

test('half-written marks are completed while more is coming, and never inside code', () => {
  const bold = new BlockReader().read('Some **bold wor', true).open[0];
  expect(JSON.stringify(bold?.token)).toContain('"strong"');
  const fence = new BlockReader().read('```js\nconst a = "**', true).open[0];
  expect(fence?.token).toMatchObject({ type: 'code', text: 'const a = "**' });
});

test('a reference defined in the open tail serves a link that comes later', () => {
  const text = '[d]: https://example.org/d\n\nA line.\n\nSee [d].';
  const view = new BlockReader().read(text, false);
  expect(JSON.stringify(view.done.at(-1)?.token)).toContain('https://example.org/d');
});

test('text that is replaced rather than grown starts over', () => {
  const reader = new BlockReader();
  reader.read('# One\n\nTwo\n\nThree', true);
  const { done, open } = reader.read('Other', true);
  expect(done).toEqual([]);
  expect(open.map((block) => block.raw)).toEqual(['Other']);
});

test('what would overflow the lexer shows as plain text', () => {
  const hostile = '>'.repeat(20_000);
  expect(new BlockReader().read(hostile, false).done.length).toBeGreaterThan(0);
});

test('only http, https and mailto are followed', () => {
  expect(safeLink('https://example.org')).toBe('https://example.org/');
  expect(safeLink('mailto:a@example.org')).toBe('mailto:a@example.org');
  for (const href of ['javascript:alert(1)', ' java\nscript:alert(1)', 'data:text/html,x', 'vbscript:x', '/relative', '#here', 'file:///etc']) {
    expect(safeLink(href)).toBeNull();
  }
});

test('character references are decoded, others stay', () => {
  expect(decoded('a &lt;b&gt; &amp; &#233; &#x2192; &bogus; &#0;')).toBe('a <b> & é → &bogus; &#0;');
});
