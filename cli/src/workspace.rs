//! `skein workspace …`: the workspaces of a relay.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ask::{Relay, made};
use crate::failure::Failure;
use crate::print::{self, out, plain, table};

#[derive(Debug, Args)]
pub(crate) struct WorkspaceArgs {
    #[command(flatten)]
    relay: Relay,
    #[command(subcommand)]
    workspace: Workspace,
}

#[derive(Debug, Subcommand)]
enum Workspace {
    /// List the workspaces: yours, or all if you own the first.
    List {
        /// Print [{"id", "name", "document", "yours"}] as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a workspace; prints a token of its owner, which you are. Owners of the first only.
    Create {
        /// As shown: 1 to 100 characters.
        name: String,
        /// Print {"id", "name", "document", "token"}.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Deserialize, Serialize)]
struct Row {
    id: String,
    name: String,
    document: Option<String>,
    yours: bool,
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: WorkspaceArgs) -> Result<(), Failure> {
    let relay = arguments.relay.ask()?;
    match arguments.workspace {
        Workspace::List { json } => {
            let rows: Vec<Row> = relay.get("/workspaces").await?;
            if json { print::json(&rows) } else { out(&listed(&rows)) }
        }
        Workspace::Create { name, json } => {
            made(&relay.send(Method::POST, "/workspaces", &json!({ "name": name })).await?, json)
        }
    }
}

fn listed(rows: &[Row]) -> String {
    let mut cells = vec![["name", "id", ""].map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(|row| {
        let yours = if row.yours { "yours" } else { "" };
        vec![plain(&row.name), row.id.clone(), yours.to_owned()]
    }));
    table(&cells)
}
