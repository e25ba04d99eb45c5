//! `skein member …`: who is in the workspace, and what they may do.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ask::{Asked, Relay, made};
use crate::failure::Failure;
use crate::print::{self, out, plain, table};

#[derive(Debug, Args)]
pub(crate) struct MemberArgs {
    #[command(flatten)]
    relay: Relay,
    #[command(subcommand)]
    member: Member,
}

#[derive(Debug, Subcommand)]
enum Member {
    /// List the members.
    List {
        /// Print [{"id", "name", "role", "you"}] as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add a member; prints a token for their first device. Owners only.
    Add {
        /// As shown: 1 to 100 characters.
        name: String,
        /// What they may do.
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
        /// Print {"id", "name", "role", "token"}.
        #[arg(long)]
        json: bool,
    },
    /// Change what a member may do. Owners only.
    Role {
        /// The member, by name or id.
        name: String,
        /// What they may do from now on.
        #[arg(value_enum)]
        role: Role,
    },
    /// Remove a member: none of their tokens lets in any more, and what is connected is cut off. Owners only.
    Remove {
        /// The member, by name or id.
        name: String,
    },
}

/// What a member may do.
#[derive(Clone, Copy, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// Everything.
    Owner,
    /// Everything but members, and tokens of others or of workers.
    Member,
    /// Read.
    Viewer,
}

#[derive(Debug, Deserialize, Serialize)]
struct Row {
    id: String,
    name: String,
    role: String,
    you: bool,
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: MemberArgs) -> Result<(), Failure> {
    let relay = arguments.relay.ask()?;
    match arguments.member {
        Member::List { json } => {
            let rows: Vec<Row> = relay.get("/members").await?;
            if json { print::json(&rows) } else { out(&listed(&rows)) }
        }
        Member::Add { name, role, json } => {
            let member = json!({ "name": name, "role": role });
            made(&relay.send(Method::POST, "/members", &member).await?, json)
        }
        Member::Role { name, role } => {
            let id = find(&relay, &name).await?;
            relay.send(Method::PATCH, &format!("/members/{id}"), &json!({ "role": role })).await.map(drop)
        }
        Member::Remove { name } => {
            let id = find(&relay, &name).await?;
            relay.delete(&format!("/members/{id}")).await
        }
    }
}

/// The id of a member, given by id or name.
async fn find(relay: &Asked, given: &str) -> Result<String, Failure> {
    let rows: Vec<Row> = relay.get("/members").await?;
    let found = rows.iter().find(|row| row.id == given);
    let found = found.or_else(|| rows.iter().find(|row| row.name.to_lowercase() == given.to_lowercase()));
    found.map(|row| row.id.clone()).ok_or_else(|| {
        let known: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        Failure::new(format!("there is no member \"{given}\" (members: {})", known.join(", ")))
    })
}

fn listed(rows: &[Row]) -> String {
    let mut cells = vec![["name", "role", "id", ""].map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(|row| {
        let you = if row.you { "you" } else { "" };
        vec![plain(&row.name), row.role.clone(), row.id.clone(), you.to_owned()]
    }));
    table(&cells)
}
