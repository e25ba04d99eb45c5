// A session as Markdown, to keep or to send: what is on the screen, part by part.

import type { ConversationRows } from '../rows/conversation.svelte';
import type { MessageRow } from '../rows/message.svelte';
import { callStates } from '../words/en';

export function markdown(name: string, rows: ConversationRows, who: (row: MessageRow) => string): string {
  const lines = [`# ${name}`];
  for (const id of [...rows.order, ...rows.queued]) {
    const row = rows.message(id);
    if (!row) continue;
    lines.push(`## ${who(row)}`);
    for (const part of row.parts) {
      if (part.type === 'text') lines.push(row.text(part.index).text);
      else if (part.type === 'thinking') lines.push(quoted(row.text(part.index).text));
      else if (part.type === 'tool_call') lines.push(`**${part.name}** (${callStates[part.state]})`, fenced(part.input));
      else if (part.type === 'tool_result') lines.push(fenced(part.content));
    }
  }
  return `${lines.filter((line) => line.trim() !== '').join('\n\n')}\n`;
}

/** Saves a text as a file. */
export function save(name: string, text: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'text/markdown' }));
  link.download = `${name.replace(/[^\p{L}\p{N} _.-]+/gu, '').trim().slice(0, 80) || 'session'}.md`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const quoted = (text: string) => text.replace(/^/gm, '> ');

/** A fence longer than any in the text. */
function fenced(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map((match) => match[0].length));
  const fence = '`'.repeat(longest + 1);
  return text === '' ? '' : `${fence}\n${text}\n${fence}`;
}
