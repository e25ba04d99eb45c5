// Lists, reads, creates and renames sessions, with stock automerge-repo and nothing of Skein's own.
//
//   node sessions.js list
//   node sessions.js read ID
//   node sessions.js create NAME MESSAGE
//   node sessions.js rename ID NAME
//
// SKEIN_TOKEN is a token (`skein token add NAME`), SKEIN_RELAY the relay's address, http://127.0.0.1:7700 if unset.
import { randomInt } from "node:crypto";
import { ImmutableString, Repo } from "@automerge/automerge-repo";
import { WebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket";

const relay = process.env.SKEIN_RELAY ?? "http://127.0.0.1:7700";
const token = process.env.SKEIN_TOKEN;
const PATIENCE = 10_000;

/** Every session of the workspace: what a list needs, without opening a document. */
async function summaries() {
  const listed = [];
  for (let after = null, more = true; more; ) {
    const address = new URL("/sessions", relay);
    if (after) address.searchParams.set("after", after);
    const answer = await fetch(address, { headers: { authorization: `Bearer ${token}` } });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error.message);
    listed.push(...body);
    after = answer.headers.get("skein-cursor");
    more = answer.headers.get("skein-more") === "true";
  }
  return listed;
}

/** A replica that syncs with the relay. */
function connect() {
  const address = new URL("/sync", relay);
  address.protocol = address.protocol.replace("http", "ws");
  address.searchParams.set("access_token", token);
  return new Repo({ network: [new WebSocketClientAdapter(address.href)] });
}

/** Waits until the relay lists what was written: from then on it is durable there. */
async function listed(id, holds) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; ) {
    const found = (await summaries()).find((summary) => summary.id === id);
    if (found && holds(found)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the relay has not taken it");
}

/** Ids of messages: 22 random letters and digits. */
function newId() {
  const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  return Array.from({ length: 22 }, () => letters[randomInt(letters.length)]).join("");
}

// Strings that nobody edits letter by letter are scalars; a plain string would become a collaborative text.
const scalar = (text) => new ImmutableString(text);

/** What people said and what answered them, oldest first: the gist of docs/session-rules.md. */
function conversation(session) {
  const hidden = new Set(session.messages.flatMap((message) => message.hides ?? []).map(String));
  // Of one turn the run with the highest epoch counts; what a worker wrote that was overtaken is not shown.
  const latest = new Map();
  for (const run of Object.values(session.runs)) {
    const turn = String(run.turn);
    if (!(latest.get(turn) > run.epoch)) latest.set(turn, run.epoch);
  }
  return session.messages.filter((message) => {
    if (hidden.has(String(message.id)) || message.parts.length === 0) return false;
    return String(message.role) === "user" || latest.get(String(message.turn)) === message.epoch;
  });
}

/** The words of a message. */
function words(message) {
  const texts = message.parts.filter((part) => String(part.type) === "text");
  return texts.map((part) => [...part.chunks].join("")).join("\n");
}

const commands = {
  async list() {
    for (const { id, status, name } of await summaries()) console.log(`${id}  ${status}  ${name}`);
  },

  async read(id) {
    const session = (await connect().find(id)).doc();
    if (String(session.kind) !== "session") throw new Error(`${id} is no session`);
    for (const message of conversation(session)) console.log(`${message.role}: ${words(message)}`);
  },

  async create(name, text) {
    // All containers are made in the first change: two replicas that made one each would lose one side.
    const session = connect().create({
      schema: 1,
      kind: scalar("session"),
      names: { user: scalar(name) },
      createdAt: Date.now(),
      messages: [
        { id: scalar(newId()), role: scalar("user"), parts: [{ type: scalar("text"), chunks: [scalar(text)] }] },
      ],
      runs: {},
      requests: {},
    });
    await listed(session.documentId, () => true);
    console.log(session.documentId);
  },

  async rename(id, name) {
    const session = await connect().find(id);
    session.change((document) => {
      document.names.user = scalar(name);
    });
    await listed(id, (summary) => summary.name === name);
  },
};

const [verb, ...rest] = process.argv.slice(2);
const command = Object.hasOwn(commands, verb ?? "") ? commands[verb] : undefined;
if (!command || rest.length !== command.length || rest.some((word) => !word.trim()) || !token) {
  console.error("usage: SKEIN_TOKEN=… node sessions.js list | read ID | create NAME MESSAGE | rename ID NAME");
  process.exit(2);
}
try {
  await command(...rest);
  process.exit(0);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
