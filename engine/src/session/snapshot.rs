//! The end of a conversation as plain data: what a device keeps beside a session's changes, and paints while the
//! document itself is being read. A [`Conversation`] with the heads that it was derived from goes in; [`Snapshot`], as
//! bytes, is kept; a conversation of the last [`MESSAGES`] messages comes out.
//!
//! Invariant: it is bounded, and only ever painted. Nothing is derived or written from it, and one of another version, or
//! one that can't be read, counts as missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::conversation::{Content, Conversation, Decision, ShownMessage};
use crate::ids::{ChangeHash, DocumentId};
use crate::wire::cbor;

/// Goes up whenever what is in it changes.
const VERSION: u32 = 1;
/// Messages that are kept, the last ones.
pub const MESSAGES: usize = 200;
/// Bytes of text in them, all together: beyond it, older messages are left out. The last message is kept in any case,
/// with as many of its last parts as fit.
pub const BYTES: usize = 1 << 20;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    version: u32,
    /// The session.
    pub session: DocumentId,
    /// Those of the document that it was derived from, sorted.
    pub heads: Vec<ChangeHash>,
    /// How many visible messages stand before those that are here.
    pub earlier: u64,
    conversation: Conversation,
    // Not printed with a conversation, but painted.
    decisions: BTreeMap<String, Decision>,
}

impl Snapshot {
    /// The end of this conversation, which a document with these heads gave.
    pub fn of(session: DocumentId, heads: Vec<ChangeHash>, conversation: &Conversation) -> Self {
        let mut room = Room { messages: MESSAGES, bytes: BYTES };
        let queued = room.take(&conversation.queued);
        let messages = room.take(&conversation.messages);
        let told: BTreeSet<&str> = messages.iter().chain(&queued).filter_map(|m| m.turn.as_deref()).collect();
        let front = conversation.front.as_ref();
        let turns = conversation.turns.iter();
        let turns = turns.filter(|turn| told.contains(&*turn.id) || Some(&turn.run) == front).cloned().collect();
        Self {
            version: VERSION,
            session,
            heads,
            earlier: (conversation.messages.len() - messages.len()) as u64,
            conversation: Conversation {
                messages,
                queued,
                turns,
                waiting: conversation.waiting,
                front: conversation.front.clone(),
                stops: conversation.stops.clone(),
                status: conversation.status,
                reason: conversation.reason.clone(),
                totals: conversation.totals,
                faults: conversation.faults.clone(),
                ..Conversation::default()
            },
            decisions: conversation.decisions.clone(),
        }
    }

    /// As it is kept.
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// What was kept, if it is of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        cbor::decode::<Self>(bytes).ok().filter(|snapshot| snapshot.version == VERSION)
    }

    /// What to paint: the conversation without the messages before those that were kept.
    pub fn into_conversation(self) -> Conversation {
        Conversation { decisions: self.decisions, ..self.conversation }
    }
}

/// What still fits.
struct Room {
    messages: usize,
    bytes: usize,
}

impl Room {
    /// The last of these messages, as many as fit.
    fn take(&mut self, messages: &[ShownMessage]) -> Vec<ShownMessage> {
        let mut taken = Vec::new();
        for message in messages.iter().rev() {
            let bytes: usize = message.parts.iter().map(|part| bytes_of(&part.content)).sum();
            if self.messages == 0 || (bytes > self.bytes && self.bytes < BYTES) {
                // What is older would stand behind a gap.
                self.messages = 0;
                break;
            }
            self.messages -= 1;
            taken.push(if bytes > self.bytes { self.end_of(message) } else { plain(message) });
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        taken.reverse();
        taken
    }

    /// A message with its last parts only, at least one.
    fn end_of(&self, message: &ShownMessage) -> ShownMessage {
        let mut left = self.bytes;
        let fits = message.parts.iter().rev().take_while(|part| {
            let fits = bytes_of(&part.content) <= left;
            left = left.saturating_sub(bytes_of(&part.content));
            fits
        });
        let from = message.parts.len() - fits.count().max(1).min(message.parts.len());
        let mut end = plain(message);
        end.parts.drain(..from);
        end
    }
}

/// A message as it is painted: without what is for the provider's eyes only.
fn plain(message: &ShownMessage) -> ShownMessage {
    let mut plain = message.clone();
    plain.parts.iter_mut().for_each(|part| part.provider = None);
    plain
}

/// What a part takes, about.
fn bytes_of(content: &Content) -> usize {
    const FRAME: usize = 100;
    FRAME
        + match content {
            Content::Text { text } | Content::Thinking { text } => text.len(),
            Content::ToolCall { input, .. } => input.len(),
            Content::ToolResult { content, .. } => content.len(),
            Content::Other { summary } | Content::Event { summary } => summary.len(),
            Content::Error { message, .. } => message.len(),
            Content::Attachment { .. } | Content::Unknown { .. } => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::conversation::{ShownPart, ShownTurn, TurnState};
    use crate::session::model::{ProviderData, Role};

    fn message(number: usize, texts: &[String]) -> ShownMessage {
        let parts = texts.iter().enumerate().map(|(index, text)| ShownPart {
            index: index as u64,
            content: Content::Text { text: text.clone() },
            omitted: false,
            provider: Some(ProviderData { kind: "test".into(), data: "{}".into() }),
        });
        ShownMessage {
            id: format!("m{number}"),
            role: Role::Assistant,
            author: None,
            created_at: None,
            turn: Some(format!("t{number}")),
            epoch: None,
            unverified: false,
            parts: parts.collect(),
        }
    }

    fn turn(number: usize) -> ShownTurn {
        ShownTurn {
            id: format!("t{number}"),
            run: format!("t{number}/{number}"),
            state: TurnState::Completed,
            stop_reason: None,
            agent: None,
            model: None,
            usage: Default::default(),
            cost_micros: None,
            estimated: false,
            error: None,
            started_at: None,
            ended_at: None,
            inherited: false,
            must_end: None,
        }
    }

    fn of(conversation: &Conversation) -> Snapshot {
        let snapshot = Snapshot::of(DocumentId::random(), Vec::new(), conversation);
        assert_eq!(Snapshot::decode(&snapshot.encode()).as_ref(), Some(&snapshot));
        snapshot
    }

    #[test]
    fn a_short_conversation_is_painted_whole() {
        let decision = Decision::Denied { request: "r".into(), reason: Some("no".into()) };
        let mut conversation = Conversation {
            messages: (0..3).map(|n| message(n, &["text".into()])).collect(),
            queued: vec![message(3, &["waits".into()])],
            turns: (0..3).map(turn).collect(),
            decisions: [("call".to_owned(), decision)].into(),
            ..Conversation::default()
        };
        let snapshot = of(&conversation);
        assert_eq!(snapshot.earlier, 0);
        for message in conversation.messages.iter_mut().chain(&mut conversation.queued) {
            message.parts.iter_mut().for_each(|part| part.provider = None);
        }
        assert_eq!(snapshot.into_conversation(), conversation);
    }

    #[test]
    fn of_a_long_one_the_last_messages_are_kept_with_their_turns() {
        let conversation = Conversation {
            messages: (0..1_000).map(|n| message(n, &["text".into()])).collect(),
            turns: (0..1_000).map(turn).collect(),
            ..Conversation::default()
        };
        let snapshot = of(&conversation);
        assert_eq!(snapshot.earlier, 800);
        let painted = snapshot.into_conversation();
        assert_eq!(painted.messages[0].id, "m800");
        assert_eq!(painted.turns.len(), MESSAGES);
        assert_eq!(painted.turns.last().map(|turn| &*turn.id), Some("t999"));
    }

    #[test]
    fn large_messages_push_out_older_ones_and_never_the_last() {
        let half = "x".repeat(BYTES / 2);
        let conversation = Conversation {
            messages: (0..5).map(|n| message(n, std::slice::from_ref(&half))).collect(),
            ..Conversation::default()
        };
        assert_eq!(of(&conversation).into_conversation().messages.len(), 1, "two halves and their frames don't fit");

        let huge = [half.clone(), half.clone(), half.clone(), "the end".into()];
        let conversation = Conversation { messages: vec![message(0, &huge)], ..Conversation::default() };
        let painted = of(&conversation).into_conversation();
        let parts = &painted.messages[0].parts;
        assert_eq!(parts.iter().map(|part| part.index).collect::<Vec<_>>(), [2, 3]);

        let conversation =
            Conversation { messages: vec![message(0, &["x".repeat(2 * BYTES)])], ..Conversation::default() };
        assert_eq!(of(&conversation).into_conversation().messages[0].parts.len(), 1);
    }

    #[test]
    fn another_version_and_other_bytes_count_as_missing() {
        let mut snapshot = of(&Conversation::default());
        snapshot.version += 1;
        assert_eq!(Snapshot::decode(&snapshot.encode()), None);
        assert_eq!(Snapshot::decode(b"something else"), None);
    }
}
