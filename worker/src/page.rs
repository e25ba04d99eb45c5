//! The message that a run is writing: what is live, what is committed, and the step from one to the other.
//!
//! New text goes out as `tail` at once; the document gets it in chunks, about every two seconds and at each part's end.
//! Invariant: a `tail`'s offset is the number of bytes of its part before it, so that a viewer sees every gap.

use std::collections::BTreeMap;
use std::time::Duration;

use automerge::AutomergeError;
use automerge::transaction::Transaction;
use skein_engine::device::DeviceError;
use skein_engine::ids::{DocumentId, Timestamp, random_id};
use skein_engine::session::model::{CallState, Cost, Part, PartKind, ProviderData, Run, ToolCall, Usage};
use skein_engine::session::write;
use skein_engine::wire::ephemeral::{Ephemeral, Tail, TailKind};
use tokio::time::Instant;

use crate::link::Link;

/// How long text stays uncommitted.
pub const CHECKPOINT: Duration = Duration::from_secs(2);
/// `tail-request`s are answered at most this often.
const ANSWER_EVERY: Duration = Duration::from_millis(100);
/// With every so many checkpoints goes what was used so far: if this process dies, so much of it is known.
const USAGE_EVERY: u32 = 3;

/// See the module.
pub struct Page<'a> {
    link: &'a Link,
    session: DocumentId,
    run: Run,
    author: String,
    /// The provider's kind, for its data.
    kind: &'static str,
    message: Option<String>,
    growing: BTreeMap<u64, Growing>,
    open: Option<u64>,
    committed_at: Instant,
    checkpoints: u32,
    answered_at: Option<Instant>,
}

#[derive(Debug)]
struct Growing {
    kind: TailKind,
    text: String,
    committed: usize,
    sent: usize,
}

/// See [`Page::take_rest`].
pub struct Rest {
    message: String,
    chunks: Vec<(u64, String)>,
}

impl Rest {
    /// Adds it to a change.
    pub fn write(&self, tx: &mut Transaction<'_>) -> Result<(), AutomergeError> {
        self.chunks.iter().try_for_each(|(part, chunk)| write::push_chunk(tx, &self.message, *part, chunk))
    }
}

/// A call on the page.
#[derive(Clone, Debug)]
pub struct Drafted {
    /// Ours.
    pub id: String,
    /// Its part.
    pub part: u64,
    /// The tool.
    pub name: String,
    /// Once it is whole.
    pub input: Option<String>,
    /// What came instead, where the answer was whole but this is no JSON.
    pub broken: Option<String>,
}

impl<'a> Page<'a> {
    /// Of a run that has just begun; nothing is written before something is said.
    pub fn new(link: &'a Link, session: DocumentId, run: Run, author: String, kind: &'static str) -> Self {
        Self {
            link,
            session,
            run,
            author,
            kind,
            message: None,
            growing: BTreeMap::new(),
            open: None,
            committed_at: Instant::now(),
            checkpoints: 0,
            answered_at: None,
        }
    }

    /// The relay that it is written to.
    pub fn link(&self) -> &'a Link {
        self.link
    }

    /// More text or reasoning; another kind than before begins another part.
    pub fn say(&mut self, kind: TailKind, text: &str) -> Result<(), DeviceError> {
        if text.is_empty() {
            return Ok(());
        }
        if let Some(index) = self.open
            && let Some(growing) = self.growing.get_mut(&index)
            && growing.kind == kind
        {
            growing.text.push_str(text);
            return Ok(());
        }
        self.end_part(None)?;
        let content = match kind {
            TailKind::Thinking => PartKind::Thinking(text.to_owned()),
            TailKind::Text | TailKind::Input => PartKind::Text(text.to_owned()),
        };
        let index = self.push(Part { kind: content, provider: None })?;
        self.open = Some(index);
        self.growing.insert(index, Growing { kind, text: text.to_owned(), committed: text.len(), sent: 0 });
        Ok(())
    }

    /// The open part is complete, with what must go back with it: what is left of its text is committed with the next
    /// change, at the latest by [`Page::checkpoint`]. With data and no open part, a part of its own without text.
    pub fn end_part(&mut self, data: Option<&str>) -> Result<(), DeviceError> {
        let Some(index) = self.open.take() else {
            if let Some(data) = data {
                self.push(Part { kind: PartKind::Thinking(String::new()), provider: Some(self.data(data)) })?;
            }
            return Ok(());
        };
        self.flush();
        // The rest of its text goes with whatever is written next: a change of its own is a hundred bytes more.
        let Some(data) = data else { return Ok(()) };
        let (rest, kind) = (self.take_rest(), self.kind);
        self.link.write(self.session, |tx| {
            rest.write(tx)?;
            write::set_provider(tx, &rest.message, index, kind, data)
        })
    }

    /// Commits what is left of parts that have ended: whoever reads the document next reads all of it.
    pub fn commit(&mut self) -> Result<(), DeviceError> {
        let rest = self.take_rest();
        if rest.chunks.is_empty() { Ok(()) } else { self.link.write(self.session, |tx| rest.write(tx)) }
    }

    /// What is left of the text of parts that have ended, for the next change to hold.
    pub fn take_rest(&mut self) -> Rest {
        let mut chunks = Vec::new();
        self.growing.retain(|index, growing| {
            let grows = growing.kind == TailKind::Input || Some(*index) == self.open;
            if !grows && growing.committed < growing.text.len() {
                chunks.push((*index, growing.text.split_off(growing.committed)));
            }
            grows
        });
        Rest { message: self.message.clone().unwrap_or_default(), chunks }
    }

    /// A provider's own block.
    pub fn other(&mut self, summary: String, data: &str) -> Result<(), DeviceError> {
        self.end_part(None)?;
        self.push(Part { kind: PartKind::Other { summary }, provider: Some(self.data(data)) }).map(drop)
    }

    /// A call begins.
    pub fn begin_call(&mut self, provider_id: Option<String>, name: String) -> Result<Drafted, DeviceError> {
        self.end_part(None)?;
        let id = random_id();
        let call =
            ToolCall { id: id.clone(), provider_id, name: name.clone(), input: None, state: CallState::Preparing };
        let part = self.push(Part { kind: PartKind::ToolCall(call), provider: None })?;
        self.growing.insert(part, Growing { kind: TailKind::Input, text: String::new(), committed: 0, sent: 0 });
        Ok(Drafted { id, part, name, input: None, broken: None })
    }

    /// More of a call's input.
    pub fn call_input(&mut self, call: &Drafted, fragment: &str) {
        if let Some(growing) = self.growing.get_mut(&call.part) {
            growing.text.push_str(fragment);
        }
    }

    /// What has come of a call's input.
    pub fn input_so_far(&self, call: &Drafted) -> String {
        self.growing.get(&call.part).map(|growing| growing.text.clone()).unwrap_or_default()
    }

    /// What must go back with a call.
    pub fn call_data(&mut self, call: &Drafted, data: &str) -> Result<(), DeviceError> {
        let (message, kind) = (self.message.clone().unwrap_or_default(), self.kind);
        self.link.write(self.session, |tx| write::set_provider(tx, &message, call.part, kind, data))
    }

    /// Sets a call of this page, with its input once that is whole.
    pub fn set_call(&mut self, call: &Drafted, state: CallState) -> Result<(), DeviceError> {
        self.flush();
        self.growing.remove(&call.part);
        let message = self.message.clone().unwrap_or_default();
        self.link.write(self.session, |tx| write::set_call(tx, &message, call.part, call.input.as_deref(), state))
    }

    /// A call of an earlier epoch has come further: a part of the same id without input (rule 14).
    pub fn mark_call(&mut self, id: &str, name: &str, state: CallState) -> Result<(), DeviceError> {
        self.end_part(None)?;
        let call = ToolCall { id: id.into(), provider_id: None, name: name.into(), input: None, state };
        self.push(Part { kind: PartKind::ToolCall(call), provider: None }).map(drop)
    }

    /// What a call gave, in words of ours.
    pub fn result(&mut self, call: &str, content: &str, is_error: bool) -> Result<(), DeviceError> {
        self.result_of(call, content, is_error, None)
    }

    /// What a call gave; the whole of it stands in a blob that the relay has.
    pub fn result_of(
        &mut self,
        call: &str,
        content: &str,
        is_error: bool,
        blob: Option<String>,
    ) -> Result<(), DeviceError> {
        self.end_part(None)?;
        let kind = PartKind::ToolResult { call: call.into(), content: content.into(), is_error, blob };
        self.push(Part { kind, provider: None }).map(drop)
    }

    /// A file among what the call before gave, in a blob that the relay has.
    pub fn attachment(&mut self, blob: String, mime: &str, name: String, size: u64) -> Result<(), DeviceError> {
        self.end_part(None)?;
        let kind = PartKind::Attachment { blob, mime: mime.to_owned(), name, size };
        self.push(Part { kind, provider: None }).map(drop)
    }

    /// Something that happened, for people and not for models.
    pub fn event(&mut self, summary: &str) -> Result<(), DeviceError> {
        self.end_part(None)?;
        self.push(Part { kind: PartKind::Event { summary: summary.into() }, provider: None }).map(drop)
    }

    /// Sends what is new to viewers.
    pub fn flush(&mut self) {
        let Some(message) = &self.message else { return };
        for (index, growing) in &mut self.growing {
            if growing.sent < growing.text.len() {
                let text = growing.text[growing.sent..].to_owned();
                let tail = tail(&self.run, message, *index, growing.kind, growing.sent, text);
                growing.sent = growing.text.len();
                self.link.broadcast(self.session, &tail);
            }
        }
    }

    /// Commits what has been uncommitted for [`CHECKPOINT`]; with some of them what the run has `spent` so far.
    pub fn checkpoint(&mut self, spent: impl FnOnce() -> (Usage, Cost)) -> Result<(), DeviceError> {
        if self.committed_at.elapsed() < CHECKPOINT {
            return Ok(());
        }
        self.committed_at = Instant::now();
        let Some(message) = self.message.clone() else { return Ok(()) };
        let mut chunks = Vec::new();
        for (index, growing) in &mut self.growing {
            if growing.kind != TailKind::Input && growing.committed < growing.text.len() {
                chunks.push((*index, growing.text[growing.committed..].to_owned()));
                growing.committed = growing.text.len();
            }
        }
        if chunks.is_empty() {
            return Ok(());
        }
        let spent = self.checkpoints.is_multiple_of(USAGE_EVERY).then(spent);
        self.checkpoints += 1;
        let key = self.run.key();
        self.link.write(self.session, |tx| {
            chunks.iter().try_for_each(|(index, chunk)| write::push_chunk(tx, &message, *index, chunk))?;
            spent.map_or(Ok(()), |(usage, cost)| write::set_usage(tx, &key, &usage, &cost))
        })
    }

    /// When [`Page::checkpoint`] is due.
    pub fn checkpoint_at(&self) -> Instant {
        self.committed_at + CHECKPOINT
    }

    /// Answers viewers that have just opened the session: one message a part with its uncommitted text. Whether it was
    /// not too soon.
    pub fn answer_tail_request(&mut self) -> bool {
        if self.answered_at.is_some_and(|at| at.elapsed() < ANSWER_EVERY) {
            return false;
        }
        self.answered_at = Some(Instant::now());
        let Some(message) = &self.message else { return true };
        for (index, growing) in &mut self.growing {
            let text = growing.text[growing.committed..].to_owned();
            growing.sent = growing.text.len();
            if !text.is_empty() {
                let tail = tail(&self.run, message, *index, growing.kind, growing.committed, text);
                self.link.broadcast(self.session, &tail);
            }
        }
        true
    }

    /// The text of the open part, if it is of this kind.
    pub fn open_text(&self) -> &str {
        let open = self.open.and_then(|index| self.growing.get(&index));
        open.filter(|growing| growing.kind == TailKind::Text).map_or("", |growing| &growing.text)
    }

    fn data(&self, data: &str) -> ProviderData {
        ProviderData { kind: self.kind.to_owned(), data: data.to_owned() }
    }

    fn push(&mut self, part: Part) -> Result<u64, DeviceError> {
        let rest = self.take_rest();
        let (run, author, begun) = (&self.run, &self.author, self.message.clone());
        let now = self.link.read(|_, now| now);
        let (message, index) = self.link.write(self.session, |tx| {
            rest.write(tx)?;
            let message = match begun {
                Some(message) => message,
                None => write::begin_message(tx, run, author, now)?,
            };
            let index = write::push_part(tx, &message, &part)?;
            Ok((message, index))
        })?;
        self.message = Some(message);
        Ok(index)
    }
}

fn tail(run: &Run, message: &str, part: u64, kind: TailKind, offset: usize, text: String) -> Ephemeral {
    Ephemeral::Tail(Tail {
        turn: run.turn.clone(),
        epoch: run.epoch,
        message: message.to_owned(),
        part,
        kind,
        offset: offset as u64,
        text,
    })
}

/// A worker's clock, as documents hold it.
pub fn now(link: &Link) -> Timestamp {
    link.read(|_, now| now)
}
