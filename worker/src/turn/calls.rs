//! The calls of a turn: run, asked about, refused, or taken up from an earlier run of the turn.
//!
//! Invariant: no tool runs before its mark is acknowledged under the live lease, and one that has begun is never said
//! not to have run. Calls run in their order; neighbours that change nothing run side by side.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use skein_engine::device::DeviceError;
use skein_engine::session::conversation::{Content, Decision, ShownCallState};
use skein_engine::session::model::CallState;
use skein_engine::wire::ephemeral::ActivityState;

use super::{End, Turn};
use crate::large::large;
use crate::page::Drafted;
use crate::providers::failure::first_words;
use crate::signals::Why;
use crate::tools::{Outcome, Output, Policy, Tool};

/// Calls of one answer that are taken up; a model that makes more is told so.
const MOST: usize = 64;
/// Calls that run side by side.
const TOGETHER: usize = 8;
/// How far a tool has come is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// A call that runs.
#[derive(Clone, Debug)]
struct Call {
    id: String,
    name: String,
    input: String,
}

/// What became of running calls.
enum Ran {
    /// Each has its result.
    Ended,
    /// None of them began.
    NotBegun(Why),
    /// Some were stopped. Their results say so, or their marks stay, and they are in doubt.
    Stopped(Why),
}

impl Turn<'_> {
    /// The calls of an answer. `None`: ask the model again.
    pub(super) async fn run_calls(&mut self, calls: Vec<Drafted>) -> Result<Option<End>, DeviceError> {
        let allowed = self.allowed_tools()?;
        let mut waiting = false;
        let mut runnable = VecDeque::new();
        for (number, mut call) in calls.into_iter().enumerate() {
            if let Some(broken) = call.broken.take() {
                // Providers take only objects back, so what came stands in the result.
                call.input = Some("{}".to_owned());
                self.page.set_call(&call, CallState::Denied)?;
                let why = format!("Its arguments are no JSON, so it did not run: {}", first_words(&broken));
                self.page.result(&call.id, &why, true)?;
                continue;
            }
            let refused = match self.policy(&call.name, call.input.as_deref().unwrap_or("{}"), &allowed) {
                _ if number >= MOST => {
                    Some(format!("Only the first {MOST} calls of an answer are run; this one was not."))
                }
                None => Some(self.unknown(&call.name)),
                Some(Policy::Deny) => Some(denied(&call.name)),
                Some(Policy::Ask | Policy::Once) => {
                    self.page.set_call(&call, CallState::Waiting)?;
                    waiting = true;
                    None
                }
                Some(Policy::Allow) => {
                    runnable.push_back(call);
                    continue;
                }
            };
            if let Some(why) = refused {
                self.page.set_call(&call, CallState::Denied)?;
                self.page.result(&call.id, &why, true)?;
            }
        }
        while !runnable.is_empty() {
            let batch = self.next_batch(&mut runnable);
            let ran = match self.signals.now() {
                Some(why) => Ran::NotBegun(why),
                None => {
                    batch.iter().try_for_each(|call| self.page.set_call(call, CallState::Running))?;
                    self.execute(batch.iter().map(Call::from).collect()).await?
                }
            };
            let (why, cancelled) = match ran {
                Ran::Ended => continue,
                Ran::NotBegun(why) => (why, batch),
                Ran::Stopped(why) => (why, Vec::new()),
            };
            if why != Why::Lost {
                let mut cancelled = cancelled.into_iter().chain(runnable);
                cancelled.try_for_each(|call| self.page.set_call(&call, CallState::Cancelled))?;
            }
            return Ok(Some(why.into()));
        }
        Ok(match self.signals.now() {
            Some(why) => Some(why.into()),
            None if waiting => Some(End::Paused("approval", None)),
            None => None,
        })
    }

    /// The calls that may run next: one, or neighbours that change nothing.
    fn next_batch(&self, runnable: &mut VecDeque<Drafted>) -> Vec<Drafted> {
        let reads = |call: &Drafted| self.tools.get(&call.name).is_some_and(|tool| tool.is_read_only());
        let mut batch: Vec<Drafted> = runnable.pop_front().into_iter().collect();
        while batch.len() < TOGETHER && batch.iter().all(reads) && runnable.front().is_some_and(reads) {
            batch.extend(runnable.pop_front());
        }
        batch
    }

    /// Calls that earlier runs of this turn left open: decided ones are carried out, one that was running when its
    /// worker died is asked about, and one that had not begun is taken up.
    pub(super) async fn take_up_calls(&mut self) -> Result<Option<End>, DeviceError> {
        let allowed = self.allowed_tools()?;
        let mut asks = false;
        for (call, state) in self.open_calls()? {
            let policy = self.policy(&call.name, &call.input, &allowed);
            let run = match (state, self.decisions.get(&call.id).cloned()) {
                // What is not allowed any more stays so, whoever approved it before.
                (_, Some(Decision::Approved { .. })) if policy != Some(Policy::Deny) => true,
                (_, Some(Decision::Denied { reason, .. })) => {
                    let reason = reason.map(|reason| format!(" They said: {reason}")).unwrap_or_default();
                    self.refuse(&call, &format!("The person did not allow this call: it did not run.{reason}"))?;
                    false
                }
                (ShownCallState::Running | ShownCallState::InDoubt, None) => {
                    self.page.mark_call(&call.id, &call.name, CallState::InDoubt)?;
                    asks = true;
                    false
                }
                (ShownCallState::Waiting, None) => {
                    asks = true;
                    false
                }
                (_, _) if policy == Some(Policy::Deny) => {
                    self.refuse(&call, &denied(&call.name))?;
                    false
                }
                (_, _) if policy.is_none() => {
                    self.refuse(&call, &self.unknown(&call.name))?;
                    false
                }
                (_, _) if matches!(policy, Some(Policy::Ask | Policy::Once)) => {
                    self.page.mark_call(&call.id, &call.name, CallState::Waiting)?;
                    asks = true;
                    false
                }
                (_, _) => true,
            };
            if run {
                if let Some(why) = self.signals.now() {
                    return Ok(Some(why.into()));
                }
                self.page.mark_call(&call.id, &call.name, CallState::Running)?;
                match self.execute(vec![call.clone()]).await? {
                    Ran::Ended => {}
                    Ran::NotBegun(Why::Lost) | Ran::Stopped(Why::Lost) => return Ok(Some(Why::Lost.into())),
                    Ran::NotBegun(why) => {
                        let asked = matches!(state, ShownCallState::Running | ShownCallState::InDoubt);
                        let before = if asked { CallState::InDoubt } else { CallState::Waiting };
                        self.page.mark_call(&call.id, &call.name, before)?;
                        return Ok(Some(why.into()));
                    }
                    Ran::Stopped(why) => return Ok(Some(why.into())),
                }
            }
        }
        Ok(asks.then_some(End::Paused("approval", None)))
    }

    /// Calls of the turn that have neither a result nor an end.
    fn open_calls(&self) -> Result<Vec<(Call, ShownCallState)>, DeviceError> {
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
                    let call = || Call { id: id.clone(), name: name.clone(), input: input.clone() };
                    open.then(|| (call(), *state))
                }
                _ => None,
            });
            Ok(open.collect())
        })
    }

    fn allowed_tools(&self) -> Result<BTreeSet<String>, DeviceError> {
        self.link.read(|device, now| Ok(device.conversation(now, self.session)?.allowed_tools))
    }

    /// `None`: there is no such tool, which the model is told.
    fn policy(&self, name: &str, input: &str, allowed: &BTreeSet<String>) -> Option<Policy> {
        let policy = self.tools.policy(name, input)?;
        Some(if policy == Policy::Once && allowed.contains(name) { Policy::Allow } else { policy })
    }

    fn unknown(&self, name: &str) -> String {
        let names: Vec<String> = self.tools.definitions().into_iter().map(|tool| tool.name).collect();
        match names.is_empty() {
            true => format!("There is no tool named \"{name}\": there are no tools here."),
            false => format!("There is no tool named \"{name}\". There are: {}.", names.join(", ")),
        }
    }

    fn refuse(&mut self, call: &Call, why: &str) -> Result<(), DeviceError> {
        self.page.mark_call(&call.id, &call.name, CallState::Denied)?;
        self.page.result(&call.id, why, true)
    }

    /// Runs calls that are marked as running, side by side, once the marks are acknowledged and the lease is known to
    /// live since.
    async fn execute(&mut self, calls: Vec<Call>) -> Result<Ran, DeviceError> {
        if let Err(why) = self.signals.acknowledged().await {
            return Ok(Ran::NotBegun(why));
        }
        // Another worker may have the session by now, and the relay takes a late mark all the same.
        tokio::select! {
            biased;
            why = self.signals.end() => return Ok(Ran::NotBegun(why)),
            () = self.lease.lives() => {}
        }
        let tools: Vec<Option<Arc<dyn Tool>>> = calls.iter().map(|call| self.tools.get(&call.name).cloned()).collect();
        let outputs: Vec<Output> = calls.iter().map(|_| Output::default()).collect();
        let mut running: FuturesUnordered<_> = std::iter::zip(&calls, std::iter::zip(&tools, &outputs))
            .enumerate()
            .map(|(number, (call, (tool, output)))| async move {
                let outcome = match tool {
                    Some(tool) => tool.run(&call.input, output).await,
                    // It was there when the call was marked.
                    None => Outcome::error(format!("There is no tool named \"{}\" any more.", call.name)),
                };
                (number, outcome)
            })
            .collect();
        let mut ended = vec![false; calls.len()];
        let mut said: Vec<Option<String>> = vec![None; calls.len()];
        self.activity(ActivityState::Calling, calls.first().map(|call| call.name.as_str()));
        let why = loop {
            let next = tokio::select! {
                biased;
                why = self.signals.end() => break why,
                next = running.next() => next,
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    for (number, call) in calls.iter().enumerate().filter(|(number, _)| !ended[*number]) {
                        let progress = outputs[number].last_progress();
                        if progress != said[number] {
                            said[number] = progress.clone();
                            self.progress(ActivityState::Calling, Some(&call.name), progress);
                        }
                    }
                    continue;
                }
            };
            let Some((number, outcome)) = next else { return Ok(Ran::Ended) };
            ended[number] = true;
            self.record(&calls[number], outcome).await?;
        };
        // Dropping them stops them, with everything that they started.
        drop(running);
        // Nothing is written without the lease; a worker that stops leaves its calls in doubt.
        if !matches!(why, Why::Lost | Why::Stopping) {
            for (number, call) in calls.iter().enumerate().filter(|(number, _)| !ended[*number]) {
                let mut content = "This call was stopped before it ended; it may have had effects.".to_owned();
                let output = outputs[number].text();
                if !output.trim().is_empty() {
                    content = format!("{content} Its output until then:\n{output}");
                }
                self.record(call, Outcome::error(content)).await?;
            }
        }
        Ok(Ran::Stopped(why))
    }

    /// Writes what a call gave: large text and pictures as blobs. What can't be stored leaves a sentence that says why.
    async fn record(&mut self, call: &Call, outcome: Outcome) -> Result<(), DeviceError> {
        let (content, blob) = self.stow(outcome.content).await;
        self.page.result_of(&call.id, &content, outcome.is_error, blob)?;
        for (number, image) in outcome.images.into_iter().enumerate() {
            let size = image.bytes.len() as u64;
            let ending = image.mime.rsplit('/').next().unwrap_or_default();
            match self.page.link().put_blob(image.bytes.to_vec()).await {
                Ok(blob) => {
                    let name = format!("{}-{}.{ending}", call.name, number + 1);
                    self.page.attachment(blob, &image.mime, name, size)?;
                }
                Err(why) => self.page.event(&format!("A picture of {} could not be kept: {why}", call.name))?,
            }
        }
        Ok(())
    }

    /// What of a result stands in the document, and the blob that holds the whole.
    async fn stow(&self, content: String) -> (String, Option<String>) {
        let Some(large) = large(&content) else { return (content, None) };
        match self.page.link().put_blob(large.bytes).await {
            Ok(name) => (large.inline, Some(name)),
            Err(why) => (format!("{}\n[The whole of it could not be kept: {why}]", large.inline), None),
        }
    }
}

impl From<&Drafted> for Call {
    fn from(call: &Drafted) -> Self {
        let input = call.input.clone().unwrap_or_else(|| "{}".to_owned());
        Self { id: call.id.clone(), name: call.name.clone(), input }
    }
}

fn denied(name: &str) -> String {
    format!("The tool \"{name}\" is not allowed here: the call did not run.")
}
