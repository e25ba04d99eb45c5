//! `skein agent …`: who answers.

use clap::{Args, Subcommand};
use serde::Serialize;
use skein_engine::workspace::agent::AgentField;
use skein_engine::workspace::{Agent, Workspace, WorkspaceCommand};

use crate::args::Place;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{Made, cost, json, out, plain, table};
use crate::replica::on_replica;
use crate::session::transcript::one_line;
use crate::value::{Maybe, Usd};

#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    agent: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List agents; `*` marks the default one.
    List {
        /// Print a list of agents as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show an agent.
    Show {
        /// Its id or name.
        agent: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add an agent; prints its id.
    Add {
        /// 1 to 200 characters, no other agent's.
        name: String,
        #[command(flatten)]
        fields: Fields,
        /// Print {"id": …}.
        #[arg(long)]
        json: bool,
    },
    /// Change an agent. What another member changes meanwhile stays, field by field.
    Set {
        /// Its id or name.
        agent: String,
        /// Another name.
        #[arg(long, value_name = "N")]
        name: Option<String>,
        #[command(flatten)]
        fields: Fields,
    },
    /// Make an agent the one that new sessions get.
    Default {
        /// Its id or name.
        agent: String,
    },
    /// Remove an agent that isn't the default one. Its sessions keep naming it, and the default one answers there.
    Remove {
        /// Its id or name.
        agent: String,
    },
}

#[derive(Debug, Args)]
struct Fields {
    /// Which model, or none: that of the session's last turn, else the worker's own.
    #[arg(long, value_name = "PROVIDER/MODEL|none")]
    model: Option<Maybe<String>>,
    /// The system prompt.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    instructions: Option<String>,
    /// Names of core tools; "" for none.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    tools: Option<Vec<String>>,
    /// Names of integrations; "" for none.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    integrations: Option<Vec<String>>,
    /// Tokens that it may think for, or none: as the model does by itself.
    #[arg(long, value_name = "N|none")]
    thinking: Option<Maybe<u64>>,
    /// 0 to 2, or none: the model's own.
    #[arg(long, value_name = "X|none")]
    temperature: Option<Maybe<f64>>,
    /// Calls to the model in one turn, or none: the worker's own limit.
    #[arg(long, value_name = "N|none")]
    step_limit: Option<Maybe<u64>>,
    /// Dollars that its turns may cost in one session, or none.
    #[arg(long, value_name = "USD|none")]
    spend_limit: Option<Maybe<Usd>>,
    /// Colour of its thread, 1 to 7.
    #[arg(long, value_name = "N")]
    thread: Option<u8>,
}

impl Fields {
    fn changes(self) -> Vec<AgentField> {
        // `--tools ""` comes as one empty name.
        let names = |names: Vec<String>| names.into_iter().filter(|name| !name.trim().is_empty()).collect();
        let all = [
            self.model.map(|model| AgentField::Model(model.0)),
            self.instructions.map(AgentField::Instructions),
            self.tools.map(|tools| AgentField::Tools(names(tools))),
            self.integrations.map(|integrations| AgentField::Integrations(names(integrations))),
            self.thinking.map(|tokens| AgentField::Thinking(tokens.0)),
            self.temperature.map(|degree| AgentField::Temperature(degree.0)),
            self.step_limit.map(|steps| AgentField::StepLimit(steps.0)),
            self.spend_limit.map(|limit| AgentField::SpendLimit(limit.0.map(|limit| limit.0))),
            self.thread.map(AgentField::Thread),
        ];
        all.into_iter().flatten().collect()
    }
}

/// An agent as JSON.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    #[serde(flatten)]
    agent: &'a Agent,
    default: bool,
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: AgentArgs) -> Result<(), Failure> {
    on_replica(&arguments.place, async |opened| command(opened, arguments.agent).await).await
}

async fn command(opened: &Opened, command: Command) -> Result<(), Failure> {
    let change = match command {
        Command::List { json } => return list(&opened.workspace().await, json),
        Command::Show { agent, json } => return show(&opened.workspace().await, &agent, json),
        Command::Add { name, fields, json } => {
            let id = opened.change(WorkspaceCommand::AddAgent { name, fields: fields.changes() }).await?;
            return Made::of(id).print(json);
        }
        Command::Set { agent, name, fields } => {
            let fields = name.map(AgentField::Name).into_iter().chain(fields.changes()).collect();
            WorkspaceCommand::SetAgent { agent, fields }
        }
        Command::Default { agent } => WorkspaceCommand::SetDefaultAgent { agent },
        Command::Remove { agent } => WorkspaceCommand::RemoveAgent { agent },
    };
    opened.change(change).await.map(drop)
}

fn list(workspace: &Workspace, as_json: bool) -> Result<(), Failure> {
    let rows = workspace.agents.iter().map(|(id, agent)| Row { id, agent, default: *id == workspace.default_agent });
    if as_json {
        return json(&rows.collect::<Vec<_>>());
    }
    let cells = rows.map(|Row { id, agent, default }| {
        vec![
            if default { "*" } else { "" }.to_owned(),
            one_line(&agent.name),
            agent.model.clone().unwrap_or_else(|| "(the worker's)".into()),
            agent.tools.join(","),
            id.to_owned(),
        ]
    });
    out(&table(&cells.collect::<Vec<_>>()))
}

fn show(workspace: &Workspace, given: &str, as_json: bool) -> Result<(), Failure> {
    let (id, agent) = workspace.agent(given)?;
    let default = id == workspace.default_agent;
    if as_json {
        return json(&Row { id, agent, default });
    }
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".into());
    let rows = [
        ("name", agent.name.clone()),
        ("id", id.to_owned()),
        ("default", if default { "yes" } else { "no" }.into()),
        ("model", or_none(agent.model.clone())),
        ("tools", agent.tools.join(", ")),
        ("integrations", agent.integrations.join(", ")),
        ("thinking", or_none(agent.thinking.map(|tokens| format!("{tokens} tokens")))),
        ("temperature", or_none(agent.temperature.map(|degree| degree.to_string()))),
        ("step limit", or_none(agent.step_limit.map(|steps| steps.to_string()))),
        ("spend limit", or_none(agent.spend_limit.map(|limit| cost(Some(limit), false)))),
        ("thread", agent.thread.to_string()),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), one_line(&value)]).collect();
    out(&format!("{}\n{}\n", table(&rows), plain(agent.instructions.trim_end())))
}
