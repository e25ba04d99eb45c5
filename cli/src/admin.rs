//! `skein admin …`: what is done to a relay's data folder while no relay runs on it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use skein_relay::admin::{rebuild_queries, rebuild_summaries, verify};

use crate::failure::Failure;
use crate::print::{self, out};

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// Folder of the relay's data. The relay must not be running.
    #[arg(long, global = true, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    #[command(subcommand)]
    admin: Admin,
}

#[derive(Debug, Subcommand)]
enum Admin {
    /// Read every change and check that it is what it was when it came. Repairs nothing, but moves a store aside that can't be opened; fails if something is wrong.
    Verify {
        /// Print {"documents", "changes", "bytes", "problems"} as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Derive every row of the lists of sessions from their documents, whatever the rows say.
    RebuildSummaries {
        /// Print {"documents", "changed", "removed", "unreadable"} as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make everything that `skein query` asks anew, from the documents.
    RebuildQueries {
        /// Print {"sessions"} as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: AdminArgs) -> Result<(), Failure> {
    let failed = |error: skein_relay::RelayError| Failure::new(error.to_string());
    match arguments.admin {
        Admin::Verify { json } => {
            let found = verify(&arguments.data).await.map_err(failed)?;
            if json {
                print::json(&json!({
                    "documents": found.documents,
                    "changes": found.changes,
                    "bytes": found.bytes,
                    "problems": found.problems,
                }))?;
            } else {
                found.problems.iter().try_for_each(|problem| out(&format!("{problem}\n")))?;
                let (documents, changes, bytes) = (found.documents, found.changes, found.bytes);
                out(&format!("{documents} documents, {changes} intact changes, {bytes} bytes\n"))?;
            }
            match found.problems.len() {
                0 => Ok(()),
                problems => Err(Failure::new(format!("problems were found: {problems}"))),
            }
        }
        Admin::RebuildQueries { json } => {
            let sessions = rebuild_queries(&arguments.data).await.map_err(failed)?;
            if json {
                return print::json(&json!({ "sessions": sessions }));
            }
            out(&format!("{sessions} sessions read\n"))
        }
        Admin::RebuildSummaries { json } => {
            let done = rebuild_summaries(&arguments.data).await.map_err(failed)?;
            if json {
                return print::json(&json!({
                    "documents": done.documents,
                    "changed": done.changed,
                    "removed": done.removed,
                    "unreadable": done.unreadable,
                }));
            }
            out(&format!(
                "{} documents read; rows changed: {}, removed: {}, of documents that can't be read: {}\n",
                done.documents, done.changed, done.removed, done.unreadable
            ))
        }
    }
}
