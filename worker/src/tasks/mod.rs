//! Tasks: what is due by a schedule, what was triggered from outside, and what is tried again, each made into a session
//! with the relay's grant. Workspace document, clock and list go in; firings come out.
//!
//! Invariant: this module decides what is due; that a firing happens once is the relay's to keep, so that any number of
//! workers may do the same. [`due`] and [`again`] are pure.

mod again;
mod due;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use skein_engine::ids::{DocumentId, Timestamp, random_id};
use skein_engine::session::Summary;
use skein_engine::session::command::NewSession;
use skein_engine::session::conversation::{Reason, Status};
use skein_engine::wire::catalog::{Firing, FromRelay, ToRelay, Trigger};
use skein_engine::workspace::opening::TaskRun;
use skein_engine::workspace::task::Overlap;
use skein_engine::workspace::{Task, Workspace, schedule};
use tokio::sync::watch;

use self::again::Again;
use self::due::due_now;
use crate::link::Link;
use crate::page::now;
use crate::providers::failure::needs_person;

/// How often it is looked what is due.
const TICK: Duration = Duration::from_secs(1);
/// So long the list may take to have a new session.
const LISTED_MS: u64 = 10_000;
/// How often it is asked what others fired.
const ASK_EVERY_MS: u64 = 60_000;

/// Fires tasks until `stopping` becomes true.
pub async fn run(link: Arc<Link>, mut stopping: watch::Receiver<bool>) {
    let mut tasks = Tasks {
        link,
        up_since: None,
        asked: None,
        fired: HashMap::new(),
        known: Vec::new(),
        done: HashSet::new(),
        triggered: Vec::new(),
        fresh: Vec::new(),
        next: HashMap::new(),
    };
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
    /// When the relay was last asked what was fired; `None`: it has to be.
    asked: Option<Timestamp>,
    /// By task: up to when what was due has been dealt with.
    fired: HashMap<String, Timestamp>,
    /// The latest firings.
    known: Vec<Firing>,
    /// Firings of this start, by task and id.
    done: HashSet<(String, String)>,
    /// What was triggered and waits for the run before.
    triggered: Vec<Trigger>,
    /// Sessions made so lately that the list may not have them: of which task, and when.
    fresh: Vec<(DocumentId, String, Timestamp)>,
    /// By task, when it is due next, as long as its schedule and what was dealt with are these.
    next: HashMap<String, (Schedule, Option<Timestamp>)>,
}

/// Cron, zone, and up to when what was due has been dealt with.
type Schedule = (String, Option<String>, Timestamp);

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
            (self.up_since, self.asked) = (None, None);
            return;
        };
        let known_for = self.asked.map(|asked| at.0.saturating_sub(asked.0));
        if known_for.is_none_or(|ms| ms > ASK_EVERY_MS) && !self.catch_up(at).await {
            return;
        }
        let came = self.link.triggers();
        let waiting = std::mem::take(&mut self.triggered);
        for trigger in waiting.into_iter().chain(came) {
            self.trigger(&workspace, trigger).await;
        }
        for (id, task) in &workspace.tasks {
            self.scheduled(&workspace, id, task, at).await;
            self.again(&workspace, id, task, at).await;
        }
    }

    /// What others fired, and what was fired while this worker was away. Whether the relay has said it.
    async fn catch_up(&mut self, at: Timestamp) -> bool {
        let Ok(FromRelay::Firings { firings, .. }) = self.link.ask(|ask| ToRelay::Firings { ask }).await else {
            return false;
        };
        for firing in firings.iter().filter(|firing| again::due_time(&firing.id).is_some()) {
            let fired = self.fired.entry(firing.task.clone()).or_insert(firing.at);
            *fired = firing.at.max(*fired);
        }
        // The relay tells these apart by itself.
        self.done.clear();
        self.known = firings;
        self.up_since.get_or_insert(at);
        self.asked = Some(at);
        true
    }

    /// What a schedule has made due.
    async fn scheduled(&mut self, workspace: &Workspace, id: &str, task: &Task, at: Timestamp) {
        let Some(cron) = task.cron.as_ref().filter(|_| !task.paused) else {
            // With a new schedule, and when it is resumed, it begins anew.
            self.fired.insert(id.to_owned(), at);
            return;
        };
        // Before a worker has ever fired it, its schedule holds since it was made.
        let fired = *self.fired.entry(id.to_owned()).or_insert_with(|| task.since.map_or(at, |since| since.min(at)));
        let since = task.since.filter(|since| *since <= at).map_or(fired, |since| since.max(fired));
        if self.next(id, (cron.clone(), task.tz.clone(), since)).is_none_or(|next| next > at) {
            return;
        }
        let due = match due_now(cron, task, since, self.up_since.unwrap_or(at), at) {
            Ok(due) => due,
            Err(error) => {
                tracing::debug!(task = task.name, %error, "it is not known what was due");
                return;
            }
        };
        for (at, missed) in due.fire {
            let values = BTreeMap::new();
            let firing = Due { task_id: id, task, id: at.0.to_string(), at, run: random_id(), values: &values };
            let problem = match self.obstacle(id, task) {
                None => None,
                // It is due until the one before is over. What is made up for doesn't fall out over itself.
                Some(Obstacle::Going) if missed || task.overlap == Overlap::Queue => return,
                Some(obstacle) => Some(obstacle.words()),
            };
            if !self.fire(workspace, firing, problem).await {
                return;
            }
            self.fired.insert(id.to_owned(), at);
        }
        if let Some(last) = due.dealt_with {
            self.fired.insert(id.to_owned(), last);
        }
    }

    /// When a schedule is due next; `None`: never, or it can't be read.
    fn next(&mut self, id: &str, schedule: Schedule) -> Option<Timestamp> {
        if let Some((of, next)) = self.next.get(id)
            && *of == schedule
        {
            return *next;
        }
        let (cron, zone, since) = &schedule;
        let next = match schedule::next(cron, zone.as_deref(), *since, 1) {
            Ok(due) => due.first().map(|due| due.at),
            Err(error) => {
                tracing::warn!(task = id, %error, "this task is never due");
                None
            }
        };
        self.next.insert(id.to_owned(), (schedule, next));
        next
    }

    /// Why a task should not run now.
    fn obstacle(&self, id: &str, task: &Task) -> Option<Obstacle> {
        let sessions = self.sessions(id);
        let latest = sessions.iter().max_by_key(|summary| summary.created_at);
        let failed_for_good = latest.is_some_and(|summary| {
            // Whoever sets the schedule or resumes it has seen to it.
            let seen_to = task.since.is_some_and(|since| summary.created_at.is_some_and(|at| at < since));
            summary.archived_at.is_none()
                && !seen_to
                && matches!(&summary.reason, Some(Reason::Failed { error }) if needs_person(error))
        });
        let going = sessions.iter().any(|summary| {
            let status = summary.beneath.unwrap_or(summary.status);
            status == Status::Streaming
                || summary.work.is_some()
                || matches!(summary.reason, Some(Reason::Approval { .. }))
        });
        let going = going || self.is_on_its_way(id, &sessions);
        if failed_for_good {
            Some(Obstacle::NeedsYou)
        } else if going && task.overlap != Overlap::Parallel {
            Some(Obstacle::Going)
        } else {
            None
        }
    }

    /// Whether a session was made so lately that the list doesn't have it yet.
    fn is_on_its_way(&self, task: &str, listed: &[Summary]) -> bool {
        let at = now(&self.link).0;
        self.fresh.iter().any(|(session, of, made)| {
            of == task && at < made.0 + LISTED_MS && listed.iter().all(|summary| summary.id != *session)
        })
    }

    /// The task's sessions that stand.
    fn sessions(&self, task: &str) -> Vec<Summary> {
        let all = self.link.read(|device, now| device.summaries(now));
        let of_task = |summary: &Summary| summary.task.as_deref() == Some(task) && summary.deleted_at.is_none();
        all.into_iter().filter(of_task).collect()
    }

    async fn trigger(&mut self, workspace: &Workspace, trigger: Trigger) {
        let gone = Task { name: trigger.task.clone(), ..Task::default() };
        let task = workspace.tasks.get(&trigger.task);
        let problem = match task {
            None => Some("There is no such task any more.".to_owned()),
            Some(task) if task.paused => Some("Skipped: the task is paused.".to_owned()),
            Some(task) => match self.obstacle(&trigger.task, task) {
                Some(Obstacle::Going) if task.overlap == Overlap::Queue => return self.triggered.push(trigger),
                Some(Obstacle::Going) => Some(Obstacle::Going.words()),
                // Someone asks for it now: whether it has been mended shows.
                Some(Obstacle::NeedsYou) | None => None,
            },
        };
        let due = Due {
            task_id: &trigger.task,
            task: task.unwrap_or(&gone),
            id: trigger.id.clone(),
            at: trigger.at,
            run: trigger.run.clone(),
            values: &trigger.values,
        };
        if !self.fire(workspace, due, problem).await {
            self.triggered.push(trigger);
        }
    }

    /// Runs that failed, and may be mended by trying again.
    async fn again(&mut self, workspace: &Workspace, id: &str, task: &Task, at: Timestamp) {
        if task.retries == 0 {
            return;
        }
        let of_task = self.known.iter().filter(|firing| firing.task == id);
        let due = again::due(of_task, task.retries, at, |session| {
            let summary = self.link.read(|device, now| device.summary(now, session))?;
            match summary.reason {
                Some(Reason::Failed { error }) if !needs_person(&error) => summary.updated_at,
                _ => None,
            }
        });
        for Again { id: id_of, run, at, values } in due {
            self.fire(workspace, Due { task_id: id, task, id: id_of, at, run, values: &values }, None).await;
        }
    }

    /// Makes the session of a firing, or records why there is none. Whether it is dealt with, by this worker or another.
    async fn fire(&mut self, workspace: &Workspace, due: Due<'_>, problem: Option<String>) -> bool {
        let key = (due.task_id.to_owned(), due.id.clone());
        if self.done.contains(&key) {
            return true;
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
        // Another try needs them again.
        let values = if due.task.retries > 0 { due.values.clone() } else { BTreeMap::new() };
        let firing =
            Firing { task: due.task_id.to_owned(), id: due.id, at: due.at, run: due.run, session, error, values };
        let asked = firing.clone();
        match self.link.ask(|ask| ToRelay::Fire { ask, firing: asked, change }).await {
            Ok(FromRelay::Fired { .. }) => {
                tracing::info!(task = due.task.name, firing = firing.id, "a task was fired");
                let at = now(&self.link);
                self.fresh.retain(|(_, _, made)| at.0 < made.0 + LISTED_MS);
                self.fresh.extend(session.map(|session| (session, key.0.clone(), at)));
                self.known.push(firing);
                self.done.insert(key);
                true
            }
            Ok(FromRelay::Taken { .. }) => {
                // Another worker's: what it made shows in the next account.
                self.done.insert(key);
                self.asked = None;
                true
            }
            answer => {
                tracing::warn!(task = due.task.name, ?answer, "a task could not be fired");
                false
            }
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

/// What the session begins with.
fn opening(workspace: &Workspace, due: &Due<'_>) -> Result<NewSession, String> {
    let when = schedule::local(due.at, due.task.tz.as_deref());
    let run = TaskRun { task: due.task_id, run: &due.run, when: &when, values: due.values };
    due.task.session(workspace, run).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use skein_engine::workspace::task::Opening;

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
}
