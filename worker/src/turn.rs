//! A run that has begun: ask the model, write what streams back, run its calls, ask again, until it stops or is
//! stopped.
//!
//! Invariant: neither model nor tool is called before the run is stored, no tool runs before its mark is acknowledged
//! under the live lease, and once the lease is lost nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skein_engine::device::DeviceError;
use skein_engine::ids::DocumentId;
use skein_engine::session::conversation::{Content, Decision, ShownCallState};
use skein_engine::session::model::{CallState, Run, RunError, RunState};
use skein_engine::session::write;
use skein_engine::wire::ephemeral::{ActivityState, Ephemeral, TailKind};
use tokio::time::Instant;

use crate::config::Model;
use crate::history::{self, Asked};
use crate::lease::Lease;
use crate::link::Link;
use crate::overlap::Overlap;
use crate::page::{Drafted, Page, now};
use crate::providers::Kind;
use crate::providers::demo::prompt_tokens;
use crate::providers::event::{Event, Stop};
use crate::providers::failure::{Class, Failure};
use crate::providers::prompt::{Entry, Preamble, Prompt, Resume};
use crate::providers::transport::{Answering, Transport};
use crate::signals::{Signal, Signals, Why};
use crate::spending::{Request, Spending};
use crate::tools::{Policy, Toolbox};

/// How often a request is tried, and for how long, before the turn fails.
const TRIES: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(20);
/// The running estimate is told to viewers at most this often.
const ESTIMATE_EVERY: Duration = Duration::from_secs(1);
/// How long a worker that is stopping waits for its last change to be acknowledged.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// See the module.
pub struct Turn<'a> {
    /// The relay.
    pub link: &'a Arc<Link>,
    /// To models.
    pub transport: Transport,
    /// Where.
    pub session: DocumentId,
    /// What has begun.
    pub run: Run,
    /// Who is asked.
    pub model: Model,
    /// What stands before the conversation.
    pub preamble: Preamble,
    /// What may be called.
    pub tools: Toolbox,
    /// How many answers it may take.
    pub step_limit: u32,
    /// What people decided of the calls that earlier runs of the turn left open.
    pub decisions: BTreeMap<String, Decision>,
    /// The claim.
    pub lease: Lease,
    /// What can end it.
    pub signals: Signals,
    /// What it writes.
    pub page: Page<'a>,
    /// What it used.
    pub spending: Spending,
    /// Whether the provider refused to continue an answer of its own: then it is quoted.
    pub no_prefill: bool,
}

/// How a run ends.
enum End {
    Completed(&'static str),
    Paused(&'static str, Option<RunError>),
    Failed(RunError),
    /// Nothing is written any more, or only what came.
    Abandoned(Why),
}

/// What became of asking.
enum Said {
    Answer(Answer),
    Failed(Failure),
    End(End),
}

/// An answer that came to its end.
struct Answer {
    stop: Stop,
    explanation: Option<String>,
    spoke: bool,
    calls: Vec<Drafted>,
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
}

impl From<Why> for End {
    fn from(why: Why) -> Self {
        match why {
            Why::Lost | Why::Stopping => Self::Abandoned(why),
            Why::Paused => Self::Paused("pause", None),
            Why::Overtaken => Self::Completed("overtaken"),
            Why::Steered => Self::Completed("steered"),
        }
    }
}

impl Turn<'_> {
    /// Carries the run through, and gives the lease back.
    pub async fn carry_through(mut self) {
        let end = match self.steps().await {
            Ok(end) => end,
            Err(error) => {
                tracing::error!(session = %self.session, %error, "a run could not be written");
                return;
            }
        };
        let session = self.session;
        if let Err(error) = self.finish(end).await {
            tracing::error!(%session, %error, "a run's end could not be written");
        }
    }

    async fn steps(&mut self) -> Result<End, DeviceError> {
        if let Some(end) = self.take_up_calls().await? {
            return Ok(end);
        }
        for _ in 0..self.step_limit {
            let answer = match self.answer().await? {
                Said::Answer(answer) => answer,
                Said::Failed(failure) => return Ok(End::Failed(self.error(&failure))),
                Said::End(end) => return Ok(end),
            };
            if !answer.calls.is_empty() {
                if let Some(end) = self.run_calls(answer.calls).await? {
                    return Ok(end);
                }
            } else if answer.stop != Stop::PauseTurn {
                self.explain(&answer)?;
                return Ok(End::Completed(answer.stop.as_str()));
            }
        }
        let message =
            format!("The turn took {} steps, which is its limit: continue, if it should go on.", self.step_limit);
        Ok(End::Paused("limit", Some(RunError { code: "step_limit".into(), message, retryable: true })))
    }

    /// Says what an answer without words came to.
    fn explain(&mut self, answer: &Answer) -> Result<(), DeviceError> {
        let words = match (answer.stop, &answer.explanation) {
            (Stop::Refusal, Some(why)) => format!("The model refused: {why}"),
            (Stop::Refusal, None) => "The model refused to answer.".to_owned(),
            (Stop::ContentFilter, _) => "The provider's content filter ended the answer.".to_owned(),
            (Stop::Length, _) if !answer.spoke => "The model used up its tokens before it said anything.".to_owned(),
            _ if !answer.spoke => "The model stopped without saying anything.".to_owned(),
            _ => return Ok(()),
        };
        self.page.event(&words)
    }

    fn error(&self, failure: &Failure) -> RunError {
        RunError {
            code: failure.class.code().to_owned(),
            message: failure.sentence(&self.model.endpoint.name),
            retryable: failure.class.is_retryable(),
        }
    }

    // --- The model -----------------------------------------------------------------------------------------------

    /// One answer, with transient failures tried again. What came before a failure is kept and continued.
    async fn answer(&mut self) -> Result<Said, DeviceError> {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            let prompt = self.prompt()?;
            if prompt.entries.is_empty() {
                let nothing = Failure::new(Class::BadRequest, "there is no text to answer");
                return Ok(Said::Failed(nothing));
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
            tracing::info!(session = %self.session, class = failure.class.code(), tries, "a request is tried again");
            tokio::select! {
                _ = tokio::time::sleep(pause) => {}
                why = self.signals.end() => return Ok(Said::End(why.into())),
            }
        }
    }

    fn prompt(&self) -> Result<Prompt, DeviceError> {
        let asked = Asked {
            provider: &self.model.endpoint.name,
            model: &self.model.name,
            kind: self.model.endpoint.kind.as_str(),
        };
        let entries = self.link.read(|device, now| {
            let conversation = device.conversation(now, self.session)?;
            Ok::<_, DeviceError>(history::entries(device.session(self.session)?, &conversation, &self.run.turn, asked))
        })?;
        let mut prompt =
            Prompt { model: self.model.name.clone(), preamble: self.preamble.clone(), entries, resume: None };
        if matches!(prompt.entries.last(), Some(Entry::Assistant { .. })) && prompt.last_text().is_some() {
            let prefill = self.model.endpoint.kind != Kind::OpenAi && !self.no_prefill;
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
        self.spending.add(&draft.request);
        if let Some(why) = ended {
            for call in draft.calls.values().filter(|call| call.input.is_some()) {
                self.page.set_call(call, CallState::Cancelled)?;
            }
            return Ok(Said::End(why.into()));
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
                    self.page.checkpoint()?;
                    if draft.failed.is_some() {
                        return Ok(None);
                    }
                }
                _ = tokio::time::sleep_until(self.page.checkpoint_at()) => self.page.checkpoint()?,
                _ = tokio::time::sleep(Duration::from_millis(100)), if asked => {
                    asked = !self.page.answer_tail_request();
                }
            }
            if estimated_at.elapsed() >= ESTIMATE_EVERY {
                estimated_at = Instant::now();
                self.estimate(&draft.request);
            }
        }
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
        draft
            .calls
            .values()
            .filter(|call| call.input.is_none())
            .try_for_each(|call| self.page.set_call(call, CallState::Cut))
    }

    // --- Tools ---------------------------------------------------------------------------------------------------

    /// The calls of an answer. `None`: ask the model again.
    async fn run_calls(&mut self, calls: Vec<Drafted>) -> Result<Option<End>, DeviceError> {
        let allowed = self.allowed_tools()?;
        let mut waiting = false;
        let mut runnable = Vec::new();
        for call in calls {
            match self.policy(&call.name, &allowed) {
                Some(Policy::Ask) => {
                    self.page.set_call(&call, CallState::Waiting)?;
                    waiting = true;
                }
                _ => runnable.push(call),
            }
        }
        let mut runnable = runnable.into_iter();
        while let Some(call) = runnable.next() {
            let stopped = match self.signals.now() {
                Some(why) => Some(why),
                None => {
                    self.page.set_call(&call, CallState::Running)?;
                    self.execute(&call.id, &call.name, call.input.as_deref().unwrap_or("{}")).await?
                }
            };
            if let Some(why) = stopped {
                if why != Why::Lost && !self.has_result(&call.id)? {
                    self.page.set_call(&call, CallState::Cancelled)?;
                }
                if why != Why::Lost {
                    runnable.try_for_each(|call| self.page.set_call(&call, CallState::Cancelled))?;
                }
                return Ok(Some(why.into()));
            }
        }
        Ok(match self.signals.now() {
            Some(why) => Some(why.into()),
            None if waiting => Some(End::Paused("approval", None)),
            None => None,
        })
    }

    /// Calls that earlier runs of this turn left open: decided ones are carried out, one that was running when its
    /// worker died is asked about, and one that had not begun is taken up.
    async fn take_up_calls(&mut self) -> Result<Option<End>, DeviceError> {
        let allowed = self.allowed_tools()?;
        let mut asks = false;
        for (id, name, input, state) in self.open_calls()? {
            let run = match (state, self.decisions.get(&id).cloned()) {
                (_, Some(Decision::Approved { .. })) => true,
                (_, Some(Decision::Denied { reason, .. })) => {
                    let reason = reason.map(|reason| format!(" They said: {reason}")).unwrap_or_default();
                    self.page.mark_call(&id, &name, CallState::Denied)?;
                    self.page.result(
                        &id,
                        &format!("The person did not allow this call: it did not run.{reason}"),
                        true,
                    )?;
                    false
                }
                (ShownCallState::Running | ShownCallState::InDoubt, None) => {
                    self.page.mark_call(&id, &name, CallState::InDoubt)?;
                    asks = true;
                    false
                }
                (ShownCallState::Waiting, None) => {
                    asks = true;
                    false
                }
                (_, None) if self.policy(&name, &allowed) == Some(Policy::Ask) => {
                    self.page.mark_call(&id, &name, CallState::Waiting)?;
                    asks = true;
                    false
                }
                (_, None) => true,
            };
            if run {
                if let Some(why) = self.signals.now() {
                    return Ok(Some(why.into()));
                }
                self.page.mark_call(&id, &name, CallState::Running)?;
                if let Some(why) = self.execute(&id, &name, &input).await? {
                    return Ok(Some(why.into()));
                }
            }
        }
        Ok(asks.then_some(End::Paused("approval", None)))
    }

    /// Calls of the turn that have neither a result nor an end.
    fn open_calls(&self) -> Result<Vec<(String, String, String, ShownCallState)>, DeviceError> {
        self.link.read(|device, now| {
            let conversation = device.conversation(now, self.session)?;
            let own = conversation.messages.iter().filter(|message| message.turn.as_ref() == Some(&self.run.turn));
            let parts = own.filter(|message| !message.unverified).flat_map(|message| &message.parts);
            let open = parts.filter_map(|part| match &part.content {
                Content::ToolCall { id, name, input, state, .. } if !input.is_empty() => {
                    let open = matches!(
                        state,
                        ShownCallState::Preparing
                            | ShownCallState::Waiting
                            | ShownCallState::Running
                            | ShownCallState::InDoubt
                    );
                    open.then(|| (id.clone(), name.clone(), input.clone(), *state))
                }
                _ => None,
            });
            Ok(open.collect())
        })
    }

    fn has_result(&self, call: &str) -> Result<bool, DeviceError> {
        self.link.read(|device, _| {
            let parts = device.session(self.session)?.messages.iter().rev().flat_map(|message| &message.parts);
            Ok(parts.into_iter().any(|part| {
                matches!(&part.kind, skein_engine::session::model::PartKind::ToolResult { call: of, .. } if of == call)
            }))
        })
    }

    fn allowed_tools(&self) -> Result<BTreeSet<String>, DeviceError> {
        self.link.read(|device, now| Ok(device.conversation(now, self.session)?.allowed_tools))
    }

    /// `None`: there is no such tool, which the model is told.
    fn policy(&self, name: &str, allowed: &BTreeSet<String>) -> Option<Policy> {
        let policy = self.tools.get(name)?.policy();
        Some(if allowed.contains(name) { Policy::Allow } else { policy })
    }

    /// Runs a call that is marked as running, once the mark is acknowledged; why the turn must stop, if it must.
    async fn execute(&mut self, id: &str, name: &str, input: &str) -> Result<Option<Why>, DeviceError> {
        let Some(tool) = self.tools.get(name).cloned() else {
            self.page.result(id, &format!("There is no tool named \"{name}\"."), true)?;
            return Ok(None);
        };
        if let Err(why) = self.signals.acknowledged().await {
            return Ok(Some(why));
        }
        self.activity(ActivityState::Calling, Some(name));
        let outcome = tokio::select! {
            biased;
            why = self.signals.end() => Err(why),
            outcome = tool.run(input) => Ok(outcome),
        };
        match outcome {
            Ok(outcome) => {
                self.page.result(id, &outcome.content, outcome.is_error)?;
                Ok(None)
            }
            // Nothing is written without the lease; a worker that stops leaves the call in doubt.
            Err(why @ (Why::Lost | Why::Stopping)) => Ok(Some(why)),
            Err(why) => {
                self.page.result(id, "This call was stopped before it ended; it may have had effects.", true)?;
                Ok(Some(why))
            }
        }
    }

    // --- Viewers and the end -------------------------------------------------------------------------------------

    fn activity(&mut self, state: ActivityState, tool: Option<&str>) {
        let mut changed = tool.is_some();
        self.lease.show(|shown| {
            changed |= shown.activity != Some(state);
            shown.activity = Some(state);
        });
        if changed {
            let (turn, epoch) = (self.run.turn.clone(), self.run.epoch);
            let message = Ephemeral::Activity { turn, epoch, state, tool: tool.map(str::to_owned) };
            self.link.broadcast(self.session, &message);
        }
    }

    fn estimate(&mut self, request: &Request) {
        let sum = self.spending.with(request);
        let (usage, cost_micros) = (sum.usage(), sum.cost().micros);
        self.lease.show(|shown| {
            shown.usage = Some(usage);
            shown.cost_micros = cost_micros;
        });
        let (turn, epoch) = (self.run.turn.clone(), self.run.epoch);
        self.link.broadcast(self.session, &Ephemeral::Usage { turn, epoch, usage, cost_micros });
    }

    async fn finish(mut self, end: End) -> Result<(), DeviceError> {
        let (state, reason, error) = match end {
            End::Completed(reason) => (Some(RunState::Completed), reason, None),
            End::Paused(reason, error) => (Some(RunState::Paused), reason, error),
            End::Failed(error) => (Some(RunState::Failed), "error", Some(error)),
            End::Abandoned(Why::Lost) => return Ok(()),
            End::Abandoned(_) => (None, "", None),
        };
        self.page.end_part(None)?;
        let (key, usage, cost, at) = (self.run.key(), self.spending.usage(), self.spending.cost(), now(self.link));
        self.link.write(self.session, |tx| {
            write::set_usage(tx, &key, &usage, &cost)?;
            match state {
                Some(state) => write::end_run(tx, &key, state, reason, error.as_ref(), at),
                None => Ok(()),
            }
        })?;
        settle(self.link, self.session, self.lease, state.is_none()).await;
        Ok(())
    }
}

/// Gives a lease back once the last change is acknowledged. A lease that is lost meanwhile needs no giving back.
pub async fn settle(link: &Link, session: DocumentId, lease: Lease, hurry: bool) {
    let mut lost = lease.lost();
    let within = if hurry { LAST_WORDS } else { Duration::from_secs(600) };
    let acknowledged = link.client().until(within, |device, _| device.acknowledged(session).then_some(()));
    let epoch = lease.epoch;
    tokio::select! {
        done = acknowledged => if done.is_some() { lease.release() },
        _ = lost.wait_for(|lost| *lost) => {}
    }
    if hurry {
        // The connection ends next: the word must have arrived, or the session waits until the lease runs out.
        let released =
            |device: &mut skein_engine::device::Device, _| (device.leases(session).0.live != Some(epoch)).then_some(());
        link.client().until(LAST_WORDS, released).await;
    }
}

/// What to wait before the next try: what the provider says, else twice as long each time, from half a second, with up
/// to a quarter of chance so that workers don't come back together.
fn pause_before(tries: u32, retry_after_ms: Option<u64>) -> Duration {
    let ms = retry_after_ms.unwrap_or(500 << (tries - 1).min(6));
    let [chance] = skein_engine::ids::random_bytes::<1>();
    Duration::from_millis(ms + ms * u64::from(chance) / 1024)
}
