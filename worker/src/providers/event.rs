//! The one event model: what any provider's answer comes down to. An answer is a run of parts; each part's events come
//! together, end with [`Event::PartDone`], and calls (which may interleave) are told apart by their index.

use skein_engine::session::model::Usage;

use super::failure::Failure;

/// One thing that a provider said.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The answer begins; a second one begins it anew (a gateway's fault), and what came before is void.
    Started,
    /// Words.
    Text(String),
    /// Reasoning.
    Thinking(String),
    /// A call begins.
    CallStarted {
        /// Its number within the answer, from 0.
        index: usize,
        /// The provider's id, if it gave one.
        provider_id: Option<String>,
        /// The tool.
        name: String,
    },
    /// A piece of a call's input.
    CallInput {
        /// Which call.
        index: usize,
        /// JSON text, cut anywhere.
        fragment: String,
    },
    /// A call's input is whole. A call without this event was cut, and never runs.
    CallDone {
        /// Which call.
        index: usize,
        /// JSON text as it came; `{}` where nothing came.
        input: String,
    },
    /// What must go back unchanged with the part that is open, with a call, or (if nothing is open) as a part of its
    /// own without text.
    Opaque {
        /// The call that it belongs to.
        call: Option<usize>,
        /// A JSON object.
        data: String,
    },
    /// A block of the provider's own, whole: a part by itself.
    Other {
        /// In words.
        summary: String,
        /// A JSON object, to go back unchanged.
        data: String,
    },
    /// The open part of text or thinking is complete.
    PartDone,
    /// What was used so far; the last one counts.
    Usage(Report),
    /// The model is done.
    Stopped {
        /// Why, as a class of ours.
        class: Stop,
        /// The provider's word for it; `None` if it gave none.
        word: Option<String>,
        /// What it says about a refusal.
        explanation: Option<String>,
    },
    /// It went wrong; what came before stays.
    Failed(Failure),
}

/// Usage, with what a provider says beside the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// In classes that don't overlap.
    pub usage: Usage,
    /// The provider's own total, where it gives one.
    pub total: Option<u64>,
    /// Tokens were billed that `usage` doesn't hold (another model's, a compaction's).
    pub more: bool,
    /// What the provider says it cost, in millionths of a dollar, rounded to the nearest.
    pub cost_micros: Option<u64>,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was done.
    End,
    /// It wants tools to run.
    ToolUse,
    /// The token limit or the context's end.
    Length,
    /// A filter cut it.
    ContentFilter,
    /// It refused.
    Refusal,
    /// It wants its own answer back, to go on within the same turn.
    PauseTurn,
    /// The provider gave up in the middle.
    Interrupted,
    /// A word that isn't known: taken as done.
    Other,
}

impl Stop {
    /// As a run's `stopReason` holds it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::End | Self::Other => "end",
            Self::ToolUse => "tool_use",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
            Self::Refusal => "refusal",
            Self::PauseTurn => "pause_turn",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether the last call of an answer that stopped so may be whole.
    pub fn completes_calls(self) -> bool {
        matches!(self, Self::End | Self::ToolUse | Self::Other)
    }
}
