//! `skein query …`: messages, tool calls, runs and costs of the workspace, asked of the relay.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use skein_engine::ids::Timestamp;
use skein_engine::workspace::Workspace;

use crate::args::Place;
use crate::ask::{Asked, Relay};
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{self, cost, out, plain, table, time};
use crate::replica::on_replica;
use crate::session::transcript::one_line;

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    query: Query,
}

#[derive(Debug, Subcommand)]
enum Query {
    /// Messages, newest first.
    Messages(Filter),
    /// Tool calls, newest first.
    Tools(Filter),
    /// Runs of models, newest first.
    Runs(Filter),
    /// What was spent.
    Cost(Cost),
}

#[derive(Debug, Args)]
struct Filter {
    /// Of this session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Messages of this role: user or assistant.
    #[arg(long, value_name = "R")]
    role: Option<String>,
    /// Calls of this tool, or messages with one.
    #[arg(long, value_name = "T")]
    tool: Option<String>,
    /// Of this agent, by id or name.
    #[arg(long, value_name = "A")]
    agent: Option<String>,
    /// From this action, by id or name.
    #[arg(long, value_name = "A")]
    action: Option<String>,
    /// Of this model: PROVIDER/MODEL.
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// streaming, paused, completed, failed, queued; of calls done, failed, denied, waiting, ….
    #[arg(long, value_name = "S")]
    status: Option<String>,
    /// From then on: 2026-11-25, 2026-11-25T09:00Z, or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// With all these words, or words that begin so.
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
    /// At most so many, up to 500.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Those that follow, as `next` of an answer says.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Print {"rows", "next"} as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Cost {
    /// By what.
    #[arg(long, value_enum)]
    by: By,
    /// The time zone of the days, such as Europe/Berlin [default: UTC].
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// From then on.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Print [{"key", "runs", "usage", "costMicros", "incomplete"}] as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Agent,
    Model,
    Action,
    Task,
    Day,
}

/// A day, a minute, or milliseconds; in UTC unless it says otherwise.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(ms) = text.parse() {
        return Ok(Timestamp(ms));
    }
    skein_engine::workspace::schedule::moment(text).ok_or_else(|| "write 2026-11-25 or 2026-11-25T09:00Z".to_owned())
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: QueryArgs) -> Result<(), Failure> {
    let relay = Relay::of(&arguments.place).ask()?;
    on_replica(&arguments.place, async |opened| command(opened, &relay, arguments.query).await).await
}

async fn command(opened: &Opened, relay: &Asked, query: Query) -> Result<(), Failure> {
    // Names of agents and actions are this device's to know.
    let workspace = opened.workspace().await;
    match query {
        Query::Messages(filter) => rows(relay, &workspace, "messages", filter).await,
        Query::Tools(filter) => rows(relay, &workspace, "tools", filter).await,
        Query::Runs(filter) => rows(relay, &workspace, "runs", filter).await,
        Query::Cost(cost) => spent(relay, &workspace, cost).await,
    }
}

async fn rows(relay: &Asked, workspace: &Workspace, what: &str, filter: Filter) -> Result<(), Failure> {
    let agent = filter.agent.map(|agent| workspace.agent(&agent).map(|(id, _)| id.to_owned())).transpose()?;
    let action = filter.action.map(|action| workspace.action(&action).map(|(id, _)| id.to_owned())).transpose()?;
    let ms = |at: Option<Timestamp>| at.map(|at| at.0.to_string());
    let parameters = [
        ("session", filter.session),
        ("role", filter.role),
        ("tool", filter.tool),
        ("agent", agent),
        ("action", action),
        ("model", filter.model),
        ("status", filter.status),
        ("since", ms(filter.since)),
        ("until", ms(filter.until)),
        ("text", filter.text),
        ("limit", filter.limit.map(|limit| limit.to_string())),
        ("after", filter.after),
    ];
    let found: Value = relay.query(&format!("/query/{what}"), &parameters).await?;
    if filter.json {
        return print::json(&found);
    }
    let word = |row: &Value, key: &str| row[key].as_str().map(one_line).unwrap_or_default();
    let cells = found["rows"].as_array().into_iter().flatten().map(|row| {
        let at = row["at"].as_u64().or(row["startedAt"].as_u64()).map(Timestamp);
        let mut cells = vec![time(at), word(row, "sessionName")];
        match what {
            "messages" => {
                let text = row["snippet"].as_str().or(row["text"].as_str()).unwrap_or_default();
                cells.extend([word(row, "role"), one_line(&text.chars().take(100).collect::<String>())]);
            }
            "tools" => {
                let input = row["snippet"].as_str().or(row["input"].as_str()).unwrap_or_default();
                let input = one_line(&input.chars().take(80).collect::<String>());
                cells.extend([word(row, "tool"), word(row, "status"), input]);
            }
            _ => {
                let micros = row["costMicros"].as_u64().map(skein_engine::ids::Micros);
                let estimated = row["estimated"].as_bool().unwrap_or_default();
                cells.extend([word(row, "model"), word(row, "status"), cost(micros, estimated)]);
            }
        }
        cells
    });
    out(&table(&cells.collect::<Vec<_>>()))?;
    match found["next"].as_str() {
        Some(next) => {
            print::remark(&format!("more: --after {next}"));
            Ok(())
        }
        None => Ok(()),
    }
}

async fn spent(relay: &Asked, workspace: &Workspace, asked: Cost) -> Result<(), Failure> {
    let by = match asked.by {
        By::Agent => "agent",
        By::Model => "model",
        By::Action => "action",
        By::Task => "task",
        By::Day => "day",
    };
    let ms = |at: Option<Timestamp>| at.map(|at| at.0.to_string());
    let parameters =
        [("by", Some(by.to_owned())), ("tz", asked.tz), ("since", ms(asked.since)), ("until", ms(asked.until))];
    let found: Value = relay.query("/query/cost", &parameters).await?;
    if asked.json {
        return print::json(&found);
    }
    let cells = found.as_array().into_iter().flatten().map(|row| {
        let key = row["key"].as_str().unwrap_or_default();
        let name = match key {
            "" => "none",
            key => workspace.name_of(key).unwrap_or(key),
        };
        let micros = row["costMicros"].as_u64().map(skein_engine::ids::Micros);
        let mut sum = cost(micros, row["estimated"].as_bool().unwrap_or_default());
        if row["incomplete"].as_bool().unwrap_or_default() {
            sum.push_str(" + unknown");
        }
        vec![plain(&one_line(name)), row["runs"].to_string(), sum]
    });
    out(&table(&cells.collect::<Vec<_>>()))
}
