//! `skein integration …`: the tool servers that members use, and what may run without asking. The operator's settings
//! are the floor: what is said here only tightens them.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use serde::Serialize;
use skein_engine::wire::catalog::{Health, Offer, OfferedIntegration};
use skein_engine::workspace::integration::Policy;
use skein_engine::workspace::{Workspace, WorkspaceCommand};

use crate::args::Place;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{json, out, table};
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
    /// List the integrations that workers offer, or that members have said something of.
    List {
        /// Print a list of integrations as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the tools of an integration, and what happens when each is called.
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

/// An integration as JSON: what the worker says, and what members do.
#[derive(Serialize)]
struct Row {
    name: String,
    enabled: bool,
    /// What members have said of its tools.
    policy: BTreeMap<String, Policy>,
    /// How it is; `None`: no connected worker offers it.
    health: Option<Health>,
    tools: usize,
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: IntegrationArgs) -> Result<(), Failure> {
    on_replica(&arguments.place, async |opened| command(opened, arguments.integration).await).await
}

async fn command(opened: &Opened, command: Command) -> Result<(), Failure> {
    let change = match command {
        Command::List { json } => return list(opened, json).await,
        Command::Tools { name, json } => return tools(opened, &name, json).await,
        Command::Enable { name } => WorkspaceCommand::SetIntegration { integration: name, enabled: true },
        Command::Disable { name } => WorkspaceCommand::SetIntegration { integration: name, enabled: false },
        Command::Policy { name, tool, policy } => {
            WorkspaceCommand::SetPolicy { integration: name, tool, policy: policy.0 }
        }
    };
    opened.change(change).await.map(drop)
}

/// What connected workers offer, by name.
async fn offered(opened: &Opened) -> BTreeMap<String, OfferedIntegration> {
    opened.listed().await;
    let offers: Vec<Offer> = opened.client.read(|device, _| device.offers().to_vec());
    offers.into_iter().flat_map(|offer| offer.integrations).collect()
}

fn all(workspace: &Workspace, offered: &BTreeMap<String, OfferedIntegration>) -> Vec<Row> {
    let names: BTreeSet<&String> = workspace.integrations.keys().chain(offered.keys()).collect();
    let row = |name: &String| {
        let (said, offer) = (workspace.integrations.get(name), offered.get(name));
        Row {
            name: name.clone(),
            enabled: said.is_none_or(|said| said.enabled),
            policy: said.map(|said| said.policy.clone()).unwrap_or_default(),
            health: offer.map(|offer| offer.health.clone()),
            tools: offer.map_or(0, |offer| offer.tools.len()),
        }
    };
    names.into_iter().map(row).collect()
}

async fn list(opened: &Opened, as_json: bool) -> Result<(), Failure> {
    let rows = all(&opened.workspace().await, &offered(opened).await);
    if as_json {
        return json(&rows);
    }
    let cells = rows.into_iter().map(|row| {
        let policy = row.policy.iter().map(|(tool, policy)| format!("{tool}: {}", policy.word()));
        let health = match row.health {
            None => "not offered".to_owned(),
            Some(Health::Starting) => "starting".to_owned(),
            Some(Health::Up) => format!("up, {} tools", row.tools),
            Some(Health::Down { reason }) => format!("down: {reason}"),
        };
        let state = if row.enabled { "enabled" } else { "disabled" };
        let policy = policy.collect::<Vec<_>>().join(", ");
        vec![one_line(&row.name), state.to_owned(), one_line(&health), one_line(&policy)]
    });
    out(&table(&cells.collect::<Vec<_>>()))
}

async fn tools(opened: &Opened, name: &str, as_json: bool) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Tool {
        tool: String,
        /// What holds: the operator's floor, tightened by members.
        policy: Policy,
    }
    let (workspace, offered) = (opened.workspace().await, offered(opened).await);
    let (said, offer) = (workspace.integrations.get(name), offered.get(name));
    if said.is_none() && offer.is_none() {
        let known: Vec<String> = all(&workspace, &offered).into_iter().map(|row| row.name).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        return Err(Failure::new(format!("nothing is known of an integration \"{name}\" (known: {known})")));
    }
    let listed = offer.map(|offer| offer.tools.clone()).unwrap_or_default();
    let named = said.into_iter().flat_map(|said| said.policy.keys()).filter(|tool| *tool != "*").cloned();
    let names: BTreeSet<String> = listed.into_iter().chain(named).collect();
    let tools = names.into_iter().map(|tool| {
        let floor = offer.and_then(|offer| offer.policy.get(&tool).or_else(|| offer.policy.get("*")));
        let floor = floor.and_then(|word| Policy::from_word(word)).unwrap_or(Policy::Ask);
        let policy = said.and_then(|said| said.policy_of(&tool)).map_or(floor, |policy| policy.max(floor));
        Tool { tool, policy }
    });
    if as_json {
        return json(&tools.collect::<Vec<_>>());
    }
    let cells = tools.map(|tool| vec![one_line(&tool.tool), tool.policy.word().to_owned()]);
    out(&table(&cells.collect::<Vec<_>>()))
}
