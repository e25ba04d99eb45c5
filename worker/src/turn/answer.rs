//! Asking the model: one request after the other until an answer comes to its end, and everything that streams in put
//! on the page.

use std::collections::BTreeMap;
use std::time::Duration;

use skein_engine::device::DeviceError;
use skein_engine::ids::Timestamp;
use skein_engine::session::model::{CallState, RunError};
use skein_engine::wire::ephemeral::{ActivityState, TailKind};
use tokio::time::Instant;

use super::{End, Turn};
use crate::files;
use crate::history::{self, Asked};
use crate::limit::{self, Limits};
use crate::overlap::Overlap;
use crate::page::{Drafted, now};
use crate::providers::Kind;
use crate::providers::demo::prompt_tokens;
use crate::providers::event::{Event, Stop};
use crate::providers::failure::{Class, Failure};
use crate::providers::prompt::{Entry, Prompt, Resume};
use crate::providers::transport::Answering;
use crate::signals::{Signal, Why};
use crate::spending::{Request, cache_life_ms};

/// How often a request is tried, and for how long, before the turn fails.
const TRIES: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(20);
/// The running estimate is told to viewers at most this often.
const ESTIMATE_EVERY: Duration = Duration::from_secs(1);

/// What became of asking.
pub(super) enum Said {
    Answer(Answer),
    Failed(Failure),
    End(End),
}

/// An answer that came to its end.
pub(super) struct Answer {
    pub(super) stop: Stop,
    pub(super) explanation: Option<String>,
    pub(super) spoke: bool,
    pub(super) calls: Vec<Drafted>,
}

/// An answer under way.
#[derive(Default)]
struct Draft {
    calls: BTreeMap<usize, Drafted>,
    overlap: Option<Overlap>,
    request: Request,
    spoke: bool,
    stopped: Option<(Stop, Option<String>)>,
    failed: Option<Failure>,
    /// A spend limit was reached while it streamed.
    limit: Option<RunError>,
}

impl Turn<'_> {
    /// One answer, with transient failures tried again. What came before a failure is kept and continued.
    pub(super) async fn answer(&mut self) -> Result<Said, DeviceError> {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            let prompt = self.prompt().await?;
            if prompt.entries.is_empty() {
                let nothing = Failure::new(Class::BadRequest, "there is no text to answer");
                return Ok(Said::Failed(nothing));
            }
            let cost = self.spending.cost();
            if let Some(error) = limit::before(self.link, self.session, &self.run, &mut self.day, &cost).await {
                return Ok(Said::End(End::Paused("limit", Some(error))));
            }
            let failure = match self.attempt(&prompt).await? {
                Said::Failed(failure) => failure,
                said => return Ok(said),
            };
            if prompt.resume == Some(Resume::Prefill) && failure.class == Class::BadRequest && !self.no_prefill {
                self.no_prefill = true;
                continue;
            }
            tries += 1;
            let pause = pause_before(tries, failure.retry_after_ms);
            if !failure.class.is_transient() || tries >= TRIES || begun.elapsed() + pause > PATIENCE {
                return Ok(Said::Failed(failure));
            }
            self.note_spending()?;
            tracing::info!(session = %self.session, class = failure.class.code(), tries, "a request is tried again");
            tokio::select! {
                _ = tokio::time::sleep(pause) => {}
                why = self.signals.end() => return Ok(Said::End(why.into())),
            }
        }
    }

    async fn prompt(&mut self) -> Result<Prompt, DeviceError> {
        let conversation = self.link.read(|device, now| device.conversation(now, self.session))?;
        files::load(self.link, &conversation, &mut self.files).await;
        let asked = Asked {
            provider: &self.model.endpoint.name,
            model: &self.model.name,
            kind: self.model.endpoint.kind.as_str(),
        };
        let entries = self.link.read(|device, _| {
            let session = device.session(self.session)?;
            Ok::<_, DeviceError>(history::entries(session, &conversation, &self.files, &self.run.turn, asked))
        })?;
        let mut prompt =
            Prompt { model: self.model.name.clone(), preamble: self.preamble.clone(), entries, resume: None };
        if matches!(prompt.entries.last(), Some(Entry::Assistant { .. })) && prompt.last_text().is_some() {
            // An answer that begins with thinking can't be put into a model's mouth.
            let thinks = self.model.endpoint.kind == Kind::Anthropic && self.preamble.thinking.is_some_and(|n| n > 0);
            let prefill = self.model.endpoint.kind.prefills() && !thinks && !self.no_prefill;
            prompt.resume = Some(if prefill { Resume::Prefill } else { Resume::Quote });
        }
        Ok(prompt)
    }

    async fn attempt(&mut self, prompt: &Prompt) -> Result<Said, DeviceError> {
        self.activity(ActivityState::Thinking, None);
        let mut draft = Draft {
            overlap: match (prompt.resume, prompt.last_text()) {
                (Some(Resume::Prefill), Some(said)) => Some(Overlap::prefilled(said)),
                (Some(Resume::Quote), Some(said)) => Some(Overlap::quoted(said)),
                _ => None,
            },
            request: Request { prompt: prompt_tokens(prompt), ..Request::default() },
            // Words that go on from others need not say more.
            spoke: prompt.resume.is_some(),
            ..Draft::default()
        };
        let mut endpoint = self.model.endpoint.clone();
        if let Some(variable) = &self.model.key_variable {
            endpoint.key = std::env::var(variable).ok().filter(|key| !key.is_empty());
            if endpoint.key.is_none() {
                let why = format!("the environment variable {variable}, which should hold it, is not set");
                return Ok(Said::Failed(Failure::new(Class::Key, why)));
            }
        }
        let transport = self.transport.clone();
        let asking = transport.ask(&endpoint, prompt);
        let mut answering = tokio::select! {
            why = self.signals.end() => return Ok(Said::End(why.into())),
            answering = asking => match answering {
                Ok(answering) => answering,
                Err(failure) => return Ok(Said::Failed(failure)),
            },
        };
        let ended = self.stream(&mut answering, &mut draft).await?;
        if ended == Some(Why::Lost) {
            return Ok(Said::End(Why::Lost.into()));
        }
        // Whatever came is kept, and what was open is closed as cut: the connection ends here.
        for event in answering.cut() {
            self.take(event, &mut draft)?;
        }
        self.close(&mut draft)?;
        self.spent(&draft.request)?;
        let ended = ended.map(End::from).or(draft.limit.take().map(|error| End::Paused("limit", Some(error))));
        if let Some(end) = ended {
            for call in draft.calls.values().filter(|call| call.input.is_some()) {
                self.page.set_call(call, CallState::Cancelled)?;
            }
            return Ok(Said::End(end));
        }
        match (draft.failed, draft.stopped) {
            (None, Some((Stop::Interrupted, _))) => {
                Ok(Said::Failed(Failure::new(Class::Cut, "the provider gave up in the middle")))
            }
            (None, Some((stop, explanation))) => {
                let calls = draft.calls.into_values().filter(|call| call.input.is_some()).collect();
                Ok(Said::Answer(Answer { stop, explanation, spoke: draft.spoke, calls }))
            }
            (Some(failure), _) => {
                // Their answer never ended: they are not run.
                for call in draft.calls.values().filter(|call| call.input.is_some()) {
                    self.page.set_call(call, CallState::Cancelled)?;
                }
                Ok(Said::Failed(failure))
            }
            (None, None) => Ok(Said::Failed(Failure::new(Class::Cut, "the stream ended without a word"))),
        }
    }

    /// Writes what streams in. Ends with the stream, or with a reason to stop.
    async fn stream(&mut self, answering: &mut Answering, draft: &mut Draft) -> Result<Option<Why>, DeviceError> {
        let mut estimated_at = Instant::now();
        let mut asked = false;
        loop {
            tokio::select! {
                biased;
                signal = self.signals.next() => match signal {
                    Signal::End(why) => return Ok(Some(why)),
                    Signal::TailRequest => asked = !self.page.answer_tail_request(),
                },
                events = answering.next() => {
                    let Some(events) = events else { return Ok(None) };
                    for event in events {
                        self.take(event, draft)?;
                    }
                    self.page.flush();
                    self.checkpoint(draft)?;
                    if draft.failed.is_some() {
                        return Ok(None);
                    }
                }
                _ = tokio::time::sleep_until(self.page.checkpoint_at()) => self.checkpoint(draft)?,
                _ = tokio::time::sleep(Duration::from_millis(100)), if asked => {
                    asked = !self.page.answer_tail_request();
                }
            }
            if estimated_at.elapsed() >= ESTIMATE_EVERY {
                estimated_at = Instant::now();
                self.estimate(&draft.request);
                let cost = self.spending.with(&draft.request).cost();
                if let Some(error) = limit::within(self.link, self.session, &self.run, &mut self.day, &cost) {
                    draft.limit = Some(error);
                    return Ok(None);
                }
            }
        }
    }

    /// A request is over: what it used counts, and what it holds is what going on sends again.
    fn spent(&mut self, request: &Request) -> Result<(), DeviceError> {
        self.spending.add(request);
        self.day.note(&self.spending.cost());
        let (usage, _) = request.usage();
        let cached_until = cache_life_ms(&usage).map(|ms| Timestamp(now(self.link).0 + ms));
        self.context = Some((usage.total(), cached_until));
        if self.spending.is_unknown()
            && !self.warned
            && !Limits::of(self.link, self.session, &self.run, &self.day).is_empty()
        {
            self.warned = true;
            let model = self.run.full_model().unwrap_or_default();
            self.page.event(&format!(
                "The spend limit can't be kept: no price is known for {model}. A [[price]] in skein.toml gives it one."
            ))?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, draft: &Draft) -> Result<(), DeviceError> {
        let sum = || self.spending.with(&draft.request);
        self.page.checkpoint(|| (sum().usage(), sum().cost()))
    }

    fn take(&mut self, event: Event, draft: &mut Draft) -> Result<(), DeviceError> {
        match event {
            Event::Started => {
                if !self.page.open_text().is_empty() {
                    // The answer begins anew (a gateway's fault): what it says again is dropped.
                    draft.overlap = Some(Overlap::prefilled(self.page.open_text()));
                }
            }
            Event::Text(text) => {
                draft.request.written += text.chars().count() as u64;
                let text = match &mut draft.overlap {
                    Some(overlap) => overlap.push(&text),
                    None => text,
                };
                self.say(TailKind::Text, &text, draft)?;
            }
            Event::Thinking(text) => {
                draft.request.reasoned += text.chars().count() as u64;
                self.say(TailKind::Thinking, &text, draft)?;
            }
            Event::PartDone => {
                self.say_held(draft)?;
                self.page.end_part(None)?;
            }
            Event::Opaque { call: None, data } => self.page.end_part(Some(&data))?,
            Event::Opaque { call: Some(index), data } => {
                if let Some(call) = draft.calls.get(&index) {
                    self.page.call_data(call, &data)?;
                }
            }
            Event::Other { summary, data } => self.page.other(summary, &data)?,
            Event::CallStarted { index, provider_id, name } => {
                self.say_held(draft)?;
                self.activity(ActivityState::Writing, None);
                let call = self.page.begin_call(provider_id, name)?;
                draft.calls.insert(index, call);
            }
            Event::CallInput { index, fragment } => {
                draft.request.written += fragment.chars().count() as u64;
                if let Some(call) = draft.calls.get(&index) {
                    self.page.call_input(call, &fragment);
                }
            }
            Event::CallDone { index, input } => {
                if let Some(call) = draft.calls.get_mut(&index) {
                    call.input = Some(input);
                    self.page.set_call(call, CallState::Preparing)?;
                }
            }
            Event::Usage(report) => draft.request.report = Some(report),
            Event::Stopped { class, explanation, .. } => {
                draft.request.complete = true;
                draft.stopped = Some((class, explanation));
            }
            Event::Failed(failure) => draft.failed = draft.failed.take().or(Some(failure)),
        }
        Ok(())
    }

    fn say(&mut self, kind: TailKind, text: &str, draft: &mut Draft) -> Result<(), DeviceError> {
        if !text.is_empty() {
            draft.spoke |= kind == TailKind::Text;
            let state = match kind {
                TailKind::Thinking => ActivityState::Thinking,
                TailKind::Text | TailKind::Input => ActivityState::Writing,
            };
            self.activity(state, None);
        }
        self.page.say(kind, text)
    }

    /// What was held back as a possible repetition.
    fn say_held(&mut self, draft: &mut Draft) -> Result<(), DeviceError> {
        let held = draft.overlap.take().map(|mut overlap| overlap.end()).unwrap_or_default();
        self.say(TailKind::Text, &held, draft)
    }

    /// Closes an answer: calls that never were whole are cut.
    fn close(&mut self, draft: &mut Draft) -> Result<(), DeviceError> {
        self.say_held(draft)?;
        self.page.end_part(None)?;
        self.page.commit()?;
        draft
            .calls
            .values()
            .filter(|call| call.input.is_none())
            .try_for_each(|call| self.page.set_call(call, CallState::Cut))
    }
}

/// What to wait before the next try: what the provider says, else twice as long each time, from half a second, with up
/// to a quarter of chance so that workers don't come back together.
fn pause_before(tries: u32, retry_after_ms: Option<u64>) -> Duration {
    let ms = retry_after_ms.unwrap_or(500 << (tries - 1).min(6));
    let [chance] = skein_engine::ids::random_bytes::<1>();
    Duration::from_millis(ms + ms * u64::from(chance) / 1024)
}
