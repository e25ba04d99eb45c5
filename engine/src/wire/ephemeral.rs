//! Ephemeral payloads, on a session's document id: live tokens and what a viewer asks for. They are never stored.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Micros};
use crate::session::model::Usage;

/// One payload; in CBOR a map with `type`. Unknown types are ignored by whoever gets them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Ephemeral {
    /// Text that the model has just written, ahead of the document.
    Tail(Tail),
    /// From a viewer that has just opened the session: send the uncommitted text.
    TailRequest,
    /// What the worker is doing.
    Activity {
        /// The turn.
        turn: String,
        /// The claim.
        epoch: Epoch,
        /// In a word.
        state: ActivityState,
        /// Which tool, while calling.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool: Option<String>,
        /// How far it has come, or what it waits for, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<String>,
    },
    /// A running estimate, replaced by the provider's count in the document.
    Usage {
        /// The turn.
        turn: String,
        /// The claim.
        epoch: Epoch,
        /// By class.
        usage: Usage,
        /// `None`: no price is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost_micros: Option<Micros>,
    },
    /// Someone is looking.
    Presence,
}

/// See [`Ephemeral::Tail`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tail {
    /// The turn.
    pub turn: String,
    /// The claim.
    pub epoch: Epoch,
    /// The message.
    pub message: String,
    /// Index of its part. It may name a message or part that the document doesn't hold yet.
    pub part: u64,
    /// What grows.
    pub kind: TailKind,
    /// UTF-8 bytes of that part before `text`.
    pub offset: u64,
    /// What is new.
    pub text: String,
}

/// What a tail's text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum TailKind {
    /// Words.
    Text,
    /// Reasoning.
    Thinking,
    /// A tool call's input.
    Input,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum ActivityState {
    /// Reasoning, or waiting for the model's first word.
    Thinking,
    /// Words come.
    Writing,
    /// A tool runs.
    Calling,
}
