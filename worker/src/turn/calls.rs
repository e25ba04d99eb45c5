//! The calls of a turn: run, asked about, or taken up from an earlier run of the turn.
//!
//! Invariant: no tool runs before its mark is acknowledged under the live lease, and one that has begun is never said
//! not to have run.

use std::collections::BTreeSet;

use skein_engine::device::DeviceError;
use skein_engine::session::conversation::{Content, Decision, ShownCallState};
use skein_engine::session::model::CallState;
use skein_engine::wire::ephemeral::ActivityState;

use super::{End, Turn};
use crate::large::large;
use crate::page::Drafted;
use crate::signals::Why;
use crate::tools::{Output, Policy};

/// What became of running a call.
enum Ran {
    /// It has its result.
    Ended,
    /// It did not begin.
    NotBegun(Why),
    /// It was stopped. Its result says so, or its mark stays, and it is in doubt.
    Stopped(Why),
}

impl Turn<'_> {
    /// The calls of an answer. `None`: ask the model again.
    pub(super) async fn run_calls(&mut self, calls: Vec<Drafted>) -> Result<Option<End>, DeviceError> {
        let allowed = self.allowed_tools()?;
        let mut waiting = false;
        let mut runnable = Vec::new();
        for call in calls {
            match self.policy(&call.name, call.input.as_deref().unwrap_or("{}"), &allowed) {
                Some(Policy::Ask | Policy::Once) => {
                    self.page.set_call(&call, CallState::Waiting)?;
                    waiting = true;
                }
                _ => runnable.push(call),
            }
        }
        let mut runnable = runnable.into_iter();
        while let Some(call) = runnable.next() {
            let ran = match self.signals.now() {
                Some(why) => Ran::NotBegun(why),
                None => {
                    self.page.set_call(&call, CallState::Running)?;
                    self.execute(&call.id, &call.name, call.input.as_deref().unwrap_or("{}")).await?
                }
            };
            let (why, cancelled) = match ran {
                Ran::Ended => continue,
                Ran::NotBegun(why) => (why, Some(call)),
                Ran::Stopped(why) => (why, None),
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

    /// Calls that earlier runs of this turn left open: decided ones are carried out, one that was running when its
    /// worker died is asked about, and one that had not begun is taken up.
    pub(super) async fn take_up_calls(&mut self) -> Result<Option<End>, DeviceError> {
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
                (_, None) if matches!(self.policy(&name, &input, &allowed), Some(Policy::Ask | Policy::Once)) => {
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
                match self.execute(&id, &name, &input).await? {
                    Ran::Ended => {}
                    Ran::NotBegun(Why::Lost) | Ran::Stopped(Why::Lost) => return Ok(Some(Why::Lost.into())),
                    Ran::NotBegun(why) => {
                        let asked = matches!(state, ShownCallState::Running | ShownCallState::InDoubt);
                        let before = if asked { CallState::InDoubt } else { CallState::Waiting };
                        self.page.mark_call(&id, &name, before)?;
                        return Ok(Some(why.into()));
                    }
                    Ran::Stopped(why) => return Ok(Some(why.into())),
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

    fn allowed_tools(&self) -> Result<BTreeSet<String>, DeviceError> {
        self.link.read(|device, now| Ok(device.conversation(now, self.session)?.allowed_tools))
    }

    /// `None`: there is no such tool, which the model is told.
    fn policy(&self, name: &str, input: &str, allowed: &BTreeSet<String>) -> Option<Policy> {
        let policy = self.tools.policy(name, input)?;
        Some(if policy == Policy::Once && allowed.contains(name) { Policy::Allow } else { policy })
    }

    /// Runs a call that is marked as running, once the mark is acknowledged and the lease is known to live since.
    async fn execute(&mut self, id: &str, name: &str, input: &str) -> Result<Ran, DeviceError> {
        let Some(tool) = self.tools.get(name).cloned() else {
            self.page.result(id, &format!("There is no tool named \"{name}\"."), true)?;
            return Ok(Ran::Ended);
        };
        if let Err(why) = self.signals.acknowledged().await {
            return Ok(Ran::NotBegun(why));
        }
        // Another worker may have the session by now, and the relay takes a late mark all the same.
        tokio::select! {
            biased;
            why = self.signals.end() => return Ok(Ran::NotBegun(why)),
            () = self.lease.lives() => {}
        }
        self.activity(ActivityState::Calling, Some(name));
        let output = Output::default();
        let outcome = tokio::select! {
            biased;
            why = self.signals.end() => Err(why),
            outcome = tool.run(input, &output) => Ok(outcome),
        };
        match outcome {
            Ok(outcome) => {
                let (content, blob) = self.stow(outcome.content).await;
                self.page.result_of(id, &content, outcome.is_error, blob)?;
                Ok(Ran::Ended)
            }
            // Nothing is written without the lease; a worker that stops leaves the call in doubt.
            Err(why @ (Why::Lost | Why::Stopping)) => Ok(Ran::Stopped(why)),
            Err(why) => {
                self.page.result(id, "This call was stopped before it ended; it may have had effects.", true)?;
                Ok(Ran::Stopped(why))
            }
        }
    }

    /// What of a result stands in the document, and the blob that holds the whole. A blob that can't be stored leaves
    /// head and tail, and says why.
    async fn stow(&self, content: String) -> (String, Option<String>) {
        let Some(large) = large(&content) else { return (content, None) };
        match self.page.link().put_blob(large.bytes).await {
            Ok(name) => (large.inline, Some(name)),
            Err(why) => (format!("{}\n[The whole of it could not be kept: {why}]", large.inline), None),
        }
    }
}
