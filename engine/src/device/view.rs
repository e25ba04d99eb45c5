//! A session as it is looked at: the document as plain data and its conversation, each kept until what it comes from
//! changes, and the live text beyond them.
//!
//! Invariant: live text is believed only from the worker and the epoch that the document's streaming run names.

use automerge::{Automerge, Change};

use crate::ids::{Epoch, PeerId, Timestamp};
use crate::session::Derived;
use crate::session::conversation::{Content, Conversation, Leases, ShownCallState, ShownMessage, ShownPart, Writers};
use crate::session::model::{PartKind, Role, RunState, Session};
use crate::session::tail::{Stitched, Tails};
use crate::wire::ephemeral::{Tail, TailKind};

/// A viewer asks for the uncommitted text at most this often.
const ASK_EVERY_MS: u64 = 500;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct View {
    derived: Derived,
    tails: Tails,
    /// The run that streams, as the document says.
    live: Option<LiveRun>,
    /// Live text was dropped that the document can't place yet, or that has a gap before it.
    missed: bool,
    /// Whether the worker was ever asked for the uncommitted text on this connection.
    asked: bool,
    asked_at: Option<Timestamp>,
}

/// The run whose live text is believed.
#[derive(Clone, Debug, PartialEq)]
struct LiveRun {
    turn: String,
    epoch: Epoch,
    worker: Option<String>,
    agent: Option<String>,
}

/// Live text that is new, and where it stands in its part.
pub(super) struct Grown {
    pub(super) offset: u64,
    pub(super) text: String,
}

impl View {
    /// The document has changed, by these changes.
    pub(super) fn document_changed(&mut self, changes: &[Change]) {
        self.derived.changed(changes);
    }

    /// Leases or writers have changed.
    pub(super) fn surroundings_changed(&mut self) {
        self.derived.surroundings_changed();
    }

    /// A new connection: live text begins afresh.
    pub(super) fn disconnected(&mut self) {
        self.tails.clear();
        self.asked = false;
        self.missed = false;
        self.surroundings_changed();
    }

    /// The document as plain data.
    pub(super) fn session(&mut self, document: &Automerge) -> &Session {
        self.derived.session(document)
    }

    /// The conversation of what is committed. `surroundings` is asked only if it has to be derived.
    pub(super) fn committed(
        &mut self,
        document: &Automerge,
        now: Timestamp,
        surroundings: impl FnOnce() -> (Leases, Writers),
    ) -> (&Session, &Conversation) {
        let mut derived = false;
        let (session, conversation) = self.derived.conversation(document, now, || {
            derived = true;
            surroundings()
        });
        if derived {
            follow(&mut self.tails, &mut self.live, session, conversation);
        }
        (session, conversation)
    }

    /// The conversation with live text joined on. [`View::committed`] must have been called since the last change.
    pub(super) fn with_live_text(&self) -> Conversation {
        let mut shown = self.derived().map(|(_, conversation)| conversation.clone()).unwrap_or_default();
        if let Some(live) = &self.live {
            for (message, part, tail) in self.tails.parts() {
                join(&mut shown, live, message, part, tail.kind, &self.tails);
            }
        }
        shown
    }

    /// Takes live text. [`View::committed`] must have been called since the last change.
    pub(super) fn receive(&mut self, sender: &PeerId, tail: &Tail) -> Option<Grown> {
        let live = match &self.live {
            Some(live) if live.epoch == tail.epoch && live.turn == tail.turn => live,
            live => {
                // A run that the document doesn't show yet.
                self.missed |= live.as_ref().is_none_or(|live| live.epoch < tail.epoch);
                return None;
            }
        };
        if live.worker.as_deref() != Some(sender.as_str()) {
            return None;
        }
        let committed =
            self.derived.current().map_or(0, |(session, _)| committed_bytes(session, &tail.message, tail.part));
        let stitched = self.tails.receive(
            Some(live.epoch),
            tail.epoch,
            &tail.message,
            tail.part,
            tail.kind,
            committed,
            tail.offset,
            &tail.text,
        );
        match stitched {
            Stitched::Grew(text) => {
                let beyond = self.tails.beyond(&tail.message, tail.part, committed).map_or(0, str::len) as u64;
                let offset = (committed + beyond).saturating_sub(text.len() as u64);
                Some(Grown { offset, text })
            }
            Stitched::Nothing => None,
            Stitched::Gap => {
                self.missed = true;
                None
            }
        }
    }

    /// Whether to ask the worker now for the uncommitted text: at the first look at a session that streams, and when
    /// some was missed, at most every [`ASK_EVERY_MS`]. `lease`: the claim that lives. `settled`: the document is up to
    /// date, so that what streams later is heard from its beginning.
    pub(super) fn asks(&mut self, now: Timestamp, lease: Option<Epoch>, settled: bool) -> bool {
        let streams = self.live.as_ref().is_some_and(|live| Some(live.epoch) == lease);
        let wanted = streams && (!self.asked || self.missed);
        let asks = wanted && self.asked_at.is_none_or(|at| now.ms_since(at) >= ASK_EVERY_MS);
        if asks {
            self.missed = false;
            self.asked_at = Some(now);
        }
        self.asked |= asks || (settled && !streams);
        asks
    }

    /// What [`View::committed`] gave, if nothing has changed since.
    pub(super) fn derived(&self) -> Option<(&Session, &Conversation)> {
        self.derived.current()
    }
}

/// Brings live text in line with a document that has changed.
fn follow(tails: &mut Tails, live: &mut Option<LiveRun>, session: &Session, conversation: &Conversation) {
    let front = conversation.front.as_ref().and_then(|key| session.runs.get(key)).and_then(|runs| runs.last());
    let now = front.filter(|run| run.state == RunState::Streaming).map(|run| LiveRun {
        turn: run.turn.clone(),
        epoch: run.epoch,
        worker: run.worker.clone(),
        agent: run.agent.clone(),
    });
    if now != *live {
        tails.clear();
        *live = now;
        return;
    }
    let parts: Vec<(String, u64)> = tails.parts().map(|(message, part, _)| (message.to_owned(), part)).collect();
    for (message, part) in parts {
        tails.committed(&message, part, committed_bytes(session, &message, part));
    }
}

/// UTF-8 bytes of a part in the document; 0 if it isn't there.
fn committed_bytes(session: &Session, message: &str, part: u64) -> u64 {
    let message = session.messages.iter().rev().find(|known| known.id == message);
    let part = usize::try_from(part).ok().and_then(|index| message?.parts.get(index));
    match part.map(|part| &part.kind) {
        Some(PartKind::Text(text) | PartKind::Thinking(text)) => text.len() as u64,
        Some(PartKind::ToolCall(call)) => call.input.as_ref().map_or(0, String::len) as u64,
        _ => 0,
    }
}

/// Joins the live text of one part onto a conversation; a message or part that the document doesn't hold yet is added.
fn join(shown: &mut Conversation, live: &LiveRun, message: &str, index: u64, kind: TailKind, tails: &Tails) {
    let at = match shown.messages.iter().position(|known| known.id == message) {
        Some(at) => at,
        None => {
            let after = shown.messages.iter().rposition(|known| known.turn.as_deref() == Some(&*live.turn));
            let at = after.map_or(shown.messages.len(), |after| after + 1);
            shown.messages.insert(at, provisional_message(live, message));
            at
        }
    };
    let parts = &mut shown.messages[at].parts;
    let at = match parts.iter().position(|part| part.index >= index) {
        Some(at) if parts[at].index == index => at,
        at => {
            let at = at.unwrap_or(parts.len());
            parts.insert(at, ShownPart { index, content: provisional_content(kind), omitted: false, provider: None });
            at
        }
    };
    if let Content::Text { text } | Content::Thinking { text } | Content::ToolCall { input: text, .. } =
        &mut parts[at].content
        && let Some(beyond) = tails.beyond(message, index, text.len() as u64)
    {
        text.push_str(beyond);
    }
}

fn provisional_message(live: &LiveRun, id: &str) -> ShownMessage {
    ShownMessage {
        id: id.to_owned(),
        role: Role::Assistant,
        author: live.agent.clone(),
        created_at: None,
        turn: Some(live.turn.clone()),
        epoch: Some(live.epoch),
        unverified: false,
        parts: Vec::new(),
    }
}

fn provisional_content(kind: TailKind) -> Content {
    match kind {
        TailKind::Text => Content::Text { text: String::new() },
        TailKind::Thinking => Content::Thinking { text: String::new() },
        TailKind::Input => Content::ToolCall {
            id: String::new(),
            provider_id: None,
            name: String::new(),
            input: String::new(),
            state: ShownCallState::Preparing,
            digest: String::new(),
        },
    }
}
