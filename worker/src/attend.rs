//! One session under way: opened, its work derived, claimed, begun and carried through, one piece after the other, until
//! nothing is due; then closed, so that a worker holds only what runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skein_engine::ids::{DocumentId, Epoch, Timestamp};
use skein_engine::session::conversation::{Conversation, Decision};
use skein_engine::session::model::{Origin, Run, RunError, RunState, Session};
use skein_engine::session::work::{Work, WorkKind};
use skein_engine::session::write;
use skein_engine::wire::catalog::{FromRelay, ToRelay};
use skein_engine::workspace::{Agent, Workspace};
use tokio::sync::watch;

use crate::config::{Model, Settings};
use crate::day::Days;
use crate::files::Files;
use crate::lease::Lease;
use crate::link::{Link, Seen};
use crate::naming::Naming;
use crate::page::{Page, now};
use crate::preamble;
use crate::providers::prompt::Preamble;
use crate::providers::transport::Transport;
use crate::signals::Signals;
use crate::spending::Spending;
use crate::tools::Toolbox;
use crate::tools::registry::{For, Registry};
use crate::turn::{Turn, settle};

/// How long a document, and the rows of its writers, may take to come.
const OPENING: Duration = Duration::from_secs(10);
/// How long work that the list promised may take to show in the document, once that is up to date.
const SHOWING: Duration = Duration::from_millis(700);
/// How long the workspace document may take to come.
const WORKSPACE: Duration = Duration::from_secs(5);

/// What all sessions share.
#[derive(Clone)]
pub struct Context {
    /// The relay.
    pub link: Arc<Link>,
    /// To models.
    pub transport: Transport,
    /// What the operator says.
    pub settings: Arc<Settings>,
    /// Tools and integrations.
    pub registry: Arc<Registry>,
    /// What days cost.
    pub days: Arc<Days>,
    /// Becomes true when the worker is to stop.
    pub stopping: watch::Receiver<bool>,
}

/// Carries out whatever is due in a session. Whether anything was done.
pub async fn attend(context: &Context, session: DocumentId) -> bool {
    let seen = context.link.watch(session);
    context.link.client().cast(|device, now| device.open(now, session));
    let mut did = false;
    while !*context.stopping.borrow()
        && let Some(work) = due(context, session).await
        && one(context, session, &seen, work).await
    {
        did = true;
    }
    context.link.unwatch(session);
    context.link.client().cast(|device, _| device.close(session));
    did
}

/// What is due, as the document says, once it is here and up to date.
async fn due(context: &Context, session: DocumentId) -> Option<Work> {
    let client = context.link.client();
    client.until(OPENING, |device, _| device.up_to_date(session).then_some(())).await?;
    client.until(SHOWING, |device, now| device.conversation(now, session).ok()?.work).await
}

/// One piece of work, from claim to release. `false`: not ours, or not now.
async fn one(context: &Context, session: DocumentId, seen: &watch::Receiver<Seen>, work: Work) -> bool {
    let link = &context.link;
    if let Some(model) = &work.model
        && !context.settings.serves(Some(model))
        && offered(link, model)
    {
        return false;
    }
    let Some(highest) = link.read(|device, _| device.session(session).ok().map(highest_epoch)) else { return false };
    let Some((lease, heads)) = Lease::claim(link, session, highest, seen.clone()).await else { return false };
    let holds = link.client().until(OPENING, |device, _| device.holds(session, &heads).then_some(())).await;
    if holds.is_none() {
        lease.release();
        return false;
    }
    // The grant's heads may hold what wasn't here: what is due is asked again.
    let found = link.read(|device, now| {
        let conversation = device.conversation(now, session).ok()?;
        let found = device.session(session).ok()?.clone();
        Some((conversation.work.clone()?, conversation, found))
    });
    let Some((work, conversation, found)) = found else {
        lease.release();
        return false;
    };
    match Beginning::of(context, session, &work, &found, lease.epoch).await {
        Some(beginning) => beginning.begin(context, session, seen, lease, work, conversation).await,
        None => {
            lease.release();
            false
        }
    }
}

/// The highest epoch that a session names.
fn highest_epoch(session: &Session) -> Epoch {
    let runs = session.runs.values().flatten().map(|run| run.epoch);
    runs.chain(session.auto_names.iter().map(|name| name.epoch)).max().unwrap_or_default()
}

/// A run about to be made.
struct Beginning {
    run: Run,
    model: Result<Model, String>,
    preamble: Preamble,
    tools: Toolbox,
    step_limit: u32,
    notice: Option<String>,
}

impl Beginning {
    /// `None`: another worker offers the model that this one lacks, or the workspace's document doesn't come.
    async fn of(context: &Context, session: DocumentId, work: &Work, found: &Session, epoch: Epoch) -> Option<Self> {
        let link = &context.link;
        let (agent_id, agent, workspace) = agent(link, found).await?;
        let last = found.runs.values().flatten().filter(|run| !run.answers.is_empty()).max_by_key(|run| run.epoch);
        let taken_up = work.of.as_ref().and_then(|key| found.runs.get(key)).and_then(|runs| runs.last());
        // An agent without a model keeps that of the session's last run; what goes on keeps its own.
        let named = work
            .model
            .clone()
            .or(agent.model.clone())
            .or_else(|| last.and_then(Run::full_model).filter(|model| context.settings.resolve(model).is_ok()));
        let named = named.unwrap_or_else(|| context.settings.worker.model.clone());
        let model = context.settings.resolve(&named);
        if model.is_err() && offered(link, &named) {
            return None;
        }
        context.registry.ready(&agent, &workspace).await;
        let tools = match &model {
            Ok(model) => {
                let workspace_id = link.read(|device, _| device.identity().map(|identity| identity.workspace_document));
                let run = For { session, agent: &agent, workspace: &workspace, workspace_id, model };
                context.registry.toolbox(run)
            }
            Err(_) => Toolbox::default(),
        };
        let fresh = Preamble {
            system: agent.instructions.clone(),
            tools: tools.definitions(),
            listed: agent.tools.iter().chain(&agent.integrations).cloned().collect(),
            max_tokens: model.as_ref().ok().and_then(|model| model.max_tokens),
            thinking: agent.thinking,
            temperature: agent.temperature,
        };
        let before = taken_up.or(last).filter(|run| run.agent.as_deref() == Some(&*agent_id));
        let preamble = preamble::of(link, before, fresh, now(link)).await;
        let (provider, name) = named.split_once('/').unwrap_or(("", &named));
        let run = Run {
            place: work.place.unwrap_or(epoch),
            continues: work.continues.clone(),
            request: work.request.clone(),
            agent: Some(agent_id),
            model: Some(name.to_owned()),
            provider: Some(provider.to_owned()),
            worker: Some(link.read(|device, _| device.peer().to_string())),
            started_at: Some(now(link)),
            prices: model.as_ref().ok().and_then(|model| model.rates),
            ..Run::new(work.turn.clone(), epoch, work.answers.clone())
        };
        let own = agent.step_limit.map(|steps| u32::try_from(steps).unwrap_or(u32::MAX));
        let step_limit = own.unwrap_or(context.settings.worker.step_limit);
        let notice = last.and_then(|last| too_small(last, &named, model.as_ref().ok()?));
        Some(Self { run, model, preamble, tools, step_limit, notice })
    }

    /// Stores the run and carries it through.
    async fn begin(
        mut self,
        context: &Context,
        session: DocumentId,
        seen: &watch::Receiver<Seen>,
        lease: Lease,
        work: Work,
        conversation: Conversation,
    ) -> bool {
        let link = &context.link;
        if !matches!(work.kind, WorkKind::Name) {
            let (_, bytes) = self.preamble.to_blob();
            // A change that names a blob is sent after the blob.
            match link.put_blob(bytes).await {
                Ok(name) => self.run.preamble = Some(name),
                Err(why) => {
                    tracing::warn!(%session, why, "the preamble could not be stored");
                    lease.release();
                    return false;
                }
            }
        }
        self.end_at_once(work.kind);
        let (run, ended) = (self.run.clone(), self.run.state != RunState::Streaming);
        let prepared = link.read(|device, _| device.prepare(session, &lease.actor, |tx| write::begin_run(tx, &run)));
        let change = match prepared {
            Ok(change) => change,
            Err(error) => {
                tracing::error!(%session, %error, "a run could not be prepared");
                lease.release();
                return false;
            }
        };
        let (epoch, sent) = (lease.epoch, change.clone());
        let answer = link.ask(|ask| ToRelay::Begin { ask, session, epoch, change: sent }).await;
        if !matches!(answer, Ok(FromRelay::Stored { .. })) {
            tracing::debug!(%session, ?answer, "a run was not stored");
            lease.release();
            return false;
        }
        let mut adopted = Ok(());
        link.client().cast(|device, _| match device.adopt(session, &lease.actor, &change) {
            Ok(effects) => effects,
            Err(error) => {
                adopted = Err(error);
                Default::default()
            }
        });
        if let Err(error) = adopted {
            tracing::error!(%session, %error, "a run that the relay stored could not be taken up");
            return false;
        }
        match self.model {
            Ok(model) if !ended => {
                let mut signals = Signals::new(
                    link.clone(),
                    session,
                    run.key(),
                    seen.clone(),
                    lease.lost(),
                    context.stopping.clone(),
                );
                signals.end_at(deadline(link, session, &run));
                let day = context.days.of(run.started_at.unwrap_or_else(|| now(link)));
                if work.kind == WorkKind::Name {
                    let transport = context.transport.clone();
                    Naming { link, transport, session, run, model, lease, signals, day }
                        .carry_through(&conversation)
                        .await;
                } else {
                    let author = run.agent.clone().unwrap_or_default();
                    let page = Page::new(link, session, run.clone(), author, model.endpoint.kind.as_str());
                    let spending = Spending::new(model.rates);
                    let turn = Turn {
                        link,
                        transport: context.transport.clone(),
                        session,
                        run,
                        model,
                        preamble: self.preamble,
                        tools: self.tools,
                        step_limit: self.step_limit,
                        decisions: decisions(work.kind, conversation),
                        lease,
                        signals,
                        page,
                        spending,
                        day,
                        files: Files::new(),
                        context: None,
                        warned: false,
                        notice: self.notice,
                        no_prefill: false,
                    };
                    turn.carry_through().await;
                }
            }
            _ => settle(link, session, lease, false).await,
        }
        true
    }

    /// Runs that call nobody are made as they end: a closing, a giving up, one whose model nobody has.
    fn end_at_once(&mut self, kind: WorkKind) {
        let (state, reason, error) = match (kind, &self.model) {
            (WorkKind::Close, _) => (RunState::Paused, "pause", None),
            (WorkKind::GiveUp, _) => {
                let message = "The worker was lost three times in this turn: what it wrote is kept.".to_owned();
                (RunState::Failed, "error", Some(RunError { code: "worker_lost".into(), message, retryable: true }))
            }
            // A title needs no model: the text gives one.
            (WorkKind::Name, _) | (_, Ok(_)) => return,
            (_, Err(why)) => {
                let message = format!("No worker serves the model: {why}.");
                (RunState::Failed, "error", Some(RunError { code: "model".into(), message, retryable: true }))
            }
        };
        self.run.state = state;
        self.run.stop_reason = Some(reason.to_owned());
        self.run.ended_at = self.run.started_at;
        self.run.error = error;
    }
}

/// The session's agent, else the workspace's default one, else an empty one. `None` while the workspace's document isn't
/// here: its limits are not known then.
async fn agent(link: &Link, session: &Session) -> Option<(String, Agent, Workspace)> {
    let workspace = link.client().until(WORKSPACE, |device, _| {
        let document = device.identity()?.workspace_document;
        device.document(document).ok()?;
        Some(device.workspace())
    });
    let workspace = workspace.await?;
    let wanted = session.agent.clone().filter(|id| workspace.agents.contains_key(id));
    let id = wanted.unwrap_or_else(|| workspace.default_agent.clone());
    Some(match workspace.agents.get(&id).cloned() {
        Some(agent) => (id, agent, workspace),
        None => (session.agent.clone().unwrap_or_default(), Agent::default(), workspace),
    })
}

/// What to say where a session changes to a model that can't take in as much as the one before has read.
fn too_small(last: &Run, named: &str, model: &Model) -> Option<String> {
    let (context, window) = (last.context?, model.context_window?);
    (last.full_model().as_deref() != Some(named) && context > window).then(|| {
        format!("{named} takes in {window} tokens; this conversation has about {context}: the provider may refuse it.")
    })
}

/// When a run of a task has streamed for as long as the task allows. What it waited for people doesn't count, and what
/// people have asked for since is no part of the task's run.
fn deadline(link: &Link, session: DocumentId, run: &Run) -> Option<Timestamp> {
    link.read(|device, _| {
        let tasks = device.workspace().tasks;
        let found = device.session(session).ok()?;
        let Some(Origin::Task { task, .. }) = &found.origin else { return None };
        let timeout = tasks.get(task)?.timeout?;
        let first = found.messages.first().map(|message| &message.id)?;
        if run.request.is_some() || !run.answers.contains(first) {
            return None;
        }
        let others = found.runs.values().flatten().filter(|other| other.turn == run.turn && other.key() != run.key());
        let streamed = others.filter_map(|other| Some(other.ended_at?.ms_since(other.started_at?)));
        let left = timeout.saturating_sub(streamed.fold(0, u64::saturating_add));
        Some(Timestamp(run.started_at?.0.saturating_add(left)))
    })
}

/// Whether some worker that is connected offers the model.
fn offered(link: &Link, model: &str) -> bool {
    link.read(|device, _| device.offers().iter().any(|offer| offer.models.iter().any(|one| one == model)))
}

/// The decisions that a run carries out: one that goes on, not one that begins a turn anew.
fn decisions(kind: WorkKind, conversation: Conversation) -> BTreeMap<String, Decision> {
    match kind {
        WorkKind::Continue | WorkKind::TakeOver | WorkKind::Decide => conversation.decisions,
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_to_a_model_that_takes_in_less_than_was_read_is_said_once() {
        let mut small = Settings::default().resolve("demo/demo").expect("the demo is always there");
        small.context_window = Some(8_000);
        let run = |model: &str, context: u64| Run {
            provider: Some("p".into()),
            model: Some(model.into()),
            context: Some(context),
            ..Run::new("t", Epoch(1), Vec::new())
        };
        let said = too_small(&run("large", 9_000), "p/small", &small);
        assert!(said.is_some_and(|said| said.contains("8000") && said.contains("9000")));
        assert_eq!(too_small(&run("small", 9_000), "p/small", &small), None, "it is no change");
        assert_eq!(too_small(&run("large", 7_000), "p/small", &small), None, "it fits");
        small.context_window = None;
        assert_eq!(too_small(&run("large", 9_000), "p/small", &small), None, "nobody knows");
    }
}
