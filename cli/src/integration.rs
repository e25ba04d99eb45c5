//! `skein integration …`: the tool servers that members use, and what may run without asking. The operator's settings
//! are the floor: what is said here only tightens them.

use clap::{Args, Subcommand};
use serde::Serialize;
use skein_engine::workspace::integration::Policy;
use skein_engine::workspace::{Integration, Workspace, WorkspaceCommand};

use crate::args::Place;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{json, out, remark, table};
use crate::replica::on_replica;
use crate::session::transcript::one_line;
use crate::value::Maybe;

#[derive(Debug, Args)]
pub(crate) struct IntegrationArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    integration: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the integrations that members have said something of.
    List {
        /// Print a list of integrations as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the tools of an integration for which members have set a policy.
    Tools {
        /// Its name in the operator's settings.
        name: String,
        /// Print [{"tool", "policy"}] as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let agents use an integration.
    Enable {
        /// Its name in the operator's settings.
        name: String,
    },
    /// Let no agent use it.
    Disable {
        /// Its name in the operator's settings.
        name: String,
    },
    /// Say what happens when a tool is called.
    Policy {
        /// The integration's name in the operator's settings.
        name: String,
        /// The tool; * for all others.
        tool: String,
        /// Ask every time, ask once in a session, allow, deny; none: as the operator has it.
        #[arg(value_name = "ask|once|allow|deny|none")]
        policy: Maybe<Policy>,
    },
}

/// An integration as JSON.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    #[serde(flatten)]
    integration: &'a Integration,
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: IntegrationArgs) -> Result<(), Failure> {
    on_replica(&arguments.place, async |opened| command(opened, arguments.integration).await).await
}

async fn command(opened: &Opened, command: Command) -> Result<(), Failure> {
    let change = match command {
        Command::List { json } => return list(&opened.workspace().await, json),
        Command::Tools { name, json } => return tools(&opened.workspace().await, &name, json),
        Command::Enable { name } => WorkspaceCommand::SetIntegration { integration: name, enabled: true },
        Command::Disable { name } => WorkspaceCommand::SetIntegration { integration: name, enabled: false },
        Command::Policy { name, tool, policy } => {
            WorkspaceCommand::SetPolicy { integration: name, tool, policy: policy.0 }
        }
    };
    opened.change(change).await.map(drop)
}

fn list(workspace: &Workspace, as_json: bool) -> Result<(), Failure> {
    let rows = workspace.integrations.iter().map(|(name, integration)| Row { name, integration });
    if as_json {
        return json(&rows.collect::<Vec<_>>());
    }
    let cells = rows.map(|Row { name, integration }| {
        let policy = integration.policy.iter().map(|(tool, policy)| format!("{tool}: {}", policy.word()));
        let state = if integration.enabled { "enabled" } else { "disabled" };
        vec![one_line(name), state.to_owned(), one_line(&policy.collect::<Vec<_>>().join(", "))]
    });
    out(&table(&cells.collect::<Vec<_>>()))
}

fn tools(workspace: &Workspace, name: &str, as_json: bool) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Tool<'a> {
        tool: &'a str,
        policy: Policy,
    }
    let integration = workspace.integrations.get(name).ok_or_else(|| {
        let known: Vec<&str> = workspace.integrations.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        Failure::new(format!("nothing is known of an integration \"{name}\" (known: {known})"))
    })?;
    remark("workers don't tell yet which tools an integration has: these are those with a policy of the members");
    let tools = integration.policy.iter().map(|(tool, policy)| Tool { tool, policy: *policy });
    if as_json {
        return json(&tools.collect::<Vec<_>>());
    }
    let cells = tools.map(|tool| vec![one_line(tool.tool), tool.policy.word().to_owned()]);
    out(&table(&cells.collect::<Vec<_>>()))
}
