//! Asking the model: one request after the other until an answer comes to its end, and everything that streams in put
//! on the page.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use skein_engine::device::DeviceError;
use skein_engine::ids::Timestamp;
use skein_engine::session::conversation::{Content, ShownPart};
use skein_engine::session::model::{CallState, RunError};
use skein_engine::wire::ephemeral::{ActivityState, Ephemeral, TailKind};
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
use crate::providers::limits::Place;
use crate::providers::prompt::{Entry, Prompt, Resume};
use crate::providers::transport::{Answering, Endpoint, LONGEST_WAIT, Transport};
use crate::signals::{Signal, Why};
use crate::spending::{Request, cache_life_ms};

/// How many tries in a row may bring nothing new before the turn fails.
const TRIES: u32 = 5;
/// How long may be spent backing off in a row, beside what the provider itself asks to wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// Shorter waits are not worth a word.
const WORTH_SAYING: Duration = Duration::from_secs(1);
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
    /// It brought text that wasn't there before.
    gained: bool,
    stopped: Option<(Stop, Option<String>)>,
    failed: Option<Failure>,
    /// A spend limit was reached while it streamed.
    limit: Option<RunError>,
}

impl Turn<'_> {
    /// One answer, with transient failures tried again. What came before a failure is kept and continued, for as long
    /// as tries bring new text.
    pub(super) async fn answer(&mut self) -> Result<Said, DeviceError> {
        let (mut fruitless, mut backed_off) = (0, Duration::ZERO);
        loop {
            let prompt = match self.prompt().await? {
                Ok(prompt) => prompt,
                Err(failure) => return Ok(Said::Failed(failure)),
            };
            if prompt.entries.is_empty() {
                let nothing = Failure::new(Class::BadRequest, "there is no text to answer");
                return Ok(Said::Failed(nothing));
            }
            let cost = self.spending.cost();
            if let Some(error) = limit::before(self.link, self.session, &self.run, &mut self.day, &cost).await {
                return Ok(Said::End(End::Paused("limit", Some(error))));
            }
            let mut gained = false;
            let mut failure = match self.attempt(&prompt, &mut gained).await? {
                Said::Failed(failure) => failure,
                said => return Ok(said),
            };
            if prompt.resume == Some(Resume::Prefill) && failure.class == Class::BadRequest && !self.no_prefill {
                self.no_prefill = true;
                continue;
            }
            if failure.names_pictures() && prompt.has_pictures() {
                failure.class = Class::Picture;
                failure.message = format!("{} — {}", failure.message.trim_end_matches('.'), self.omittable());
            }
            match gained {
                true => (fruitless, backed_off) = (0, Duration::ZERO),
                false => fruitless += 1,
            }
            if !failure.class.is_transient() || fruitless >= TRIES {
                return Ok(Said::Failed(failure));
            }
            let asked = failure.retry_after_ms.map(Duration::from_millis);
            if let Some(asked) = asked.filter(|asked| *asked > LONGEST_WAIT) {
                let said = failure.message.trim_end_matches('.');
                failure.message = format!("{said}. It asks to wait until {}.", moment(asked));
                return Ok(Said::Failed(failure));
            }
            let pause = with_chance(asked.unwrap_or_else(|| pause_before(fruitless)));
            if asked.is_none() {
                backed_off += pause;
                if backed_off > PATIENCE {
                    return Ok(Said::Failed(failure));
                }
            }
            self.note_spending()?;
            tracing::info!(session = %self.session, class = failure.class.code(), fruitless, "a request is tried again");
            let words = match asked {
                Some(_) => format!("waiting for the provider until {}", moment(pause)),
                None => format!("trying again at {}", moment(pause)),
            };
            let words = (pause >= WORTH_SAYING).then_some(words);
            if let Err(why) = self.wait(words, tokio::time::sleep(pause)).await {
                return Ok(Said::End(why.into()));
            }
        }
    }

    /// Waits for something while everybody who looks sees what for, unless the run must end.
    async fn wait<T>(&mut self, words: Option<String>, what: impl Future<Output = T>) -> Result<T, Why> {
        let mut what = pin!(what);
        let done = loop {
            // Whoever opens the session meanwhile is told again.
            if words.is_some() {
                self.progress(ActivityState::Thinking, None, words.clone());
            }
            tokio::select! {
                biased;
                signal = self.signals.next() => match signal {
                    Signal::End(why) => return Err(why),
                    Signal::TailRequest => self.page.answer_tail_request(),
                },
                done = &mut what => break done,
            };
        };
        if words.is_some() {
            let (turn, epoch, state) = (self.run.turn.clone(), self.run.epoch, ActivityState::Thinking);
            let over = Ephemeral::Activity { turn, epoch, state, tool: None, progress: None };
            self.link.broadcast(self.session, &over);
        }
        Ok(done)
    }

    /// Which parts of the conversation can be left out so that no picture is sent, as a command; the last one first.
    fn omittable(&self) -> String {
        let found =
            self.link.read(|device, now| device.conversation(now, self.session)).ok().and_then(|conversation| {
                conversation.messages.iter().rev().find_map(|message| {
                    let picture = |part: &&ShownPart| match &part.content {
                        Content::Attachment { mime, .. } => mime.starts_with("image/"),
                        _ => false,
                    };
                    let part = message.parts.iter().rev().find(picture)?;
                    Some((message.id.clone(), part.index))
                })
            });
        match found {
            Some((message, part)) => {
                format!("leave it out with `skein session omit {} {message} {part}`, then retry.", self.session)
            }
            None => "leave it out with `skein session omit`, then retry.".to_owned(),
        }
    }

    async fn prompt(&mut self) -> Result<Result<Prompt, Failure>, DeviceError> {
        let conversation = self.link.read(|device, now| device.conversation(now, self.session))?;
        if let Err(why) = files::load(self.link, &conversation, &self.run.turn, &mut self.files).await {
            return Ok(Err(Failure::new(Class::Network, why)));
        }
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
        Ok(Ok(prompt))
    }

    async fn attempt(&mut self, prompt: &Prompt, gained: &mut bool) -> Result<Said, DeviceError> {
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
        let place = match self.place(&transport, &endpoint).await {
            Ok(place) => place,
            Err(why) => return Ok(Said::End(why.into())),
        };
        let asking = transport.ask_in(place, &endpoint, prompt);
        let mut answering = tokio::select! {
            why = self.signals.end() => return Ok(Said::End(why.into())),
            answering = asking => match answering {
                Ok(answering) => answering,
                Err(failure) => return Ok(Said::Failed(failure)),
            },
        };
        let ended = self.stream(&mut answering, &mut draft).await?;
        *gained = draft.gained;
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
                let whole = draft.calls.into_values().filter(|call| call.input.is_some() || call.broken.is_some());
                // An answer that was refused or cut off is no answer to act on.
                let (calls, void): (Vec<_>, Vec<_>) =
                    whole.partition(|_| stop.completes_calls() || stop == Stop::Length);
                void.iter().try_for_each(|call| self.page.set_call(call, CallState::Cancelled))?;
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

    /// Leave to ask, waited for in sight of everybody.
    async fn place(&mut self, transport: &Transport, endpoint: &Endpoint) -> Result<Place, Why> {
        let mut placing = Box::pin(transport.place(endpoint));
        if let Some(place) = placing.as_mut().now_or_never() {
            return Ok(place);
        }
        let words = match transport.closed_for(endpoint) {
            Some(time) => format!("waiting for the provider until {}", moment(time)),
            None => format!("waiting for its turn: provider \"{}\" takes no more requests just now", endpoint.name),
        };
        self.wait(Some(words), placing).await
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
                draft.gained |= !text.is_empty();
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

    /// Closes an answer: calls that never were whole are cut. If the answer is, their input is no JSON.
    fn close(&mut self, draft: &mut Draft) -> Result<(), DeviceError> {
        self.say_held(draft)?;
        self.page.end_part(None)?;
        self.page.commit()?;
        let stopped = draft.stopped.as_ref().filter(|_| draft.failed.is_none());
        let is_whole = stopped.is_some_and(|(stop, _)| stop.completes_calls());
        for call in draft.calls.values_mut().filter(|call| call.input.is_none()) {
            call.broken = is_whole.then(|| self.page.input_so_far(call));
            self.page.set_call(call, CallState::Cut)?;
        }
        Ok(())
    }
}

/// What to wait before the next try where the provider says nothing: twice as long each time, from half a second.
fn pause_before(tries: u32) -> Duration {
    Duration::from_millis(500 << tries.saturating_sub(1).min(6))
}

/// Up to a quarter more by chance, at most 10 s, so that workers don't come back together.
fn with_chance(time: Duration) -> Duration {
    let [chance] = skein_engine::ids::random_bytes::<1>();
    time + (time * u32::from(chance) / 1024).min(Duration::from_secs(10))
}

/// The moment after a time, to the minute where it is far enough; with its date where that isn't today's.
fn moment(time: Duration) -> String {
    let now = jiff::Timestamp::now();
    let at = now + time;
    match at.strftime("%F").to_string() == now.strftime("%F").to_string() {
        true if time < Duration::from_secs(120) => at.strftime("%H:%M:%S UTC").to_string(),
        true => at.strftime("%H:%M UTC").to_string(),
        false => at.strftime("%F %H:%M UTC").to_string(),
    }
}
