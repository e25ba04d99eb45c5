//! A run that has begun: ask the model, write what streams back, run its calls, ask again, until it stops or is
//! stopped. [`answer`] is the model's part, [`calls`] the tools'.
//!
//! Invariant: neither model nor tool is called before the run is stored, no tool runs before its mark is acknowledged
//! under the live lease, and once the lease is lost nothing is written.

mod answer;
mod calls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skein_engine::device::DeviceError;
use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::session::conversation::Decision;
use skein_engine::session::model::{Run, RunError, RunState};
use skein_engine::session::write;
use skein_engine::wire::ephemeral::{ActivityState, Ephemeral};

use self::answer::{Answer, Said};
use crate::config::Model;
use crate::day::Day;
use crate::files::Files;
use crate::lease::Lease;
use crate::link::Link;
use crate::page::{Page, now};
use crate::providers::event::Stop;
use crate::providers::failure::Failure;
use crate::providers::prompt::Preamble;
use crate::providers::transport::Transport;
use crate::signals::{Signals, Why};
use crate::spending::{Request, Spending};
use crate::tools::Toolbox;

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
    /// What its day has cost.
    pub day: Day,
    /// Files of the conversation that have been loaded.
    pub files: Files,
    /// Tokens of the last request and its answer, and until when they are cached.
    pub context: Option<(u64, Option<Timestamp>)>,
    /// Whether it was said that a limit can't be kept.
    pub warned: bool,
    /// What is said before the first answer.
    pub notice: Option<String>,
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

impl From<Why> for End {
    fn from(why: Why) -> Self {
        match why {
            Why::Lost | Why::Stopping => Self::Abandoned(why),
            Why::Paused => Self::Paused("pause", None),
            Why::Overtaken => Self::Completed("overtaken"),
            Why::Steered => Self::Completed("steered"),
            Why::TimedOut => Self::Failed(RunError {
                code: "timeout".into(),
                message: "The run took longer than its task allows: what it wrote is kept.".into(),
                retryable: true,
            }),
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
        if let Some(notice) = self.notice.take() {
            self.page.event(&notice)?;
        }
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
                self.note_spending()?;
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

    fn activity(&mut self, state: ActivityState, tool: Option<&str>) {
        self.progress(state, tool, None);
    }

    /// The same, with how far it has come or what it waits for.
    fn progress(&mut self, state: ActivityState, tool: Option<&str>, progress: Option<String>) {
        let mut changed = tool.is_some() || progress.is_some();
        self.lease.show(|shown| {
            changed |= shown.activity != Some(state);
            shown.activity = Some(state);
        });
        if changed {
            let (turn, epoch) = (self.run.turn.clone(), self.run.epoch);
            let tool = tool.map(str::to_owned);
            let message = Ephemeral::Activity { turn, epoch, state, tool, progress };
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

    /// Writes what was used so far, before something that may take long: if this process dies, it is known.
    fn note_spending(&mut self) -> Result<(), DeviceError> {
        let (key, usage, cost, context) = (self.run.key(), self.spending.usage(), self.spending.cost(), self.context);
        let rest = self.page.take_rest();
        self.link.write(self.session, |tx| {
            rest.write(tx)?;
            write::set_usage(tx, &key, &usage, &cost)?;
            context.map_or(Ok(()), |(tokens, until)| write::set_context(tx, &key, tokens, until))
        })
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
        let context = self.context;
        let rest = self.page.take_rest();
        self.link.write(self.session, |tx| {
            rest.write(tx)?;
            write::set_usage(tx, &key, &usage, &cost)?;
            if let Some((tokens, until)) = context {
                write::set_context(tx, &key, tokens, until)?;
            }
            match state {
                Some(state) => write::end_run(tx, &key, state, reason, error.as_ref(), at),
                None => Ok(()),
            }
        })?;
        settle(self.link, self.session, self.lease, state.is_none()).await;
        Ok(())
    }
}

/// Gives a lease back once the last change is acknowledged. A lease that is lost meanwhile needs no giving back, and one
/// whose changes the relay refuses lapses: its turn is taken up from what the relay has.
pub async fn settle(link: &Link, session: DocumentId, lease: Lease, hurry: bool) {
    let mut lost = lease.lost();
    let within = if hurry { LAST_WORDS } else { Duration::from_secs(600) };
    let settled = link.client().until(within, |device, _| {
        let acknowledged = device.acknowledged(session);
        (acknowledged || device.refused(session)).then_some(acknowledged)
    });
    let epoch = lease.epoch;
    tokio::select! {
        acknowledged = settled => if acknowledged == Some(true) { lease.release() },
        _ = lost.wait_for(|lost| *lost) => {}
    }
    if hurry {
        // The connection ends next: the word must have arrived, or the session waits until the lease runs out.
        let released =
            |device: &mut skein_engine::device::Device, _| (device.leases(session).0.live != Some(epoch)).then_some(());
        link.client().until(LAST_WORDS, released).await;
    }
}
