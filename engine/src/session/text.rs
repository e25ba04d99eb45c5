//! What a run says (rule 5): its predecessor's text up to where it goes on, then its own messages; and the calls in that
//! text, each folded into one (rule 14).

use sha2::{Digest, Sha256};

use super::hash::HashMap;
use super::model::{CallState, Continues, Message, PartKind, ToolCall};
use super::outline::Outline;
use super::rules::{Rule, off};
use crate::ids::Epoch;

/// One message of a run's text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    /// The message.
    pub message: &'a Message,
    /// Its index in the session.
    pub at: usize,
    /// Index of the run that wrote it, in the outline.
    pub run: usize,
    /// Of its last shown part: the index, and how many bytes of it are shown; `None`: all of it.
    pub cut: Option<(u64, u64)>,
}

impl<'a> Segment<'a> {
    /// The parts that are shown: index, part, and the words of it if it is cut text.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u64, &'a PartKind, &'a super::model::Part)> + use<'a> {
        let last = self.cut.map_or(u64::MAX, |(part, _)| part);
        (0..)
            .zip(&self.message.parts)
            .take_while(move |(index, _)| *index <= last)
            .map(|(index, part)| (index, &part.kind, part))
    }

    /// Text of a part, as far as it is shown.
    pub(crate) fn shown(&self, index: u64, text: &'a str) -> &'a str {
        match self.cut {
            Some((part, bytes)) if part == index => &text[..floor(text, bytes)],
            _ => text,
        }
    }
}

/// The last boundary of characters at or before `bytes`.
fn floor(text: &str, bytes: u64) -> usize {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(text.len());
    (0..=bytes).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// The text of a run, oldest message first.
pub(crate) fn text<'a>(outline: &Outline<'a>, run: usize) -> Vec<Segment<'a>> {
    let mut segments = Vec::new();
    let mut at = run;
    let mut limit: Option<(usize, &Continues)> = None;
    loop {
        let own = outline.own(at).iter().rev().skip_while(|&&index| limit.is_some_and(|(last, _)| index > last));
        segments.extend(own.map(|&index| Segment {
            message: &outline.session.messages[index],
            at: index,
            run: at,
            cut: limit.filter(|(last, _)| index == *last).map(|(_, end)| (end.part, end.bytes)),
        }));
        // An epoch goes on from an earlier one of its turn; anything else could turn in a circle.
        let this = outline.run(at);
        let Some(continues) = this.continues.as_ref().filter(|_| !off(Rule::Continues)) else { break };
        let Some(index) = outline.message_index(&continues.message) else { break };
        let Some(earlier) = outline.run_of(&outline.session.messages[index]) else { break };
        let run = outline.run(earlier);
        if run.turn != this.turn || run.epoch >= this.epoch {
            break;
        }
        (at, limit) = (earlier, Some((index, continues)).filter(|_| !off(Rule::Cut)));
    }
    segments.reverse();
    segments
}

/// Where a successor of this text goes on: at its end (rule 6), `None` while there is none.
pub(crate) fn end(text: &[Segment<'_>]) -> Option<Continues> {
    text.iter().rev().find_map(|segment| {
        let (index, kind, _) = segment.parts().last()?;
        let bytes = match kind {
            PartKind::Text(words) | PartKind::Thinking(words) => segment.shown(index, words).len(),
            _ => 0,
        };
        Some(Continues { message: segment.message.id.clone(), part: index, bytes: bytes as u64 })
    })
}

/// A call in a run's text, all its parts folded.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    /// Its first part.
    pub first: &'a ToolCall,
    /// The provider's id, of the part that has one.
    pub provider_id: Option<&'a str>,
    /// Its input, of the part that has one.
    pub input: &'a str,
    /// Of its last part.
    pub state: CallState,
    /// Of the message that holds its last part.
    pub epoch: Option<Epoch>,
    /// Whether its result is an error, once that stands.
    pub failed: Option<bool>,
}

impl Call<'_> {
    /// Whether it is a question to a person, if no decision has come.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.state, CallState::Waiting | CallState::InDoubt) && self.failed.is_none()
    }

    /// The stop that a call in doubt is beside its own id: whoever saw only the question that let it run the first time
    /// has not seen this one.
    pub(crate) fn doubt(&self) -> Option<String> {
        let epoch = self.epoch.filter(|_| self.state == CallState::InDoubt)?;
        Some(format!("{}/{}", self.first.id, epoch.0))
    }

    /// What an approval must name. A call in doubt asks another question than the one that let it run the first time,
    /// so that the first approval doesn't answer it: its digest also holds the epoch that found it in doubt.
    pub(crate) fn digest(&self) -> String {
        match (self.state, self.epoch) {
            (CallState::InDoubt, Some(epoch)) if !off(Rule::InDoubt) => {
                digest(&[&self.first.name, self.input, "in_doubt", &epoch.0.to_string()])
            }
            _ => call_digest(&self.first.name, self.input),
        }
    }
}

/// SHA-256 (hex) of a tool's name, a line feed, and the input's JSON text: what an approval names (rule 14).
pub fn call_digest(name: &str, input: &str) -> String {
    digest(&[name, input])
}

fn digest(lines: &[&str]) -> String {
    hex::encode(Sha256::digest(lines.join("\n")))
}

/// The calls of a text in order, by id.
#[derive(Debug, Default)]
pub(crate) struct Calls<'a> {
    /// In the order of their first parts.
    pub list: Vec<Call<'a>>,
    by_id: HashMap<&'a str, usize>,
}

impl<'a> Calls<'a> {
    /// Folds the calls of a text.
    pub(crate) fn of(text: &[Segment<'a>]) -> Self {
        let mut calls = Self::default();
        for segment in text {
            for (_, kind, _) in segment.parts() {
                match kind {
                    PartKind::ToolCall(part) => calls.add(part, segment.message.epoch),
                    PartKind::ToolResult { call, is_error, .. } => {
                        if let Some(&at) = calls.by_id.get(call.as_str()) {
                            calls.list[at].failed = Some(*is_error);
                        }
                    }
                    _ => {}
                }
            }
        }
        calls
    }

    fn add(&mut self, part: &'a ToolCall, epoch: Option<Epoch>) {
        let Some(&at) = self.by_id.get(part.id.as_str()) else {
            self.by_id.insert(&part.id, self.list.len());
            self.list.push(Call {
                first: part,
                provider_id: part.provider_id.as_deref(),
                input: part.input.as_deref().unwrap_or_default(),
                state: part.state,
                epoch,
                failed: None,
            });
            return;
        };
        let call = &mut self.list[at];
        if !off(Rule::LastState) {
            call.state = part.state;
        }
        call.epoch = epoch;
        call.provider_id = call.provider_id.or(part.provider_id.as_deref());
        if call.input.is_empty() {
            call.input = part.input.as_deref().unwrap_or_default();
        }
    }

    /// The call with this id.
    pub(crate) fn get(&self, id: &str) -> Option<&Call<'a>> {
        self.by_id.get(id).map(|&at| &self.list[at])
    }
}
