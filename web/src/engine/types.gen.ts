// Generated from the engine's own types; edit those, then run
// `SKEIN_WRITE_TYPES=1 cargo test -p skein-engine --features ts --test typescript`.

/**
 * A document's id: 16 random bytes, written as automerge-repo does (base58 with a 4-byte check). A session's id is
 * that of its document.
 */
export type DocumentId = string;

/** Milliseconds since the Unix epoch. */
export type Timestamp = number;

/** The fencing token of one claim of a session: one claim, one run, one epoch (session rule 7). */
export type Epoch = number;

/** Money: millionths of a US dollar. */
export type Micros = number;

/** One row of a list. Its JSON is the command line's contract. */
export type Summary = {
  /** The session. */
  id: DocumentId,
  /** Its title. */
  name: string,
  /** Who gave it. */
  nameSource: NameSource,
  /** Rule 15, `ARCHIVED` over all of them. */
  status: Status,
  /** The status under an archived one. */
  beneath: Status | null,
  /** Of paused or failed. */
  reason: Reason | null,
  /** What waits. */
  queued: Queued,
  /** The agent's id. */
  agent: string | null,
  /** `None` = unknown. */
  costMicros: Micros | null,
  /** Any of it is an estimate. */
  estimated: boolean,
  /** Streaming time. */
  durationMs: number,
  /** By its creator's clock. */
  createdAt: Timestamp | null,
  /** Of the last message, run or request; never in the future. */
  updatedAt: Timestamp | null,
  /** If it is. */
  archivedAt: Timestamp | null,
  /** If it is. */
  deletedAt: Timestamp | null,
  /** Its place in the order: its own in the relay's rows, the member's in what a device lists. */
  position: string | null,
  /** Whether the member has pinned it; false in the relay's rows. */
  pinned: boolean,
  /** The task that made it. */
  task: string | null,
  /** The session that it is a copy of. */
  duplicateOf: string | null,
  /**
   * How far the session has come: messages in the document and runs that have ended. It only grows, whatever is
   * merged, so that "read up to" is a number as well.
   */
  progress: number,
  /** Whether it has come further than the member has read; false in the relay's rows. */
  unread: boolean,
  /** Two lines of the last message (at most 200 characters). */
  preview: string,
  /** The session's shape: at most 24 letters of `kbtxda`, newest last. */
  strand: string,
  /** What is due for a worker (rule 13), or `None`. */
  work: Due | null, };

/** Who gave a title. */
export type NameSource = "default" | "auto" | "user";

/** Rule 15. */
export type Status = "ACTIVE" | "STREAMING" | "PAUSED" | "FAILED" | "ARCHIVED";

/** Why a session is paused or failed. */
export type Reason = { "kind": "person",
  /** The member. */
  by: string,
  /** When. */
  at: Timestamp | null, } | { "kind": "approval",
  /** Their ids. */
  calls: Array<string>, } | { "kind": "limit",
  /** In words. */
  message: string, } | { "kind": "failed",
  /** Why. */
  error: RunError, };

/** Why a run failed. */
export type RunError = {
  /** A short word of ours. */
  code: string,
  /** One sentence, the cause first. */
  message: string,
  /** Whether `retry` may help. */
  retryable: boolean, };

/** What waits for a turn. */
export type Queued = {
  /** How many messages. */
  count: number,
  /** They don't start by themselves. */
  held: boolean,
  /** Why not. */
  reason: Waiting | null, };

/** Why the queue doesn't start. */
export type Waiting = "heldByPause" | "heldByApproval" | "heldByFailure" | "heldByLimit" | "behindTurn" | "workerLost" | "noWorker" | "offline" | "due";

/** What is due, for the catalog: a worker opens sessions where this is set and that it can serve. */
export type Due = {
  /** `retry`, `continue`, `takeover`, `close`, `decide`, `queue`, `name`. */
  kind: string,
  /** `PROVIDER/MODEL` that it needs; `None`: the worker's own choice. */
  model: string | null, };

/** Everything that screens, prompts and summaries read of a session. */
export type Conversation = {
  /** Visible messages in order (rule 5), without the queued ones. */
  messages: Array<ShownMessage>,
  /** Visible messages that no shown run answers (rule 4), in list order. */
  queued: Array<ShownMessage>,
  /**
   * Why what is due hasn't started: the queue, a lost turn, a continue, a retry or a decision. `None` if nothing is
   * due but a title. So it can be set while `queued` is empty.
   */
  waiting: Waiting | null,
  /** One entry a shown turn, by place. */
  turns: Array<ShownTurn>,
  /** The front run's key (rule 3). */
  front: string | null,
  /** What a message or `continue` must have seen to go on (rule 4). */
  stops: Array<string>,
  /** Rule 15, without the archive over it. */
  status: Status,
  /** Of a paused or failed status: in words, by whom, or what waits. */
  reason: Reason | null,
  /** Sums over all runs, shown or not (rule 18). */
  totals: Totals,
  /** What going on will cost; `None` while nothing was asked. */
  resume: Resume | null,
  /** What of the document can't be read, or is a newer version's, in words for people: that much may be missing. */
  faults?: Array<string>, };

/** A message as shown. */
export type ShownMessage = {
  /** Its id. */
  id: string,
  /** Who speaks. */
  role: Role,
  /** The member, or the agent's id. */
  author: string | null,
  /** By its author's clock. */
  createdAt: Timestamp | null,
  /** The turn it belongs to (an assistant's), or that answers it (a person's); `None` if queued. */
  turn: string | null,
  /** The claim that wrote it (an assistant's). */
  epoch: Epoch | null,
  /** Written by an actor whom nobody vouches for: shown as unverified, never acted on. */
  unverified: boolean,
  /** Its parts, in order. Indexes are those of the document, as [`ShownPart::index`] says. */
  parts: Array<ShownPart>, };

/** Who speaks. */
export type Role = "user" | "assistant";

/** A part as shown. */
export type ShownPart = {
  /** Its index in the document's message: what `tail` and `omit` name. */
  index: number,
  /** Left out of what models are sent, by a person's `omit`. */
  omitted?: boolean, } & ({ "type": "text",
  /** The chunks joined. */
  text: string, } | { "type": "thinking",
  /** The chunks joined. */
  text: string, } | { "type": "tool_call",
  /** Ours. */
  id: string,
  /** The provider's. */
  providerId: string | null,
  /** The tool. */
  name: string,
  /** JSON text; empty while it streams. */
  input: string,
  /** How far. */
  state: ShownCallState,
  /** What an approval must name. */
  digest: string, } | { "type": "tool_result",
  /** The call. */
  callId: string,
  /** What the model reads. */
  content: string,
  /** A failure. */
  isError: boolean,
  /** The whole of it. */
  blob: string | null, } | { "type": "other",
  /** In words. */
  summary: string, } | { "type": "attachment",
  /** SHA-256, hex. */
  blob: string,
  /** MIME type. */
  mime: string,
  /** File name. */
  name: string,
  /** Bytes. */
  size: number, } | { "type": "error",
  /** A short word. */
  code: string,
  /** One sentence. */
  message: string,
  /** Whether trying again may help. */
  retryable: boolean, } | { "type": "event",
  /** In words. */
  summary: string, } | { "type": "unknown",
  /** Its `type`. */
  name: string, });

/** What a shown part is; in JSON its `type` is the document's. */
export type Content = { "type": "text",
  /** The chunks joined. */
  text: string, } | { "type": "thinking",
  /** The chunks joined. */
  text: string, } | { "type": "tool_call",
  /** Ours. */
  id: string,
  /** The provider's. */
  providerId: string | null,
  /** The tool. */
  name: string,
  /** JSON text; empty while it streams. */
  input: string,
  /** How far. */
  state: ShownCallState,
  /** What an approval must name. */
  digest: string, } | { "type": "tool_result",
  /** The call. */
  callId: string,
  /** What the model reads. */
  content: string,
  /** A failure. */
  isError: boolean,
  /** The whole of it. */
  blob: string | null, } | { "type": "other",
  /** In words. */
  summary: string, } | { "type": "attachment",
  /** SHA-256, hex. */
  blob: string,
  /** MIME type. */
  mime: string,
  /** File name. */
  name: string,
  /** Bytes. */
  size: number, } | { "type": "error",
  /** A short word. */
  code: string,
  /** One sentence. */
  message: string,
  /** Whether trying again may help. */
  retryable: boolean, } | { "type": "event",
  /** In words. */
  summary: string, } | { "type": "unknown",
  /** Its `type`. */
  name: string, };

/** How far a call is, as shown: the stored states, and done or failed once its result stands. */
export type ShownCallState = "preparing" | "waiting" | "running" | "denied" | "cancelled" | "cut" | "in_doubt" | "done" | "failed";

/** A turn as shown: its runs summed. */
export type ShownTurn = {
  /** The turn's id. */
  id: string,
  /** Key of its shown run. */
  run: string,
  /** `streaming`, `paused`, `completed` or `failed`; `lost` while a streaming run's lease is dead. */
  state: TurnState,
  /** A class of ours. */
  stopReason: string | null,
  /** The agent's id. */
  agent: string | null,
  /** `PROVIDER/MODEL`. */
  model: string | null,
  /** Sum over the turn's runs. */
  usage: Usage,
  /** Sum over the turn's runs; `None` = unknown. */
  costMicros: Micros | null,
  /** Whether any of it is an estimate. */
  estimated: boolean,
  /** Why it failed. */
  error: RunError | null,
  /** Of its first run. */
  startedAt: Timestamp | null,
  /** Of its shown run. */
  endedAt: Timestamp | null,
  /** Of its shown run. */
  inherited: boolean, };

/** See [`ShownTurn::state`]. */
export type TurnState = "streaming" | "paused" | "completed" | "failed" | "lost";

/** Tokens by class. The classes are disjoint: cost = Σ count × rate + fees. */
export type Usage = {
  /** Read, not from the cache. */
  input: number,
  /** Written, without reasoning. */
  output: number,
  /** Reasoning. */
  reasoning: number,
  /** Read from the cache. */
  cacheRead: number,
  /** Written to the short-lived cache. */
  cacheWrite: number,
  /** Written to the long-lived cache. */
  cacheWriteLong: number, };

/** Rule 18. */
export type Totals = {
  /** By class. */
  usage: Usage,
  /** What is known. */
  costMicros: Micros,
  /** Some run's cost is unknown. */
  incomplete: boolean,
  /** Some run's cost is an estimate. */
  estimated: boolean,
  /** Streaming time of all runs, in milliseconds. */
  durationMs: number, };

/** What sending the conversation again costs. What the model then answers comes on top. */
export type Resume = {
  /** Until when the provider's cache is said to live; `None`: it is not known to cache. */
  cachedUntil: Timestamp | null,
  /** Until then; `None`: no price is known. */
  cachedMicros: Micros | null,
  /** After it. */
  uncachedMicros: Micros | null, };

/** A command on an existing session. (Creating one is [`create`]; copying one is [`super::duplicate`].) */
export type Command = { "type": "send" } & Draft | { "type": "edit",
  /** The person's message, visible or queued. */
  message: string,
  /** The new words. May be empty if an attachment stays. */
  text: string,
  /** Which of its attachments go, counted from 0 in their order; the others stay. */
  detach: Array<number>, } | { "type": "remove",
  /** Its id. */
  message: string, } | { "type": "pause" } | { "type": "continue" } | { "type": "steer",
  /** The queued message that is to be read then. */
  message: string, } | { "type": "retry",
  /** The last answered message, or the answer's own id. */
  message: string | null, } | { "type": "approve",
  /** Its id. */
  call: string,
  /** Also later calls of the same tool. */
  forSession: boolean, } | { "type": "deny",
  /** Its id. */
  call: string,
  /** Told to the model. */
  reason: string | null, } | { "type": "rename",
  /** 1 to 200 characters, no control characters. */
  name: string, } | { "type": "smart-rename" } | { "type": "set-agent",
  /** Its id in the workspace. */
  agent: string, } | { "type": "omit",
  /** The message. */
  message: string,
  /** Index of its part in the document ([`ShownPart::index`](super::conversation::ShownPart::index)). */
  part: number, } | { "type": "set-spend-limit",
  /** At least 1; `None`: no limit. */
  micros: Micros | null, } | { "type": "archive" } | { "type": "restore",
  /** 1 + the highest whole number of all positions known (rule 17). */
  position: string, } | { "type": "delete" } | { "type": "undelete" };

/** A message to be sent. */
export type Draft = {
  /** Its words, at most 1 MiB. May be empty if there are attachments. */
  text: string,
  /** Queue it behind a waiting call instead of answering the call with it (an empty `over`, rule 4). */
  queue: boolean,
  /** Files, whose content is in blobs; at most 100. */
  attachments?: Array<Attachment> | null,
  /** Id of the action that the words come from. */
  action?: string | null, };

/** A file of a message. */
export type Attachment = {
  /** SHA-256 of the content, 64 lower-case hex digits. */
  blob: string,
  /** MIME type. */
  mime: string,
  /** File name: 1 to 200 characters, no control characters. */
  name: string,
  /** Bytes. */
  size: number, };

/** How a session begins. */
export type NewSession = {
  /** The person's name for it. */
  name?: string | null,
  /** The agent's id; `None`: the workspace's default. */
  agent?: string | null,
  /** The first message. */
  message?: string | null,
  /** Its files. */
  attachments?: Array<Attachment> | null,
  /** Id of the action that the first message comes from. */
  action?: string | null,
  /** 1 + the highest whole number of all positions known (rule 17). */
  position?: string | null,
  /** What made it, if not a person. */
  origin?: Origin | null,
  /** What all its runs may cost together; at least 1. */
  spendLimit?: Micros | null, };

/** What made a session. */
export type Origin = { "kind": "task",
  /** The task's id in the workspace. */
  task: string,
  /** Which of its runs. */
  run: string, } | { "kind": "duplicate",
  /** The parent. */
  session: string,
  /** Its last message in the copy. */
  message: string, };

/** What a command left behind, for the caller to show. */
export type Done = {
  /** The new message's or request's id. */
  id: string | null, };

/** What a person does to their own list. */
export type Arrange = { "type": "move",
  /** Which. */
  session: DocumentId,
  /** To before this one; `None`: to the end. */
  before: DocumentId | null, } | { "type": "pin",
  /** Which. */
  session: DocumentId, } | { "type": "unpin",
  /** Which. */
  session: DocumentId, };

/** A blob's name: SHA-256 of its content, written as 64 lower-case hex digits. */
export type BlobId = string;

/** A command that waits for its document. */
export type WaitingCommand = {
  /** Of this entry, and of the message or request that the command will make. */
  id: string,
  /** The session. */
  session: DocumentId,
  /** What is to be done. */
  command: Command,
  /** The member who gave it. */
  by: string,
  /** When, by this device's clock; later than every one before it. */
  at: Timestamp,
  /** Why it could not be done when the document had come; `None`: it still waits. */
  failed: string | null, };

/** What a worker is doing. */
export type ActivityState = "thinking" | "writing" | "calling";

/** What a tail's text belongs to. */
export type TailKind = "text" | "thinking" | "input";

/** A member's name. */
export type Member = {
  /** What `author` and `by` hold. */
  id: string,
  /** As shown. */
  name: string, };

/** What a member may do. */
export type MemberRole = "owner" | "member" | "viewer";
