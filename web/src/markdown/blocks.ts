// Markdown as it arrives: text in, closed blocks and the open ones out. A closed block keeps its key and its token and is
// never read again while the text grows; only the tail behind it is lexed anew. No HTML is ever made here.

import { Lexer, type Token, type Tokens } from 'marked';
import remend from 'remend';

export interface Block {
  /** Stays with a block while it grows and when it closes, so that its element stays too. */
  readonly key: number;
  readonly raw: string;
  readonly token: Token;
}

export interface View {
  readonly done: readonly Block[];
  readonly open: readonly Block[];
}

type Links = Lexer['tokens']['links'];

/** Reads one text that mostly grows. Any other change starts over. */
export class BlockReader {
  #text = '';
  #closed = 0;
  #done: readonly Block[] = [];
  #links: Links = Object.create(null) as Links;
  #breaks: boolean;

  /** `breaks`: a single line feed breaks the line, as people who type expect it. */
  constructor(breaks = false) {
    this.#breaks = breaks;
  }

  /** `live`: more is coming, so the last block stays open and half-written marks in it are completed. */
  read(source: string, live: boolean): View {
    const text = source.includes('\r') ? source.replace(/\r\n?/g, '\n') : source;
    if (!live) return this.#whole(text);
    if (!text.startsWith(this.#text)) this.#reset();
    this.#text = text;
    const tokens = this.#lex(text.slice(this.#closed));
    const last = tokens.findLastIndex((token) => token.type !== 'space');
    const closing: Block[] = [];
    for (const token of tokens.slice(0, Math.max(last, 0))) {
      if (!text.startsWith(token.raw, this.#closed)) break;
      this.#closed += token.raw.length;
      if (shows(token)) closing.push(block(this.#done.length + closing.length, token));
    }
    if (closing.length > 0) this.#done = [...this.#done, ...closing];
    return { done: this.#done, open: this.#complete(text.slice(this.#closed)) };
  }

  /** The text is at its end: read it once as a whole, and keep the blocks that come out the same. */
  #whole(text: string): View {
    const before = this.#done;
    this.#reset();
    const fresh = this.#lex(text).filter(shows);
    const done = fresh.map((token, key) => (before[key]?.raw === token.raw ? before[key] : block(key, token)));
    return { done, open: [] };
  }

  #complete(tail: string): Block[] {
    const open = this.#lex(tail).filter(shows);
    const last = open.at(-1);
    if (!last || last.type === 'code') return open.map((token, at) => block(this.#done.length + at, token));
    const completed = this.#lex(remend(last.raw, { linkMode: 'text-only' })).filter(shows);
    return [...open.slice(0, -1), ...completed].map((token, at) => block(this.#done.length + at, token));
  }

  #lex(text: string): Token[] {
    const lexer = new Lexer({ gfm: true, breaks: this.#breaks });
    Object.assign(lexer.tokens.links, this.#links);
    try {
      const tokens = lexer.lex(text);
      this.#links = tokens.links;
      return [...tokens];
    } catch {
      // Thousands of nested quotes overflow the lexer's stack: then the text shows as it is.
      return [{ type: 'paragraph', raw: text, text, tokens: [{ type: 'text', raw: text, text, escaped: false }] }];
    }
  }

  #reset(): void {
    this.#text = '';
    this.#closed = 0;
    this.#done = [];
    this.#links = Object.create(null) as Links;
  }
}

function shows(token: Token): boolean {
  return token.type !== 'space' && token.type !== 'def';
}

function block(key: number, token: Token): Block {
  return { key, raw: token.raw, token };
}

/** The address of a link that may be followed, or null: http, https and mailto only. */
export function safeLink(href: string): string | null {
  try {
    const url = new URL(href);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

const references: Record<string, string> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
  nbsp: '\u00a0',
  copy: '©',
  reg: '®',
  trade: '™',
  hellip: '…',
  mdash: '—',
  ndash: '–',
  lsquo: '‘',
  rsquo: '’',
  ldquo: '“',
  rdquo: '”',
  times: '×',
  deg: '°',
  euro: '€',
  rarr: '→',
  larr: '←',
};

/** Decodes the character references that a model writes; what isn't one stays as it is. */
export function decoded(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]{2,8}));/gi, (whole, decimal?: string, hex?: string, name?: string) => {
    if (name) return references[name] ?? whole;
    const point = decimal ? Number(decimal) : Number.parseInt(hex ?? '', 16);
    return point > 0 && point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff) ? String.fromCodePoint(point) : whole;
  });
}

/** Narrowed by hand: marked's own union has a catch-all that swallows every `type`. */
export type Known =
  | Tokens.Heading
  | Tokens.Paragraph
  | Tokens.Text
  | Tokens.Code
  | Tokens.Blockquote
  | Tokens.List
  | Tokens.Table
  | Tokens.Hr
  | Tokens.HTML
  | Tokens.Def
  | Tokens.Space
  | Tokens.Strong
  | Tokens.Em
  | Tokens.Del
  | Tokens.Codespan
  | Tokens.Link
  | Tokens.Image
  | Tokens.Br
  | Tokens.Escape;

export function known(token: Token): Known {
  return token as Known;
}
