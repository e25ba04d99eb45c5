// client.js SYNC_URL: a stock automerge-repo client that does what it is told, one JSON object a line on standard
// input, and answers each with one on standard output. `../src/js.rs` is the other end.
import { createInterface } from "node:readline";
import { isImmutableString, Repo } from "@automerge/automerge-repo";
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket";

// The adapter throws what its socket reports, unless the connection was refused; a relay that was killed resets it.
process.on("uncaughtException", (error) => {
  if (!["ECONNRESET", "EPIPE"].includes(error?.code)) throw error;
});

const adapter = new WebSocketClientAdapter(process.argv[2], 300);
const repo = new Repo({ network: [adapter] });
const handles = new Map();

/** Keeps a handle, and what is said on it from now on. */
function keep(handle) {
  if (handles.has(handle.documentId)) return handles.get(handle.documentId);
  const kept = { handle, heard: [], listeners: [] };
  handle.on("ephemeral-message", ({ message }) => {
    const listener = kept.listeners.shift();
    if (listener) listener(message);
    else kept.heard.push(message);
  });
  handles.set(handle.documentId, kept);
  return kept;
}

/** A document as plain JSON. */
function plain(value) {
  if (isImmutableString(value)) return value.toString();
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Date) return value.getTime();
  if (value instanceof Uint8Array) return [...value];
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  }
  return value;
}

/** A function from its source; the test that wrote it is the only one who sends any. */
const evaluate = (source) => new Function(`return (${source})`)();

const commands = {
  create({ value }) {
    const handle = repo.create(value);
    keep(handle);
    return { id: handle.documentId };
  },
  async find({ id }) {
    try {
      const handle = await repo.find(id);
      keep(handle);
      return { value: plain(handle.doc()) };
    } catch (error) {
      if (/unavailable/i.test(String(error))) return { unavailable: true };
      throw error;
    }
  },
  change({ id, function: source }) {
    handles.get(id).handle.change(evaluate(source));
    return {};
  },
  until({ id, function: source }) {
    const { handle } = handles.get(id);
    const holds = evaluate(source);
    return new Promise((resolve) => {
      const look = () => {
        const value = plain(handle.doc());
        if (!holds(value)) return;
        handle.off("change", look);
        resolve({ value });
      };
      handle.on("change", look);
      look();
    });
  },
  broadcast({ id, message }) {
    handles.get(id).handle.broadcast(message);
    return {};
  },
  async hear({ id }) {
    const kept = handles.get(id);
    const message = kept.heard.shift() ?? (await new Promise((resolve) => kept.listeners.push(resolve)));
    return { message: plain(message) };
  },
};

// A stock client takes what it hasn't found within a second for unavailable, if it isn't connected by then.
if (!adapter.remotePeerId) await new Promise((resolve) => adapter.once("peer-candidate", resolve));

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  let answer;
  try {
    answer = await commands[question.do](question);
  } catch (error) {
    answer = { error: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
