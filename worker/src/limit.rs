//! Spend limits: asked before every request to a model, and while it streams. What is reached pauses the run and asks a
//! person; nothing is sent after it until the limit is raised and someone continues.
//!
//! A session's limit counts all its runs, an agent's that agent's runs within the session, a task's all of a session that a
//! run of it made, the workspace's all runs of all sessions that began on the same [`Day`]. Invariant: limits are read where
//! they stand now, so that raising one holds from the next request on.

use skein_engine::ids::{DocumentId, Micros};
use skein_engine::session::Session;
use skein_engine::session::conversation::Writers;
use skein_engine::session::model::{Cost, Origin, Run, RunError};
use skein_engine::session::spent;
use skein_engine::workspace::Workspace;

use crate::day::Day;
use crate::link::Link;

/// One limit, and what counts towards it but the run that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limit {
    /// In a sentence: "of this session".
    of: &'static str,
    most: Micros,
    spent: u64,
    /// How to raise it.
    raise: String,
}

/// The limits of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits(Vec<Limit>);

/// Before a request: the first limit that is reached with what the run has cost so far, or that nobody can tell.
pub async fn before(link: &Link, session: DocumentId, run: &Run, day: &mut Day, cost: &Cost) -> Option<RunError> {
    let most = link.read(|device, _| device.workspace().day_limit);
    if let Some(most) = most
        && let Err(why) = day.ask(link).await
    {
        let message = format!(
            "What was spent today can't be asked of the relay ({why}), and the workspace has a limit of {} a day: \
             continue, to try it again.",
            dollars(most.0)
        );
        return Some(RunError { code: "spend_limit".into(), message, retryable: true });
    }
    within(link, session, run, day, cost)
}

/// While it streams: the first limit that is reached with what the run has cost so far.
pub fn within(link: &Link, session: DocumentId, run: &Run, day: &mut Day, cost: &Cost) -> Option<RunError> {
    day.note(cost);
    Limits::of(link, session, run, day).reached(cost)
}

fn dollars(micros: u64) -> String {
    format!("${}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000)
}

impl Limits {
    /// Of a run, as its session and workspace say now. Of documents that aren't here nothing is known.
    pub fn of(link: &Link, session: DocumentId, run: &Run, day: &Day) -> Self {
        link.read(|device, _| {
            let workspace = device.workspace();
            let (_, writers) = device.leases(session);
            let found = device.session(session);
            let found = found.map(|found| Self::in_documents(session, found, &writers, &workspace, run));
            let mut limits = found.unwrap_or_default();
            if let Some(most) = workspace.day_limit {
                let raise = "skein workspace limit USD".to_owned();
                // Before it was asked, nothing is known that could hold anything up.
                let spent = day.others().unwrap_or_default();
                limits.0.push(Limit { of: "of the workspace for a day", most, spent, raise });
            }
            limits
        })
    }

    fn in_documents(id: DocumentId, session: &Session, writers: &Writers, workspace: &Workspace, run: &Run) -> Self {
        let key = run.key();
        let spent = |counts: &dyn Fn(&Run) -> bool| {
            let others = spent::counted(session, writers).filter(|other| other.key() != key);
            let micros = others.filter(|other| counts(other)).filter_map(|other| other.cost.micros);
            micros.fold(0_u64, |sum, micros| sum.saturating_add(micros.0))
        };
        let mut limits = Vec::new();
        if let Some(most) = session.spend_limit {
            let raise = format!("skein session limit {id} USD");
            limits.push(Limit { of: "of this session", most, spent: spent(&|_| true), raise });
        }
        let agent = run.agent.as_ref().and_then(|agent| workspace.agents.get(agent));
        if let Some((agent, most)) = agent.and_then(|agent| Some((agent, agent.spend_limit?))) {
            let raise = format!("skein agent set \"{}\" --spend-limit USD", agent.name);
            let spent = spent(&|other| other.agent == run.agent);
            limits.push(Limit { of: "of its agent in a session", most, spent, raise });
        }
        let task = match &session.origin {
            Some(Origin::Task { task, .. }) => workspace.tasks.get(task),
            _ => None,
        };
        if let Some((task, most)) = task.and_then(|task| Some((task, task.spend_limit?))) {
            let raise = format!("skein task set \"{}\" --spend-limit USD", task.name);
            limits.push(Limit { of: "of a run of its task", most, spent: spent(&|_| true), raise });
        }
        Self(limits)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first limit that is reached with what the run itself has cost so far. An unknown cost counts nothing.
    pub fn reached(&self, cost: &Cost) -> Option<RunError> {
        let own = cost.micros.unwrap_or_default().0;
        let limit = self.0.iter().find(|limit| limit.spent.saturating_add(own) >= limit.most.0)?;
        let message = format!(
            "The spend limit {} of {} is reached ({} spent): raise it (`{}`), then continue.",
            limit.of,
            dollars(limit.most.0),
            dollars(limit.spent.saturating_add(own)),
            limit.raise
        );
        Some(RunError { code: "spend_limit".into(), message, retryable: true })
    }
}

#[cfg(test)]
mod tests {
    use skein_engine::ids::Epoch;
    use skein_engine::workspace::{Agent, Task};

    use super::*;

    const ID: DocumentId = DocumentId::from_bytes([7; 16]);

    fn run(turn: &str, agent: &str, micros: Option<u64>) -> Run {
        let cost = Cost { micros: micros.map(Micros), ..Cost::default() };
        Run { agent: Some(agent.into()), cost, ..Run::new(turn, Epoch(1), vec![]) }
    }

    fn session(runs: Vec<Run>) -> Session {
        Session { runs: runs.into_iter().map(|run| (run.key(), vec![run])).collect(), ..Session::default() }
    }

    fn cost(micros: Option<u64>) -> Cost {
        Cost { micros: micros.map(Micros), ..Cost::default() }
    }

    #[test]
    fn each_limit_counts_what_is_its_own_and_never_the_asking_run_twice() {
        let inherited = Run { inherited: true, ..run("old", "a", Some(1_000_000)) };
        let asking = run("now", "a", Some(40));
        let mut session =
            session(vec![run("one", "a", Some(100)), run("two", "b", Some(30)), inherited, asking.clone()]);
        let mut workspace = Workspace::default();
        workspace
            .agents
            .insert("a".into(), Agent { name: "A".into(), spend_limit: Some(Micros(150)), ..Agent::default() });
        let limits = |session: &Session, workspace: &Workspace| {
            Limits::in_documents(ID, session, &Writers::default(), workspace, &asking)
        };
        assert_eq!(limits(&session, &workspace).reached(&cost(Some(49))), None);
        let reached = limits(&session, &workspace).reached(&cost(Some(50))).unwrap();
        assert!(reached.code == "spend_limit" && reached.message.contains("skein agent set \"A\""), "{reached:?}");
        session.spend_limit = Some(Micros(171));
        assert_eq!(limits(&session, &workspace).reached(&cost(Some(40))), None, "130 and 40 are less than 171");
        assert!(limits(&session, &workspace).reached(&cost(Some(41))).unwrap().message.contains("of this session"));
        assert_eq!(limits(&session, &workspace).reached(&cost(None)), None, "an unknown cost counts nothing");
        session.spend_limit = None;
        session.origin = Some(Origin::Task { task: "t".into(), run: "r".into() });
        workspace
            .tasks
            .insert("t".into(), Task { name: "T".into(), spend_limit: Some(Micros(140)), ..Task::default() });
        assert!(limits(&session, &workspace).reached(&cost(Some(10))).unwrap().message.contains("its task"));
    }
}
