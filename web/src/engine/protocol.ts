// Every message between a page and the engine's worker, both ways. The page gets plain rows and patches; it never holds
// a document. Rows and ids are in types.gen.ts, generated from the engine's own types.

import type { BlobId, Command, Conversation, DocumentId, NewSession, ShownMessage, Summary, WaitingCommand } from './types.gen';

/** Differs between builds that can't talk: a tab and a worker that disagree say so and offer a reload. */
export const PROTOCOL = 1;

/** What the page may ask for; each call is answered once. */
export interface Commands {
  /** Where is the relay, and who am I? `null`: not signed in. */
  identity: { args: Record<string, never>; result: Identity | null };
  /** Exchanges a pairing code or checks a token; keeps the token on this device. */
  'sign-in': { args: { relay: string; secret: string; device: string }; result: Identity };
  /** Forgets the token. What is stored stays unless `forget`. */
  'sign-out': { args: { forget: boolean }; result: null };
  /** Creates a session, offline too. */
  'session.create': { args: NewSession; result: { id: DocumentId } };
  /** Does what a person asks of a session: send, pause, rename, approve, archive, … */
  'session.do': { args: { session: DocumentId; command: Command }; result: { id: string | null } };
  /** Saves a session as it is on this device, with what the relay refused, as a new one. */
  'session.copy': { args: { session: DocumentId }; result: { id: DocumentId } };
  /** Lets go of what the relay refused of a session: it is gone from this device, and can't be had back. */
  'session.discard': { args: { session: DocumentId }; result: null };
  /** Lets go a command that waits for its session, or could not be done when that had come. */
  'session.let-go': { args: { id: string }; result: null };
  /** Keeps a file on this device and brings it to the relay; a message that names it is sent after it. */
  'blob.put': { args: Uint8Array; result: { id: BlobId } };
  /** A file, from this device or from the relay; `null`: neither has it. */
  'blob.get': { args: { id: BlobId }; result: Uint8Array | null };
  /** Sends conversation patches of this session to this tab from now on; the first one comes at once. */
  'session.watch': { args: { session: DocumentId }; result: null };
  /** No longer. */
  'session.unwatch': { args: { session: DocumentId }; result: null };
  /** Tries to reach the relay now instead of at the next turn of the back-off. */
  'sync.retry': { args: Record<string, never>; result: null };
}

/** Who this device is signed in as. */
export interface Identity {
  relay: string;
  workspace: string;
  member: string;
  memberName: string;
  role: 'owner' | 'member' | 'viewer';
  members: { id: string; name: string }[];
}

/** The conversation without its messages: what changes with every document, and is small. */
export interface ConversationHead extends Omit<Conversation, 'messages' | 'queued'> {
  /** Calls that asked, are decided, and haven't gone on since: the decision is on its way, or waits for a link. */
  decided: string[];
  /** Only the end of the conversation, as this device has kept it: the rest is being read. A command waits until it is here. */
  loading: boolean;
  /** Commands that waited for this session and could not be done. */
  commands: WaitingCommand[];
}

/** What the worker tells pages. A patch replaces what it names, whole. */
export type Patch =
  /** Rows of the list that are new or changed, and ids that are gone. `reset`: forget all others. */
  | { type: 'summaries'; rows: Summary[]; removed: DocumentId[]; reset: boolean }
  /** A watched session: ids of its visible and its queued messages in order, and those messages that are new or changed. */
  | {
      type: 'conversation';
      session: DocumentId;
      head: ConversationHead;
      order: string[];
      queued: string[];
      messages: ShownMessage[];
    }
  /** A watched session isn't on this device (or not yet), and what waits for it. */
  | { type: 'absent'; session: DocumentId; why: 'opening' | 'offline' | 'unknown'; commands: WaitingCommand[] }
  /** A part has grown by live text; `offset` counts the UTF-8 bytes before it. A gap is repaired by the next conversation patch. */
  | {
      type: 'grew';
      session: DocumentId;
      message: string;
      part: number;
      kind: 'text' | 'thinking' | 'input';
      offset: number;
      text: string;
    }
  /** What the worker of a watched session is doing. */
  | { type: 'activity'; session: DocumentId; state: 'thinking' | 'writing' | 'calling'; tool: string | null; progress: string | null }
  /** Agents, members, workspace name, and models that connected workers offer. */
  | { type: 'workspace'; workspace: WorkspaceRow }
  | { type: 'identity'; identity: Identity | null }
  | { type: 'sync'; sync: SyncRow }
  /** The relay refused a change, or something else that a person must know. */
  | { type: 'fault'; fault: Fault };

export interface WorkspaceRow {
  name: string;
  defaultAgent: string;
  agents: { id: string; name: string; model: string | null; thread: number }[];
  models: string[];
  workers: number;
}

export interface SyncRow {
  state: 'up-to-date' | 'sending' | 'offline' | 'refused' | 'connecting';
  /** Changes that wait (sending, offline) or were refused. */
  changes: number;
  /** Files that the relay may not have. */
  uploads: number;
  /** Commands that wait for their sessions to come to this device. */
  waiting: number;
  /** Commands that waited and could not be done. */
  failed: number;
  /** Of the last contact with the relay. */
  lastContact: number | null;
  /** In words, when the relay can't be reached or refuses this device. */
  reason: string | null;
}

/** Why a call failed. `words/en.ts` has a sentence for each code; `detail` is the engine's own. */
export interface Fault {
  code:
    | 'not-here'
    | 'opening'
    | 'refused'
    | 'bad-command'
    | 'unreachable'
    | 'wrong-token'
    | 'code-used'
    | 'code-expired'
    | 'code-unknown'
    | 'storage'
    | 'too-large'
    | 'engine'
    | 'version';
  detail: string;
}

/** Page → worker. */
export type ToWorker =
  | { type: 'hello'; protocol: number; tab: string }
  | { [N in keyof Commands]: { type: 'call'; call: number; name: N; args: Commands[N]['args'] } }[keyof Commands]
  /** The last batch is on the screen: the next may come. */
  | { type: 'drawn' }
  /** The tab is going. Not every end says so: the worker also waits for the lock that each tab holds. */
  | { type: 'bye' };

/** Worker → page. */
export type FromWorker =
  /** `life`: the Web Lock that this worker holds while it lives; `null` where there are no locks. */
  | { type: 'ready'; protocol: number; life: string | null }
  | { type: 'done'; call: number; result: unknown }
  | { type: 'failed'; call: number; fault: Fault }
  | { type: 'patches'; patches: Patch[] }
  /** The engine has failed and ends: calls in flight get no answer; open another. */
  | { type: 'gone' };
