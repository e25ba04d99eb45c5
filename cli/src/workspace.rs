//! `skein workspace …`: the workspaces of a relay, and a whole one as a file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skein_engine::workspace::WorkspaceCommand;

use crate::args::Place;
use crate::ask::{Asked, Relay, causes, made};
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{self, cost, line, out, plain, remark, table};
use crate::replica::on_replica;
use crate::value::{Maybe, Usd};

#[derive(Debug, Args)]
pub(crate) struct WorkspaceArgs {
    #[command(flatten)]
    place: Place,
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
    /// Set what all sessions of your workspace may cost together in a day; without an argument, print it.
    Limit {
        /// Dollars, such as 20, or none.
        #[arg(value_name = "USD|none")]
        limit: Option<Maybe<Usd>>,
    },
    /// Write your whole workspace to a file: sessions, files, members without their tokens. Owners only.
    Export {
        /// A tar archive; it is replaced once the new one is whole.
        file: PathBuf,
    },
    /// Put a workspace from such a file on this relay, with nothing changed; prints a token of its owner. Owners of the
    /// relay's first workspace only. What broke off is done again by the same command.
    Import {
        /// The file.
        file: PathBuf,
        /// Print {"id", "name", "document", "token", "leftOut"}.
        #[arg(long)]
        json: bool,
    },
}

/// How often it is said how far it has come.
const NEWS: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize, Serialize)]
struct Row {
    id: String,
    name: String,
    document: Option<String>,
    yours: bool,
}

/// Runs one command to its end.
pub(crate) async fn run(arguments: WorkspaceArgs) -> Result<(), Failure> {
    if let Workspace::Limit { limit } = arguments.workspace {
        return on_replica(&arguments.place, async |opened| day_limit(opened, limit).await).await;
    }
    let relay = Relay::of(&arguments.place).ask()?;
    match arguments.workspace {
        Workspace::Limit { .. } => Ok(()),
        Workspace::List { json } => {
            let rows: Vec<Row> = relay.get("/workspaces").await?;
            if json { print::json(&rows) } else { out(&listed(&rows)) }
        }
        Workspace::Create { name, json } => {
            made(&relay.send(Method::POST, "/workspaces", &json!({ "name": name })).await?, json)
        }
        Workspace::Export { file } => export(&relay, &file).await,
        Workspace::Import { file, json } => import(&relay, &file, json).await,
    }
}

async fn day_limit(opened: &Opened, limit: Option<Maybe<Usd>>) -> Result<(), Failure> {
    match limit {
        Some(limit) => {
            let limit = limit.0.map(|limit| limit.0);
            opened.change(WorkspaceCommand::SetDayLimit { limit }).await.map(drop)
        }
        None => match opened.workspace().await.day_limit {
            Some(limit) => line(&cost(Some(limit), false)),
            None => line("none"),
        },
    }
}

async fn export(relay: &Asked, file: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("{error}: {}", file.display()));
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut coming = relay.download("/workspace/archive").await?;
    let mut kept = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let (mut bytes, mut told) = (0_u64, Instant::now());
    let broke = |error: reqwest::Error| Failure::new(format!("the export broke off: {}", causes(&error)));
    while let Some(piece) = coming.chunk().await.map_err(broke)? {
        kept.write_all(&piece).map_err(failed)?;
        bytes += piece.len() as u64;
        if told.elapsed() >= NEWS {
            told = Instant::now();
            remark(&format!("{} MB", bytes / 1_000_000));
        }
    }
    kept.as_file().sync_all().map_err(failed)?;
    kept.persist(file).map_err(|error| failed(error.error))?;
    remark(&format!("{} bytes in {}", bytes, file.display()));
    Ok(())
}

async fn import(relay: &Asked, file: &Path, as_json: bool) -> Result<(), Failure> {
    let opened = tokio::fs::File::open(file).await;
    let opened = opened.map_err(|error| Failure::new(format!("{error}: {}", file.display())))?;
    let mut coming = relay.upload("/workspaces/archive", opened.into()).await?;
    let (mut text, mut told) = (Vec::new(), Instant::now());
    let mut last = Value::Null;
    let broke = |error: reqwest::Error| Failure::new(format!("the import broke off: {}", causes(&error)));
    while let Some(piece) = coming.chunk().await.map_err(broke)? {
        text.extend_from_slice(&piece);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            last = serde_json::from_slice(&text[..end])?;
            text.drain(..=end);
            if told.elapsed() >= NEWS {
                told = Instant::now();
                remark(&format!("{} of {} documents", last["documents"], last["of"]));
            }
        }
    }
    if let Some(why) = last["error"].as_str() {
        return Err(Failure::new(why));
    }
    if last["token"].is_null() {
        return Err(Failure::new("the import broke off: do it again"));
    }
    if last["leftOut"] != 0 {
        remark(&format!("{} documents stay out: this relay purged them, or refused a change", last["leftOut"]));
    }
    made(&last, as_json)
}

fn listed(rows: &[Row]) -> String {
    let mut cells = vec![["name", "id", ""].map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(|row| {
        let yours = if row.yours { "yours" } else { "" };
        vec![plain(&row.name), row.id.clone(), yours.to_owned()]
    }));
    table(&cells)
}
