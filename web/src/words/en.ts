// Every string that a person reads, in English. Sentence case, present tense; the cause, then the way out.

import type { Fault, SyncRow } from '../engine/protocol';
import type { ShownCallState, Waiting } from '../engine/types.gen';
import { counted } from './plural';

export const words = {
  app: 'Skein',
  skipToContent: 'Skip to the content',
  close: 'Close',
  cancel: 'Cancel',
  undo: 'Undo',
  unknown: 'unknown',
  you: 'You',
  someone: 'Someone',
  deletedAgent: 'Deleted agent',
  notifications: 'Notifications',
  failedHere: 'This part can’t be shown.',
  tryAgain: 'Try again',

  // Navigation
  workspace: 'Workspace',
  sessions: 'Sessions',
  archive: 'Archive',
  newSession: 'New session',
  needYou: (n: number) => `${n} need you`,
  showSessions: 'Show sessions',
  newer: 'A newer version is ready',
  reload: 'Reload',

  // Sync
  sync: 'Sync',
  syncIs: (words: string) => `Sync: ${words}`,
  lastContact: (time: string) => `Last contact at ${time}.`,
  noContact: 'No contact yet since this page was opened.',
  connectNow: 'Connect now',
  onThisDevice: 'On this device',
  signedInAs: (member: string, relay: string) => `Signed in as ${member} at ${relay}.`,
  signOut: 'Sign out',
  storedHere: (size: string) => `${size} stored.`,
  kept: 'The browser promised to keep it.',
  mayDelete: 'The browser may delete it when it runs short of space.',
  keepIt: 'Keep it',
  notKept: 'The browser made no promise. It may once you have used this page for a while, or installed it.',

  // Sign in
  signIn: 'Sign in',
  signInLead: 'To the relay that keeps your sessions in step.',
  signingIn: 'Signing in',
  relay: 'Relay',
  relayHere: 'This page came from it.',
  relayElsewhere: 'Another relay than the one that sent this page.',
  secret: 'Access token or pairing code',
  secretHint: '`skein serve` prints a link that signs in by itself, a new one at every start. The owner’s token is in its data folder.',
  looksLikeCode: 'A pairing code: it works once, for ten minutes.',
  looksLikeToken: 'An access token.',
  secretMissing: 'Type an access token or a pairing code.',
  freeSoftware: 'Free software; this page speaks to no one but your relay.',
  insecure:
    'This address is neither https nor this machine: sessions can’t be opened offline here. Serve the relay over https to change that.',

  // List of sessions
  view: 'View',
  grid: 'Grid',
  list: 'List',
  searchSessions: 'Search sessions',
  searchByName: 'Search by name',
  search: 'Search',
  statusGroup: 'Status',
  all: 'All',
  needsYou: 'Needs you',
  active: 'Active',
  streaming: 'Streaming',
  paused: 'Paused',
  failed: 'Failed',
  queued: 'Queued',
  archived: 'Archived',
  needsApproval: 'Needs approval',
  spendLimit: 'Spend limit',
  lastSeen: (time: string) => `Streaming when last seen, ${time}`,
  agent: 'Agent',
  allAgents: 'All agents',
  sortBy: 'Sort by',
  ascending: 'Ascending',
  descending: 'Descending',
  sorts: {
    order: 'My order',
    name: 'Name',
    status: 'Status',
    agent: 'Agent',
    cost: 'Cost',
    duration: 'Duration',
    updated: 'Last update',
  },
  thread: 'Thread',
  actionsFor: (name: string) => `Actions for ${name}`,
  nothingMatches: 'Nothing matches',
  noneNamed: (query: string) => `No session is named “${query}”.`,
  noneWith: 'No session matches the filters that are set.',
  clearFilters: 'Clear filters',
  nothingArchived: 'Nothing is archived',
  archiveTeaches: 'An archived session leaves the lists and loses nothing. It still answers what you write to it.',
  opening: 'Opening what is on this device',

  // First run
  firstTitle: 'A session is one thread of work with an agent.',
  firstLead:
    'It keeps every message, every tool call and what each turn cost. It lives on this device first, so it opens at once and works without a network.',
  grammar: 'How to read a thread',
  grammarOf: {
    knot: ['A knot', 'is something you said.'],
    bead: ['A bead', 'is a tool call. Open it to see what went in and what came out.'],
    diamond: ['A diamond', 'asks before it does something. Nothing happens until you answer.'],
    twist: ['A twist', 'is being spun right now.'],
    slack: ['Slack', 'is paused. It goes on from there.'],
    gap: ['A break', 'is a turn that failed. It says why, and can be tried again.'],
    loop: ['A loop', 'is the end of an archived session. Nothing is lost.'],
  },

  // New session
  firstMessage: 'First message',
  name: 'Name',
  namedLater: 'Named after the first answer',
  defaultAgent: (name: string) => `${name} (default)`,
  workersModel: 'The model that the worker offers',
  optional: 'Everything here is optional.',
  create: 'Create',

  // What is done to a session
  open: 'Open',
  rename: 'Rename',
  restore: 'Restore',
  exportMarkdown: 'Export',
  sessionName: 'Session name',
  archivedOne: (name: string) => `Archived ${name}`,
  restoredOne: (name: string) => `Restored ${name}`,
  renamedTo: (name: string) => `Renamed to ${name}`,
  removedMessage: 'Removed a queued message',

  // A session
  renameSession: 'Rename session',
  namedBy: { default: 'Not named yet', auto: 'Named by the agent', user: 'Named by a person' },
  costIs: (cost: string) => `Cost: ${cost}`,
  cost: 'Cost',
  sessionMenu: 'Session menu',
  conversation: 'Conversation',
  messages: 'Messages',
  thinking: 'Thinking',
  toolCall: (name: string) => `Tool call: ${name}`,
  input: 'Input',
  result: 'Result',
  cutInput: 'The input never came whole. The call did not run.',
  showAllLines: (n: number) => `Show all ${counted(n, 'line', 'lines')}`,
  showFewerLines: 'Show fewer lines',
  copyCode: 'Copy code',
  copied: 'Copied',
  picture: (alt: string) => `Picture: ${alt}`,
  unverified: 'Unverified: nobody vouches for who wrote this.',
  unknownPart: (name: string) => `This version can’t show a part of type “${name}”.`,
  attachment: (name: string, size: string) => `${name}, ${size}`,
  tokens: (n: number) => counted(n, 'token', 'tokens'),
  agentChanged: (from: string, to: string) => `The agent changed from ${from} to ${to}`,
  messageActions: 'Message actions',
  copy: 'Copy',
  retry: 'Retry',
  emptySession: 'Nothing has been said yet.',
  emptyHint: 'Write the first message below.',
  jump: 'Jump to latest',
  meanwhile: {
    calls: (n: number) => counted(n, 'tool call', 'tool calls'),
    words: (n: number) => counted(n, 'word', 'words'),
  },

  // Approval
  asks: (tool: string) => `Run ${tool} with this input.`,
  asksAgain: (tool: string) => `The worker was lost while ${tool} ran: it may have happened. Run it again with this input.`,
  allowOnce: 'Allow once',
  allowForSession: 'Allow for this session',
  deny: 'Deny',
  denyReason: 'Reason for denying',
  denyReasonHint: 'Reason, for the agent',
  decided: 'Your decision is on its way to the worker.',
  decidedOne: 'Decided. The agent goes on when every call is decided.',
  decidedState: 'decided',
  decisionWaits: 'Your decision is kept here and sent when the relay answers.',

  // Ends of a turn
  activity: 'Activity',
  writing: 'Writing',
  calling: (tool: string) => `Calling ${tool}`,
  waitingFor: (why: string) => `Waiting: ${why}`,
  yourDecision: 'for your decision',
  starting: 'for the first word',
  failedWith: (cause: string) => `Failed: ${cause.replace(/\.$/, '')}`,
  keptSoFar: 'What came before is kept.',
  details: 'Details',
  pausedBy: (who: string) => `Paused by ${who}`,
  pausedAt: (time: string) => ` at ${time}`,
  pausedByLimit: 'Paused by the spend limit',
  pausedPlain: 'Paused',
  pauseWaits: 'The pause waits to be sent.',
  continue: 'Continue',
  workerLost: 'The worker was lost. The turn is taken up again from its last words.',
  stopReasons: { length: 'Cut by the token limit.', steered: 'Steered.' } as Record<string, string>,

  // Composer and queue
  message: 'Message',
  messageTo: (agent: string) => `Message ${agent}`,
  messageOrContinue: (agent: string) => `Message ${agent}, or continue`,
  queueMessage: 'Queue a message',
  send: 'Send',
  pause: 'Pause',
  queue: 'Queue',
  denyAndSend: 'Deny and send',
  queuedMessages: 'Queued messages',
  remove: 'Remove',
  queuedNote: 'queued',
  atDevice: 'on this device',
  readOnly: 'You can read here, not write.',

  // Cost
  byClass: 'By token class',
  byTurn: 'By turn',
  tokensHead: 'Tokens',
  timeHead: 'Time',
  classes: {
    input: 'Input',
    cacheRead: 'Cache read',
    cacheWrite: 'Cache write',
    cacheWriteLong: 'Cache write, one hour',
    output: 'Output',
    reasoning: 'Reasoning',
  },
  estimateRuns: 'An estimate while a turn runs.',
  estimate: 'Part of it is an estimate.',
  noPrice: 'Some turns have no price. The total leaves them out.',
  noTurns: 'No turn yet.',

  // Not on this device
  absent: {
    opening: 'Opening this session',
    offline: 'This session isn’t on this device. It comes when the relay answers.',
    unknown: 'There is no such session in this workspace.',
  },
  backToSessions: 'All sessions',
  waitingCommands: 'Waiting for this session',
  waitsForSession: 'Waits until this session is on this device.',
  notDone: (why: string) => `Not done: ${why}.`,
  waitingCommand: (type: string) => `${type.charAt(0).toUpperCase()}${type.slice(1).replaceAll('-', ' ')}`,

  // Keyboard
  shortcuts: 'Keyboard shortcuts',
  nextSession: 'Next session',
  previousSession: 'Previous session',
  goSessions: 'Go to the sessions',
  goArchive: 'Go to the archive',
  closeOrPause: 'Close what is open, else pause',
} as const;

/** Why a queued message doesn't start. */
export const waiting: Record<Waiting, string> = {
  heldByPause: 'Held: the session is paused',
  heldByApproval: 'Held: a tool call waits for you',
  heldByFailure: 'Held: the last turn failed',
  heldByLimit: 'Held: a limit was reached',
  behindTurn: 'after this answer',
  workerLost: 'Waiting: the worker was lost',
  noWorker: 'Waiting: no worker is connected',
  offline: 'Waiting: you are offline',
  due: 'Waiting: a worker takes it up',
};

export const callStates: Record<ShownCallState, string> = {
  preparing: 'preparing',
  waiting: 'waiting for approval',
  running: 'running',
  denied: 'denied',
  cancelled: 'cancelled',
  cut: 'cut off',
  in_doubt: 'in doubt',
  done: 'done',
  failed: 'failed',
};

/** The Sync button's words, after "Sync: ". */
export function syncWords(sync: SyncRow): string {
  const changes = counted(sync.changes, 'change', 'changes');
  switch (sync.state) {
    case 'up-to-date':
      return 'up to date';
    case 'sending':
      return `sending ${changes}`;
    case 'offline':
      return `offline, ${changes} waiting`;
    case 'refused':
      return `${changes} refused`;
    case 'connecting':
      return 'connecting';
  }
}

/** The same where there is little room. */
export function syncShort(sync: SyncRow): string {
  if (sync.state === 'offline') return sync.changes > 0 ? `Offline, ${sync.changes} waiting` : 'Offline';
  const said = syncWords(sync);
  return `${said.charAt(0).toUpperCase()}${said.slice(1)}`;
}

/** The same as a sentence, for the dialog. */
export const syncLead: Record<SyncRow['state'], string> = {
  'up-to-date': 'Everything here is on the relay, and everything there is here.',
  sending: 'Changes are on their way to the relay.',
  offline: 'Offline. Everything you do is kept here and sent when the relay answers.',
  refused: 'The relay refused changes from this device.',
  connecting: 'Connecting to the relay. Everything you do is kept here meanwhile.',
};

/** A sentence for each fault; a code without one doesn't compile. */
export const faults: Record<Fault['code'], string> = {
  'not-here': 'This session isn’t on this device.',
  opening: 'This session is still opening. Try again in a moment.',
  refused: 'The relay refused this change.',
  'bad-command': 'That can’t be done now.',
  unreachable: 'No relay answers at that address.',
  'wrong-token': 'The relay doesn’t know this token. `skein serve` prints a link that signs in, a new one at every start.',
  'code-used': 'This code was used already. `skein serve` prints a new one at every start.',
  'code-expired': 'This code has expired. `skein serve` prints a new one at every start.',
  'code-unknown': 'The relay doesn’t know this code. Check it; `skein serve` prints a new one at every start.',
  'too-large': 'A file may have 64 MiB.',
  storage: 'This browser can’t store anything now. What you do here is lost when the page closes.',
  engine: 'The engine stopped. Reload the page; what was sent is kept.',
  version: 'This page and its engine are of different versions. Reload the page.',
};
