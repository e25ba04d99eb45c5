//! What a model is asked, whatever the provider: a preamble and the entries of a conversation. A provider turns it into
//! bytes, and the same prompt always into the same bytes: the request of a later turn begins with those of an earlier
//! one, which is what "resume with the token cache" means.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What stands before the conversation. Stored as a blob that the run names, so that later runs send the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preamble {
    /// The agent's instructions.
    pub system: String,
    /// In the order in which they are offered.
    pub tools: Vec<ToolDefinition>,
    /// Tools and integrations that the agent lists; not sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listed: Vec<String>,
    /// The most tokens that an answer may have, where the provider must be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Tokens that the model may think with; 0: not at all; `None`: as the provider does by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<u64>,
    /// From 0 to 2; `None`: the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
}

/// A tool as a model sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// 1 to 64 characters of `a-zA-Z0-9_-`.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// The JSON schema of its input, as JSON text.
    pub schema: String,
}

impl Preamble {
    /// Its bytes, and their SHA-256 in hex.
    pub fn to_blob(&self) -> (String, Vec<u8>) {
        let bytes = serde_json::to_vec(self).expect("strings and numbers are always JSON");
        (hex(&Sha256::digest(&bytes)), bytes)
    }

    /// From its bytes; `None` if they are no preamble.
    pub fn of_blob(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request, before a provider has turned it into bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// Without the provider's name.
    pub model: String,
    /// What stands before.
    pub preamble: Preamble,
    /// The conversation.
    pub entries: Vec<Entry>,
    /// How a cut answer is to be taken up.
    pub resume: Option<Resume>,
}

/// How to go on with text that was cut: it stands as the last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The provider continues the last entry as it stands.
    Prefill,
    /// A request quotes its last words.
    Quote,
}

/// One step of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A person's words.
    User {
        /// Not empty, unless there are pictures.
        text: String,
        /// What came with them.
        images: Vec<Image>,
    },
    /// What the model said.
    Assistant {
        /// Not empty; empty text without provider data is left out.
        pieces: Vec<Piece>,
    },
    /// What its calls gave: every call of the entry before has exactly one.
    Results {
        /// In the order of the calls.
        results: Vec<CallResult>,
    },
}

/// A piece of what a model said. `data` is what must go back unchanged: a JSON object, present only if it came from the
/// provider that is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Words.
    Text {
        /// As it came.
        text: String,
        /// See [`Piece`].
        data: Option<String>,
    },
    /// Reasoning. Without data it is not sent.
    Thinking {
        /// As it came.
        text: String,
        /// See [`Piece`].
        data: Option<String>,
    },
    /// A call, its input whole.
    Call {
        /// As sent to the provider: its own id, else ours.
        id: String,
        /// The tool.
        name: String,
        /// A JSON object's text.
        input: String,
        /// See [`Piece`].
        data: Option<String>,
    },
    /// A block of the provider's own.
    Other {
        /// The whole block.
        data: String,
    },
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq)]
pub struct CallResult {
    /// As in the call.
    pub id: String,
    /// What the model reads; may be empty.
    pub content: String,
    /// A failure.
    pub is_error: bool,
    /// Pictures among what it gave.
    pub images: Vec<Image>,
}

/// A picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`, by its bytes.
    pub mime: String,
    /// The file.
    pub bytes: Arc<[u8]>,
}

impl std::fmt::Debug for Image {
    /// Without the bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("mime", &self.mime).field("bytes", &self.bytes.len()).finish()
    }
}

impl Image {
    /// The file in base64.
    pub fn base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// `data:image/png;base64,…`.
    pub fn data_url(&self) -> String {
        format!("data:{};base64,{}", self.mime, self.base64())
    }
}

/// A thinking budget in tokens as a word of OpenAI's. Not every model takes `none` or `minimal`; all that reason take
/// `low` (<https://platform.openai.com/docs/guides/reasoning>).
pub fn effort(tokens: u64) -> &'static str {
    match tokens {
        0..=2_048 => "low",
        2_049..=12_288 => "medium",
        _ => "high",
    }
}

/// Whether the turn before and up to this entry has calls: only there some providers want their reasoning back.
pub fn in_turn_with_calls(entries: &[Entry], index: usize) -> bool {
    let turn = entries[..=index].iter().rev().take_while(|entry| !matches!(entry, Entry::User { .. }));
    turn.into_iter().any(|entry| match entry {
        Entry::Assistant { pieces } => pieces.iter().any(|piece| matches!(piece, Piece::Call { .. })),
        _ => false,
    })
}

impl Prompt {
    /// Whether a picture goes with it.
    pub fn has_pictures(&self) -> bool {
        self.entries.iter().any(|entry| match entry {
            Entry::User { images, .. } => !images.is_empty(),
            Entry::Results { results } => results.iter().any(|result| !result.images.is_empty()),
            Entry::Assistant { .. } => false,
        })
    }

    /// The text that the last entry ends with, if it ends with text: what a cut answer is continued from.
    pub fn last_text(&self) -> Option<&str> {
        match self.entries.last()? {
            Entry::Assistant { pieces } => match pieces.last()? {
                Piece::Text { text, .. } if !text.trim().is_empty() => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// The sentence that asks for the rest of a cut answer.
    pub fn quote(&self) -> Option<String> {
        let text = self.last_text()?.trim_end();
        let start = text.char_indices().rev().nth(159).map_or(0, |(at, _)| at);
        // Whole words, where there are several.
        let start = match text[start..].find(' ') {
            Some(space) if start > 0 => start + space + 1,
            _ => start,
        };
        Some(format!(
            "Your answer was interrupted. It ended with these words:\n\n{}\n\nGo on from exactly there: don't repeat \
             anything, don't comment on the interruption, write only what follows.",
            &text[start..]
        ))
    }
}

/// Gives out the ids under which calls are sent: the provider's own where one came, but each only once, since some
/// providers number from 0 in each answer.
#[derive(Debug, Default)]
pub struct CallIds(BTreeSet<String>);

impl CallIds {
    /// The id to send.
    pub fn give(&mut self, ours: &str, providers: Option<&str>) -> String {
        match providers.filter(|id| !id.is_empty()) {
            Some(id) if self.0.insert(id.to_owned()) => id.to_owned(),
            _ => ours.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preamble_has_one_encoding_and_comes_back() {
        let preamble = Preamble { system: "Be kind.".into(), ..Preamble::default() };
        let (hash, bytes) = preamble.to_blob();
        assert_eq!(hash.len(), 64);
        assert_eq!(Preamble::of_blob(&bytes), Some(preamble.clone()));
        assert_eq!(preamble.to_blob().0, hash);
        assert_eq!(Preamble::of_blob(b"[]"), None);
    }

    #[test]
    fn the_same_provider_id_in_two_answers_is_two_calls() {
        let mut ids = CallIds::default();
        assert_eq!(ids.give("A", Some("call_0")), "call_0");
        assert_eq!(ids.give("B", Some("call_0")), "B");
        assert_eq!(ids.give("C", None), "C");
        assert_eq!(ids.give("D", Some("")), "D");
    }
}
