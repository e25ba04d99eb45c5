//! What waits for a person's decision: the calls that ask, as lists of all sessions show them.

use serde::{Deserialize, Serialize};

use super::conversation::{Content, Conversation, ShownCallState};
use crate::ids::Timestamp;

/// A tool call that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The call.
    pub call: String,
    /// Its tool.
    pub tool: String,
    /// What the tool would get: JSON text.
    pub input: String,
    /// When its run stopped to ask.
    pub asked_at: Option<Timestamp>,
}

/// The calls of the front run that wait and that nobody has decided, in order.
pub fn asked(conversation: &Conversation) -> Vec<Asked> {
    let front = conversation.turns.iter().find(|turn| Some(&turn.run) == conversation.front.as_ref());
    let asked_at = front.and_then(|turn| turn.ended_at);
    let waits = |id: &String| conversation.stops.contains(id) && !conversation.decisions.contains_key(id);
    let parts = conversation.messages.iter().flat_map(|message| &message.parts);
    let calls = parts.filter_map(|part| match &part.content {
        Content::ToolCall { id, name, input, state: ShownCallState::Waiting, .. } if waits(id) => {
            Some(Asked { call: id.clone(), tool: name.clone(), input: input.clone(), asked_at })
        }
        _ => None,
    });
    calls.collect()
}
