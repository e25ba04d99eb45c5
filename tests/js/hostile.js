// An MCP server on standard input and output that does what servers shouldn't. `node hostile.js LOG [endless]`: each
// message that it gets goes to the file LOG, a line each; with `endless`, its list of tools never ends.

import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [log, mode] = process.argv.slice(2);
const any = { type: "object" };
let added = false;
let asking;

const say = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
const text = (words) => ({ content: [{ type: "text", text: words }] });
const tool = (name, more = {}) => ({ name, description: `It is ${name}.`, inputSchema: any, ...more });

const tools = () => [
  tool("twice"),
  { description: "It has no name.", inputSchema: any },
  tool("no_schema", { inputSchema: undefined }),
  tool("odd_schema", { inputSchema: "any" }),
  tool("huge_schema", { inputSchema: { type: "object", description: "x".repeat(1 << 20) } }),
  tool("liar", { outputSchema: { type: "object", properties: { n: { type: "number" } }, required: ["n"] } }),
  tool("twice"),
  tool("dies"),
  tool("hangs"),
  tool("empty"),
  tool("fails"),
  tool("noisy"),
  tool("environment"),
  tool("adds"),
  tool("asks"),
  tool("dotted.name"),
  tool("x".repeat(100)),
  tool("größe"),
  tool("refers", { inputSchema: { type: "object", properties: { n: { $ref: "#/$defs/n" } }, $defs: { n: { type: "number" } } } }),
  ...(added ? [tool("added")] : []),
];

const call = {
  twice: (id) => [1, 2].forEach((n) => say({ id, result: text(`answer ${n}`) })),
  liar: (id) => say({ id, result: { ...text("no number"), structuredContent: { n: "none", more: true } } }),
  dies: () => process.exit(3),
  hangs: () => {},
  empty: (id) => say({ id, result: { content: [] } }),
  fails: (id) => say({ id, result: { ...text("it didn't work"), isError: true } }),
  noisy: (id) => {
    process.stdout.write("[info] not JSON at all\n{\"jsonrpc\": \"2.0\", \"half\n\n");
    say({ id: 987654, result: text("an answer to nothing") });
    say({ id, result: text("through the noise") });
  },
  environment: (id) => say({ id, result: text(Object.keys(process.env).sort().join(" ")) }),
  asks: (id) => {
    asking = id;
    const requestedSchema = { type: "object", properties: { name: { type: "string" } } };
    say({ id: "question", method: "elicitation/create", params: { message: "Who are you?", requestedSchema } });
  },
  adds: (id) => {
    added = true;
    say({ method: "notifications/tools/list_changed" });
    say({ id, result: text("added") });
  },
};

console.log("hostile server, version 1: ready");
console.error("a word on standard error");
createInterface({ input: process.stdin }).on("line", (line) => {
  appendFileSync(log, `${line}\n`);
  const { id, method, params, result, error } = JSON.parse(line);
  if (method === "initialize") {
    const { protocolVersion } = params;
    const serverInfo = { name: "hostile", version: "1" };
    say({ id, result: { protocolVersion, capabilities: { tools: { listChanged: true } }, serverInfo } });
  } else if (method === "tools/list" && mode === "endless") {
    const n = Number(params?.cursor ?? 0);
    say({ id, result: { tools: [tool(`page_${n}`)], nextCursor: `${n + 1}` } });
  } else if (method === "tools/list") {
    say({ id, result: { tools: tools() } });
  } else if (method === "tools/call") {
    (call[params.name] ?? (() => say({ id, result: text(`called ${params.name}`) })))(id);
  } else if (id === "question") {
    say({ id: asking, result: text(`it was told: ${result?.action ?? error?.message}`) });
  } else if (id !== undefined && method) {
    say({ id, error: { code: -32601, message: `no ${method} here` } });
  }
});
