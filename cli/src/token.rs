//! `skein token …`: what lets devices, workers and tools in.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use skein_engine::ids::Timestamp;

use crate::ask::{Relay, made};
use crate::failure::Failure;
use crate::print::{self, out, plain, table};

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    relay: Relay,
    #[command(subcommand)]
    token: Token,
}

#[derive(Debug, Subcommand)]
enum Token {
    /// List your tokens; as an owner, everyone's.
    List {
        /// Print [{"id", "name", "kind", "readOnly", "member", "memberName", "created", "lastUsed", "current"}] as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a token for a program of others that acts for you; prints it, once.
    Add {
        /// What it is for: 1 to 100 characters.
        name: String,
        /// It may change nothing.
        #[arg(long)]
        read_only: bool,
        /// For a worker, which writes answers. Owners only.
        #[arg(long, conflicts_with = "read_only")]
        worker: bool,
        /// Print {"id", "token"}.
        #[arg(long)]
        json: bool,
    },
    /// Make a token useless: it lets nobody in any more, and what is connected with it is cut off.
    Revoke {
        /// The token's id, as `list` gives it.
        id: String,
    },
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    kind: String,
    read_only: bool,
    member: String,
    member_name: String,
    created: Timestamp,
    last_used: Option<Timestamp>,
    current: bool,
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: TokenArgs) -> Result<(), Failure> {
    let relay = arguments.relay.ask()?;
    match arguments.token {
        Token::List { json } => {
            let rows: Vec<Row> = relay.get("/tokens").await?;
            if json { print::json(&rows) } else { out(&listed(&rows)) }
        }
        Token::Add { name, read_only, worker, json } => {
            let kind = if worker { "worker" } else { "tool" };
            let token = json!({ "name": name, "kind": kind, "readOnly": read_only });
            made(&relay.send(Method::POST, "/tokens", &token).await?, json)
        }
        Token::Revoke { id } => {
            if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(Failure::new("there is no such token"));
            }
            relay.delete(&format!("/tokens/{id}")).await
        }
    }
}

fn listed(rows: &[Row]) -> String {
    let head = ["name", "kind", "member", "made", "last used", "id", ""];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(|row| {
        let kind = match row.kind.as_str() {
            "member" => "device",
            kind => kind,
        };
        let reads = if row.read_only { ", reads only" } else { "" };
        vec![
            plain(&row.name),
            format!("{kind}{reads}"),
            plain(&row.member_name),
            print::time(Some(row.created)),
            print::time(row.last_used),
            row.id.clone(),
            if row.current { "this one" } else { "" }.to_owned(),
        ]
    }));
    table(&cells)
}
