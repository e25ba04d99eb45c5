//! `skein task …`: what agents do again and again. [`runs`] are the times that they did.

mod runs;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use skein_engine::device::TaskCost;
use skein_engine::ids::{Micros, Timestamp};
use skein_engine::workspace::schedule;
use skein_engine::workspace::task::{Missed, Opening, Overlap, TaskField};
use skein_engine::workspace::{Task, Workspace, WorkspaceCommand};

use crate::action::once;
use crate::args::Place;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{Made, cost, duration, json, out, plain, table};
use crate::replica::on_replica;
use crate::session::transcript::one_line;
use crate::value::{Maybe, Usd, pair};

#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    task: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List tasks.
    List {
        /// Print a list of tasks as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a task.
    Show {
        /// Its id or name.
        task: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add a task; prints its id.
    Add {
        /// 1 to 200 characters, no other task's.
        name: String,
        #[command(flatten)]
        says: Says,
        #[command(flatten)]
        fields: Fields,
        /// Print {"id": …}.
        #[arg(long)]
        json: bool,
    },
    /// Change a task. What another member changes meanwhile stays, field by field.
    Set {
        /// Its id or name.
        task: String,
        /// Another name.
        #[arg(long, value_name = "N")]
        name: Option<String>,
        #[command(flatten)]
        says: Says,
        #[command(flatten)]
        fields: Fields,
    },
    /// Run a task now, in a new session, whose id it prints. Also while its schedule rests.
    Run {
        /// Its id or name.
        task: String,
        /// What a placeholder of its action is filled with this time.
        #[arg(long, value_name = "K=V", value_parser = pair)]
        set: Vec<(String, String)>,
        /// Print {"run": …, "session": …}.
        #[arg(long)]
        json: bool,
    },
    /// List the runs of a task, the last one first: by hand, by schedule, triggered, tried again, skipped.
    Runs {
        /// Its id or name.
        task: String,
        /// Print [{"run", "session", "firedAt", "status", "costMicros", "error"}] as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make an address and a token that trigger a task from outside. The token before triggers it no longer.
    Trigger {
        /// Its id or name.
        task: String,
        /// Print {"url": …, "token": …}.
        #[arg(long)]
        json: bool,
    },
    /// Let the schedule of a task rest.
    Pause {
        /// Its id or name.
        task: String,
    },
    /// Let it go on.
    Resume {
        /// Its id or name.
        task: String,
    },
    /// Remove a task. Its sessions stay.
    Remove {
        /// Its id or name.
        task: String,
    },
    /// Print when a task is due next.
    Next {
        /// Its id or name.
        task: String,
        /// How many times.
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
        count: u64,
        /// Print [{"at", "local"}] as JSON: milliseconds since 1970, and the clock of the task's zone.
        #[arg(long)]
        json: bool,
    },
}

/// What each session begins with.
#[derive(Debug, Args)]
struct Says {
    /// The first message of each session.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "action")]
    message: Option<String>,
    /// The action that makes the first message, by id or name.
    #[arg(long, value_name = "A")]
    action: Option<String>,
    /// What a placeholder of the action is filled with.
    #[arg(long, value_name = "K=V", value_parser = pair, requires = "action")]
    set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct Fields {
    /// Who answers, by id or name, or none: the workspace's default agent.
    #[arg(long, value_name = "A|none")]
    agent: Option<Maybe<String>>,
    /// When: minute, hour, day, month, weekday; or none: only by hand.
    #[arg(long, value_name = "EXPR|none")]
    cron: Option<Maybe<String>>,
    /// The time zone of the schedule, such as Europe/Berlin, or none: UTC.
    #[arg(long, value_name = "ZONE|none")]
    tz: Option<Maybe<String>>,
    /// What happens when it is due while it runs [default: skip].
    #[arg(long)]
    overlap: Option<OverlapWord>,
    /// What happens to what fell due while no worker was there [default: skip].
    #[arg(long)]
    missed: Option<MissedWord>,
    /// How often a failed run is tried again, 0 to 10.
    #[arg(long, value_name = "N")]
    retries: Option<u64>,
    /// How long a run may take: 1 second to a week, or none.
    #[arg(long, value_name = "SECONDS|none")]
    timeout: Option<Maybe<f64>>,
    /// Dollars that a run may cost, or none.
    #[arg(long, value_name = "USD|none")]
    spend_limit: Option<Maybe<Usd>>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverlapWord {
    /// This one falls out.
    Skip,
    /// It runs afterwards.
    Queue,
    /// It runs beside.
    Parallel,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MissedWord {
    /// It falls out.
    Skip,
    /// The last one is made up for.
    One,
    /// All are.
    All,
}

impl Fields {
    fn changes(self, says: Says) -> Result<Vec<TaskField>, Failure> {
        let action = match says.action {
            Some(action) => Some(TaskField::Action(action, once(says.set)?)),
            None => None,
        };
        let overlap = self.overlap.map(|word| match word {
            OverlapWord::Skip => Overlap::Skip,
            OverlapWord::Queue => Overlap::Queue,
            OverlapWord::Parallel => Overlap::Parallel,
        });
        let missed = self.missed.map(|word| match word {
            MissedWord::Skip => Missed::Skip,
            MissedWord::One => Missed::One,
            MissedWord::All => Missed::All,
        });
        let timeout = match self.timeout {
            Some(Maybe(Some(seconds))) => Some(TaskField::Timeout(Some(milliseconds(seconds)?))),
            Some(Maybe(None)) => Some(TaskField::Timeout(None)),
            None => None,
        };
        let all = [
            says.message.map(TaskField::Message),
            action,
            self.agent.map(|agent| TaskField::Agent(agent.0)),
            self.cron.map(|cron| TaskField::Cron(cron.0)),
            self.tz.map(|zone| TaskField::Tz(zone.0)),
            overlap.map(TaskField::Overlap),
            missed.map(TaskField::Missed),
            self.retries.map(TaskField::Retries),
            timeout,
            self.spend_limit.map(|limit| TaskField::SpendLimit(limit.0.map(|limit| limit.0))),
        ];
        Ok(all.into_iter().flatten().collect())
    }
}

fn milliseconds(seconds: f64) -> Result<u64, Failure> {
    let time = Duration::try_from_secs_f64(seconds).ok().and_then(|time| u64::try_from(time.as_millis()).ok());
    time.ok_or_else(|| Failure::usage("--timeout is a number of seconds, 1 or more"))
}

/// A task as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    id: &'a str,
    #[serde(flatten)]
    task: &'a Task,
    /// When it is due next; `None`: by hand, paused, or never.
    next_at: Option<Timestamp>,
    /// Sessions that it made.
    sessions: u64,
    /// What is known of their cost.
    cost_micros: Micros,
    /// Some of it isn't.
    incomplete: bool,
    #[serde(skip)]
    next: Option<String>,
    #[serde(skip)]
    estimated: bool,
}

impl<'a> Row<'a> {
    fn of(id: &'a str, task: &'a Task, costs: &BTreeMap<String, TaskCost>) -> Self {
        let cost = costs.get(id).copied().unwrap_or_default();
        let due = task.cron.as_deref().filter(|_| !task.paused);
        let due = due.and_then(|cron| schedule::next(cron, task.tz.as_deref(), now(), 1).ok()?.into_iter().next());
        Self {
            id,
            task,
            next_at: due.as_ref().map(|due| due.at),
            sessions: cost.sessions,
            cost_micros: cost.cost_micros,
            incomplete: cost.incomplete,
            next: due.map(|due| due.local),
            estimated: cost.estimated,
        }
    }

    /// For people.
    fn spent(&self) -> String {
        let unknown = if self.incomplete { " and what is unknown" } else { "" };
        format!("{}{unknown}", cost(Some(self.cost_micros), self.estimated))
    }
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: TaskArgs) -> Result<(), Failure> {
    let place = &arguments.place;
    on_replica(place, async |opened| command(opened, place, arguments.task).await).await
}

async fn command(opened: &Opened, place: &Place, command: Command) -> Result<(), Failure> {
    let change = match command {
        Command::List { json } => return list(opened, json).await,
        Command::Show { task, json } => return show(opened, &task, json).await,
        Command::Run { task, set, json } => return runs::begun(opened, place, &task, set, json).await,
        Command::Runs { task, json } => return runs::list(opened, place, &task, json).await,
        Command::Trigger { task, json } => return runs::trigger(opened, place, &task, json).await,
        Command::Next { task, count, json } => return next(&opened.workspace().await, &task, count, json),
        Command::Add { name, says, fields, json } => {
            let fields = fields.changes(says)?;
            return Made::of(opened.change(WorkspaceCommand::AddTask { name, fields }).await?).print(json);
        }
        Command::Set { task, name, says, fields } => {
            let fields = name.map(TaskField::Name).into_iter().chain(fields.changes(says)?).collect();
            WorkspaceCommand::SetTask { task, fields }
        }
        Command::Pause { task } => WorkspaceCommand::SetTask { task, fields: vec![TaskField::Paused(true)] },
        Command::Resume { task } => WorkspaceCommand::SetTask { task, fields: vec![TaskField::Paused(false)] },
        Command::Remove { task } => WorkspaceCommand::RemoveTask { task },
    };
    opened.change(change).await.map(drop)
}

async fn list(opened: &Opened, as_json: bool) -> Result<(), Failure> {
    let (workspace, costs) = (opened.workspace().await, runs::costs(opened));
    let rows = workspace.tasks.iter().map(|(id, task)| Row::of(id, task, &costs));
    if as_json {
        return json(&rows.collect::<Vec<_>>());
    }
    let cells = rows.map(|row| {
        let next = if row.task.paused { "paused".to_owned() } else { row.next.clone().unwrap_or_default() };
        vec![one_line(&row.task.name), one_line(&when(row.task)), next, row.spent(), row.id.to_owned()]
    });
    out(&table(&cells.collect::<Vec<_>>()))
}

fn when(task: &Task) -> String {
    match (&task.cron, &task.tz) {
        (None, _) => "by hand".to_owned(),
        (Some(cron), None) => format!("{cron} UTC"),
        (Some(cron), Some(zone)) => format!("{cron} {zone}"),
    }
}

async fn show(opened: &Opened, given: &str, as_json: bool) -> Result<(), Failure> {
    let workspace = opened.workspace().await;
    let (id, task) = workspace.task(given)?;
    let row = Row::of(id, task, &runs::costs(opened));
    if as_json {
        return json(&row);
    }
    let called = |id: &str| {
        let removed = if workspace.removed.contains_key(id) { " (removed)" } else { "" };
        format!("{}{removed}", workspace.name_of(id).unwrap_or(id))
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".into());
    let mut rows = vec![
        ("name".to_owned(), task.name.clone()),
        ("id".to_owned(), id.to_owned()),
        ("agent".to_owned(), task.agent.as_deref().map_or_else(|| "the default one".into(), called)),
        ("when".to_owned(), when(task)),
        ("next".to_owned(), or_none(row.next.clone())),
        ("paused".to_owned(), if task.paused { "yes" } else { "no" }.into()),
        ("overlap".to_owned(), word(&task.overlap)?),
        ("missed".to_owned(), word(&task.missed)?),
        ("retries".to_owned(), task.retries.to_string()),
        ("timeout".to_owned(), or_none(task.timeout.map(duration))),
        ("spend limit".to_owned(), or_none(task.spend_limit.map(|limit| cost(Some(limit), false)))),
        ("runs".to_owned(), format!("{}, {}", row.sessions, row.spent())),
    ];
    let message = match &task.opening {
        None => "",
        Some(Opening::Message { message }) => message,
        Some(Opening::Action { action, values }) => {
            rows.push(("action".to_owned(), called(action)));
            rows.extend(values.iter().map(|(key, value)| (format!("{{{{{key}}}}}"), value.clone())));
            ""
        }
    };
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(key, value)| vec![key, one_line(&value)]).collect();
    out(&format!("{}\n{}\n", table(&rows), plain(message.trim_end())))
}

/// The contract's word of a choice.
fn word<T: Serialize>(choice: &T) -> Result<String, Failure> {
    Ok(serde_json::to_value(choice)?.as_str().unwrap_or_default().to_owned())
}

fn next(workspace: &Workspace, given: &str, count: u64, as_json: bool) -> Result<(), Failure> {
    let (_, task) = workspace.task(given)?;
    let Some(cron) = &task.cron else {
        return Err(Failure::new(format!("the task \"{}\" has no schedule: it runs by hand", task.name)));
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let due =
        schedule::next(cron, task.tz.as_deref(), now(), count).map_err(|error| Failure::new(error.to_string()))?;
    if as_json {
        return json(&due);
    }
    if task.paused {
        crate::print::remark("this task is paused: `task resume` lets it go on");
    }
    out(&due.iter().map(|due| format!("{}\n", due.local)).collect::<String>())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or_default())
}
