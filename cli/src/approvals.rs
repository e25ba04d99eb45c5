//! `skein approvals`: the tool calls of all sessions that wait for a person.

use clap::Args;
use serde::Serialize;
use skein_engine::ids::DocumentId;
use skein_engine::session::approval::{Asked, asked};
use skein_engine::session::conversation::Reason;

use crate::args::Place;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{json, out, remark, table, time};
use crate::replica::on_replica;
use crate::session::in_order;
use crate::session::transcript::one_line;

#[derive(Debug, Args)]
pub(crate) struct ApprovalsArgs {
    /// Print [{"session", "call", "tool", "input", "askedAt"}] as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Row {
    session: DocumentId,
    #[serde(flatten)]
    asked: Asked,
}

/// Lists them: approve or deny with `skein session`.
pub(crate) async fn run(arguments: ApprovalsArgs) -> Result<(), Failure> {
    on_replica(&arguments.place, async |opened| {
        let rows = rows(opened).await;
        if arguments.json { json(&rows) } else { out(&listed(&rows)) }
    })
    .await
}

async fn rows(opened: &Opened) -> Vec<Row> {
    opened.listed().await;
    let asking = [false, true]
        .into_iter()
        .flat_map(|archived| in_order(opened, archived))
        .filter(|summary| matches!(summary.reason, Some(Reason::Approval { .. })));
    let mut rows = Vec::new();
    for summary in asking {
        let session = summary.id;
        let conversation = match opened.session(&session.to_string()).await {
            Ok(_) => opened.client.read(|device, now| device.conversation(now, session)).map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match conversation {
            Ok(conversation) => rows.extend(asked(&conversation).into_iter().map(|asked| Row { session, asked })),
            Err(failure) => remark(&failure.to_string()),
        }
    }
    rows
}

fn listed(rows: &[Row]) -> String {
    let cells = rows.iter().map(|Row { session, asked }| {
        vec![
            session.to_string(),
            asked.call.clone(),
            time(asked.asked_at),
            one_line(&asked.tool),
            one_line(&asked.input),
        ]
    });
    table(&cells.collect::<Vec<_>>())
}
