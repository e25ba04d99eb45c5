//! Tasks: what is due by a schedule, what was triggered from outside, and what is tried again, each made into a session
//! with the relay's grant. Workspace document, clock and list go in; firings come out.
//!
//! Invariant: this module decides what is due; that a firing happens once is the relay's to keep, so that any number of
//! workers may do the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use skein_engine::ids::{Timestamp, random_id};
use skein_engine::session::Summary;
use skein_engine::session::command::NewSession;
use skein_engine::session::conversation::{Reason, Status};
use skein_engine::session::model::Origin;
use skein_engine::wire::catalog::{Firing, FromRelay, ToRelay, Trigger};
use skein_engine::workspace::schedule;
use skein_engine::workspace::task::{Missed, Opening, Overlap};
use skein_engine::workspace::{Task, Workspace};
use tokio::sync::watch;

use crate::link::Link;
use crate::page::now;

/// How often it is looked what is due.
const TICK: Duration = Duration::from_secs(1);
/// What fell due less than so long before a worker was there isn't missed: it may just be restarting.
const GRACE_MS: u64 = 60_000;
/// The most that is made up for at once.
const MOST_MISSED: usize = 100;
/// The wait before a failed run is tried again, doubled each time.
const RETRY_MS: u64 = 60_000;
/// Characters of a session's name.
const MAX_NAME: usize = 200;

/// Fires tasks until `stopping` becomes true.
pub async fn run(link: Arc<Link>, mut stopping: watch::Receiver<bool>) {
    let mut tasks = Tasks { link, up_since: None, fired: HashMap::new(), known: Vec::new(), done: HashSet::new() };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            changed = stopping.changed() => if changed.is_err() || *stopping.borrow() { return },
        }
        tasks.look().await;
    }
}

struct Tasks {
    link: Arc<Link>,
    /// Since when this worker hears of the workspace.
    up_since: Option<Timestamp>,
    /// By task: up to when what was due has been dealt with.
    fired: HashMap<String, Timestamp>,
    /// The latest firings.
    known: Vec<Firing>,
    /// Firings of this start, by task and id.
    done: HashSet<(String, String)>,
}

/// A firing about to be made.
struct Due<'a> {
    task_id: &'a str,
    task: &'a Task,
    id: String,
    at: Timestamp,
    run: String,
    values: &'a BTreeMap<String, String>,
}

impl Tasks {
    async fn look(&mut self) {
        let at = now(&self.link);
        let workspace = self.link.read(|device, _| {
            let document = device.identity().filter(|_| device.is_welcome())?.workspace_document;
            device.document(document).ok()?;
            Some(device.workspace())
        });
        let Some(workspace) = workspace else {
            // Whoever was away may have missed something.
            self.up_since = None;
            return;
        };
        if self.up_since.is_none() && !self.catch_up(at).await {
            return;
        }
        let triggers = self.link.triggers();
        for trigger in triggers {
            self.triggered(&workspace, &trigger).await;
        }
        for (id, task) in &workspace.tasks {
            if !task.paused {
                self.scheduled(&workspace, id, task, at).await;
            }
            self.again(&workspace, id, task, at).await;
        }
    }

    /// What was fired while this worker was away. Whether the relay has said it.
    async fn catch_up(&mut self, at: Timestamp) -> bool {
        let Ok(FromRelay::Firings { firings, .. }) = self.link.ask(|ask| ToRelay::Firings { ask }).await else {
            return false;
        };
        for firing in firings.iter().filter(|firing| due_time(&firing.id).is_some()) {
            let fired = self.fired.entry(firing.task.clone()).or_insert(firing.at);
            *fired = firing.at.max(*fired);
        }
        self.known = firings;
        self.up_since = Some(at);
        true
    }

    /// What a schedule has made due.
    async fn scheduled(&mut self, workspace: &Workspace, id: &str, task: &Task, at: Timestamp) {
        let Some(cron) = &task.cron else {
            // With a new schedule it begins anew.
            self.fired.insert(id.to_owned(), at);
            return;
        };
        let since = *self.fired.entry(id.to_owned()).or_insert(at);
        let due = match due_now(cron, task, since, self.up_since.unwrap_or(at), at) {
            Ok(due) => due,
            Err(error) => {
                tracing::debug!(task = task.name, %error, "a schedule can't be kept");
                return;
            }
        };
        let last = due.dealt_with;
        let due = due.fire;
        for due in due {
            let id_of = due.at.0.to_string();
            if self.done.contains(&(id.to_owned(), id_of.clone())) {
                continue;
            }
            let values = BTreeMap::new();
            let firing = Due { task_id: id, task, id: id_of, at: due.at, run: random_id(), values: &values };
            match self.obstacle(id, task) {
                None => self.fire(workspace, firing, None).await,
                // It is due until the one before is over.
                Some(Obstacle::Going) if task.overlap == Overlap::Queue => return,
                Some(Obstacle::Going) if task.overlap == Overlap::Parallel => self.fire(workspace, firing, None).await,
                Some(obstacle) => self.fire(workspace, firing, Some(obstacle.words())).await,
            }
            self.fired.insert(id.to_owned(), due.at);
        }
        if let Some(last) = last {
            self.fired.insert(id.to_owned(), last);
        }
    }

    /// Why a task should not run now.
    fn obstacle(&self, id: &str, task: &Task) -> Option<Obstacle> {
        let sessions = self.sessions(id);
        let latest = sessions.iter().max_by_key(|summary| summary.created_at);
        let failed_for_good = latest.is_some_and(|summary| {
            summary.archived_at.is_none()
                && matches!(&summary.reason, Some(Reason::Failed { error }) if !error.retryable)
        });
        let going = sessions.iter().any(|summary| {
            let status = summary.beneath.unwrap_or(summary.status);
            status == Status::Streaming
                || summary.work.is_some()
                || matches!(summary.reason, Some(Reason::Approval { .. }))
                || self.is_new(summary)
        });
        if failed_for_good {
            Some(Obstacle::NeedsYou)
        } else if going && task.overlap != Overlap::Parallel {
            Some(Obstacle::Going)
        } else {
            None
        }
    }

    /// Whether a session was made so lately that its row may not say yet what is due in it.
    fn is_new(&self, summary: &Summary) -> bool {
        summary.progress == 0 && summary.created_at.is_some_and(|at| now(&self.link).0 < at.0 + 5_000)
    }

    /// The task's sessions that stand.
    fn sessions(&self, task: &str) -> Vec<Summary> {
        let all = self.link.read(|device, now| device.summaries(now));
        let of_task = |summary: &Summary| summary.task.as_deref() == Some(task) && summary.deleted_at.is_none();
        all.into_iter().filter(of_task).collect()
    }

    async fn triggered(&mut self, workspace: &Workspace, trigger: &Trigger) {
        let gone = Task { name: trigger.task.clone(), ..Task::default() };
        let task = workspace.tasks.get(&trigger.task);
        let problem = match task {
            None => Some("There is no such task any more.".to_owned()),
            Some(task) if task.paused => Some("The task is paused.".to_owned()),
            Some(_) => None,
        };
        let due = Due {
            task_id: &trigger.task,
            task: task.unwrap_or(&gone),
            id: trigger.id.clone(),
            at: trigger.at,
            run: trigger.run.clone(),
            values: &trigger.values,
        };
        self.fire(workspace, due, problem).await;
    }

    /// Runs that failed, and may be mended by trying again.
    async fn again(&mut self, workspace: &Workspace, id: &str, task: &Task, at: Timestamp) {
        if task.retries == 0 {
            return;
        }
        let mut runs: BTreeMap<&str, Vec<&Firing>> = BTreeMap::new();
        for firing in self.known.iter().filter(|firing| firing.task == id) {
            runs.entry(&firing.run).or_default().push(firing);
        }
        let mut due = Vec::new();
        for (run, tries) in runs {
            let Some(last) = tries.iter().max_by_key(|firing| tries_of(&firing.id)) else { continue };
            let tried = tries_of(&last.id);
            let Some(session) = last.session.filter(|_| u64::from(tried) <= task.retries) else { continue };
            let summary = self.link.read(|device, now| device.summary(now, session));
            let Some(summary) = summary else { continue };
            let failed = matches!(&summary.reason, Some(Reason::Failed { error }) if error.retryable);
            let wait = RETRY_MS << (tried - 1).min(10);
            if failed && summary.updated_at.is_some_and(|ended| ended.0 + wait <= at.0) {
                let base = last.id.split('.').next().unwrap_or_default();
                due.push((format!("{base}.{}", tried + 1), run.to_owned(), last.at));
            }
        }
        let values = BTreeMap::new();
        for (id_of, run, at) in due {
            self.fire(workspace, Due { task_id: id, task, id: id_of, at, run, values: &values }, None).await;
        }
    }

    /// Makes the session of a firing, or records why there is none.
    async fn fire(&mut self, workspace: &Workspace, due: Due<'_>, problem: Option<String>) {
        let key = (due.task_id.to_owned(), due.id.clone());
        if self.done.contains(&key) {
            return;
        }
        let begun = match problem {
            Some(problem) => Err(problem),
            None => opening(workspace, &due),
        };
        let drafted = begun.and_then(|new| {
            let drafted = self.link.read(|device, now| device.draft(now, &new));
            drafted.map_err(|error| error.to_string())
        });
        let (session, change, error) = match drafted {
            Ok((session, change)) => (Some(session), Some(change), None),
            Err(error) => (None, None, Some(error)),
        };
        let firing = Firing { task: due.task_id.to_owned(), id: due.id, at: due.at, run: due.run, session, error };
        let asked = firing.clone();
        match self.link.ask(|ask| ToRelay::Fire { ask, firing: asked, change }).await {
            Ok(FromRelay::Fired { .. }) => {
                tracing::info!(task = due.task.name, firing = firing.id, "a task was fired");
                self.known.push(firing);
                self.done.insert(key);
            }
            Ok(FromRelay::Taken { .. }) => {
                // Another worker's: what it made shows in the next account.
                self.done.insert(key);
                self.up_since = None;
            }
            answer => tracing::warn!(task = due.task.name, ?answer, "a task could not be fired"),
        }
    }
}

enum Obstacle {
    Going,
    NeedsYou,
}

impl Obstacle {
    fn words(&self) -> String {
        match self {
            Self::Going => "Skipped: the run before was still going.",
            Self::NeedsYou => "Skipped: the last run failed in a way that only a person can mend.",
        }
        .to_owned()
    }
}

/// What a schedule has made due.
#[derive(Debug, Default, PartialEq, Eq)]
struct DueNow {
    /// These are fired.
    fire: Vec<schedule::Due>,
    /// Up to here there is nothing more to do.
    dealt_with: Option<Timestamp>,
}

/// What a schedule has made due after `since`, up to `at`, by the task's policy for what fell due before `up_since`.
fn due_now(
    cron: &str,
    task: &Task,
    since: Timestamp,
    up_since: Timestamp,
    at: Timestamp,
) -> Result<DueNow, schedule::ScheduleError> {
    let next = |count| schedule::next(cron, task.tz.as_deref(), since, count);
    if next(1)?.iter().all(|due| due.at > at) {
        return Ok(DueNow::default());
    }
    let mut due = next(MOST_MISSED)?;
    due.retain(|due| due.at <= at);
    let dealt_with = due.last().map(|due| due.at);
    let missed = |due: &schedule::Due| due.at.0 + GRACE_MS < up_since.0;
    let latest = due.iter().rfind(|due| missed(due)).map(|due| due.at);
    due.retain(|due| match task.missed {
        Missed::All => true,
        Missed::Skip => !missed(due),
        Missed::One => !missed(due) || Some(due.at) == latest,
    });
    Ok(DueNow { fire: due, dealt_with })
}

/// What the session begins with.
fn opening(workspace: &Workspace, due: &Due<'_>) -> Result<NewSession, String> {
    let task = due.task;
    let (message, action) = match &task.opening {
        None => return Err("The task says nothing: give it a message or an action.".to_owned()),
        Some(Opening::Message { message }) => (message.clone(), None),
        Some(Opening::Action { action, values }) => {
            let found = workspace.actions.get(action).ok_or("The task's action was removed.")?;
            let mut values = values.clone();
            values.extend(due.values.clone());
            (found.render(&values).map_err(|error| error.to_string())?, Some(action.clone()))
        }
    };
    if action.is_none() && !due.values.is_empty() {
        return Err("The trigger gave values, and the task has no action with placeholders.".to_owned());
    }
    let agent = task.agent.clone().filter(|agent| workspace.agents.contains_key(agent));
    let default = Some(workspace.default_agent.clone()).filter(|agent| !agent.is_empty());
    let local = schedule::local(due.at, task.tz.as_deref());
    let name: String = format!("{}, {local}", task.name).chars().take(MAX_NAME).collect();
    Ok(NewSession {
        name: Some(name),
        agent: agent.or(default),
        message: Some(message),
        action,
        origin: Some(Origin::Task { task: due.task_id.to_owned(), run: due.run.clone() }),
        ..NewSession::default()
    })
}

/// When a scheduled firing fell due; `None`: it is another try, or was triggered.
fn due_time(id: &str) -> Option<u64> {
    id.parse().ok()
}

/// Which try a firing is, from 1.
fn tries_of(id: &str) -> u32 {
    id.split_once('.').and_then(|(_, number)| number.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use skein_engine::workspace::Action;

    use super::*;

    fn due<'a>(task: &'a Task, values: &'a BTreeMap<String, String>) -> Due<'a> {
        let at = Timestamp(1_795_608_000_000);
        Due { task_id: "t", task, id: "1".into(), at, run: "r".into(), values }
    }

    #[test]
    fn a_run_is_named_by_its_task_and_the_clock_of_its_zone() {
        let opening_of = |tz: Option<&str>| {
            let message = Opening::Message { message: "Say hello.".into() };
            let tz = tz.map(str::to_owned);
            let task = Task { name: "Hello".into(), opening: Some(message), tz, ..Task::default() };
            opening(&Workspace::default(), &due(&task, &BTreeMap::new())).unwrap().name.unwrap()
        };
        assert_eq!(opening_of(None), "Hello, 2026-11-25 12:00");
        assert_eq!(opening_of(Some("Pacific/Auckland")), "Hello, 2026-11-26 01:00");
    }

    #[test]
    fn an_action_takes_a_triggers_values_and_says_what_is_missing() {
        let mut workspace = Workspace::default();
        let action = Action { name: "Sum".into(), template: "Sum up {{text}}".into(), ..Action::default() };
        workspace.actions.insert("a".into(), action);
        let opening_ = Opening::Action { action: "a".into(), values: BTreeMap::new() };
        let task = Task { name: "News".into(), opening: Some(opening_), ..Task::default() };
        let values = BTreeMap::from([("text".to_owned(), "this".to_owned())]);
        assert_eq!(opening(&workspace, &due(&task, &values)).unwrap().message.as_deref(), Some("Sum up this"));
        let missing = opening(&workspace, &due(&task, &BTreeMap::new())).unwrap_err();
        assert!(missing.contains("text"), "{missing}");
        workspace.actions.clear();
        assert!(opening(&workspace, &due(&task, &values)).unwrap_err().contains("removed"));
    }

    #[test]
    fn what_was_missed_falls_out_is_made_up_for_once_or_always() {
        let hour = 3_600_000;
        let (since, now) = (Timestamp(1_795_608_000_000), Timestamp(1_795_608_000_000 + 5 * hour + 10_000));
        let times = |missed: Missed, up_since: u64| {
            let task = Task { missed, ..Task::default() };
            let due = due_now("0 * * * *", &task, since, Timestamp(up_since), now).unwrap();
            assert_eq!(due.dealt_with, Some(Timestamp(since.0 + 5 * hour)));
            due.fire.iter().map(|due| (due.at.0 - since.0) / hour).collect::<Vec<_>>()
        };
        // Away until a moment before the fifth hour's end.
        let came_back = now.0 - 1_000;
        assert_eq!(times(Missed::Skip, came_back), [5], "within the minute it isn't missed");
        assert_eq!(times(Missed::One, came_back), [4, 5]);
        assert_eq!(times(Missed::All, came_back), [1, 2, 3, 4, 5]);
        assert_eq!(
            times(Missed::Skip, since.0),
            [1, 2, 3, 4, 5],
            "what fell due while it was there is late, not missed"
        );
    }

    #[test]
    fn a_clock_change_neither_doubles_nor_loses_a_firing() {
        // Berlin goes from 02:00 to 03:00 on 2027-03-28, and from 03:00 to 02:00 on 2027-10-31.
        let day = 86_400_000;
        for midnight in [1_806_102_000_000_u64, 1_824_847_200_000] {
            let task = Task { tz: Some("Europe/Berlin".into()), missed: Missed::All, ..Task::default() };
            let mut fired = Vec::new();
            let mut since = Timestamp(midnight - day);
            // Looked at every ten minutes for three days.
            for step in 0..3 * 144 {
                let at = Timestamp(midnight - day + step * 600_000);
                let due = due_now("30 2 * * *", &task, since, since, at).unwrap();
                fired.extend(due.fire.into_iter().map(|due| due.local));
                since = due.dealt_with.unwrap_or(since);
            }
            assert_eq!(fired.len(), 3, "{fired:?}");
        }
    }

    #[test]
    fn ids_say_which_try_it_is() {
        assert_eq!(
            (due_time("1795608000000"), due_time("1795608000000.2"), due_time("kabc")),
            (Some(1_795_608_000_000), None, None)
        );
        assert_eq!((tries_of("5"), tries_of("5.2"), tries_of("kabc")), (1, 2, 1));
    }
}
