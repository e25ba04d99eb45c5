import { expect, test } from 'vitest';
import { Sentences } from './sentences';

test('only whole sentences are said, each once', () => {
  const sentences = new Sentences(0);
  expect(sentences.take('It is not the netw')).toBe('');
  expect(sentences.take('It is not the network. The fir')).toBe('It is not the network.');
  expect(sentences.take('It is not the network. The first one is **new**. ')).toBe('The first one is new.');
  expect(sentences.take('It is not the network. The first one is **new**. And so', true)).toBe('And so');
});

test('what was there at opening is not said', () => {
  expect(new Sentences(10).take('0123456789 Then more. ')).toBe('Then more.');
});

test('a version number does not end a sentence', () => {
  expect(new Sentences(0).take('Use 1.2 or')).toBe('');
});
