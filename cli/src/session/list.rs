//! `skein session list`.

use skein_engine::session::Summary;
use skein_engine::session::list::{self, Query};
use skein_engine::session::summary::NameSource;

use super::transcript::{one_line, status_word};
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{cost, json, out, table, time};

/// Lists the sessions, or those in the archive, or those that are deleted, the last one first.
pub(super) async fn list(opened: &Opened, archived: bool, deleted: bool, as_json: bool) -> Result<(), Failure> {
    opened.listed().await;
    let summaries = if deleted {
        let mut summaries = opened.client.read(|device, now| device.deleted(now));
        summaries.sort_by_key(|summary| std::cmp::Reverse(summary.deleted_at));
        summaries
    } else {
        in_order(opened, archived)
    };
    if as_json { json(&summaries) } else { out(&table(&summaries.iter().map(row).collect::<Vec<_>>())) }
}

/// The sessions in the archive, or all others, in the member's order.
pub(crate) fn in_order(opened: &Opened, archived: bool) -> Vec<Summary> {
    let summaries = opened.client.read(|device, now| device.summaries(now));
    let query = Query { archived, ..Query::default() };
    list::list(&summaries, &query, |_| None).into_iter().cloned().collect()
}

fn row(summary: &Summary) -> Vec<String> {
    let name = match summary.name_source {
        NameSource::Default => format!("({})", summary.name),
        NameSource::Auto | NameSource::User => summary.name.clone(),
    };
    let mut marks = Vec::new();
    if summary.unread {
        marks.push("unread".to_owned());
    }
    if summary.pinned {
        marks.push("pinned".to_owned());
    }
    match summary.queued.count {
        0 => {}
        count if summary.queued.held => marks.push(format!("{count} held")),
        count => marks.push(format!("{count} queued")),
    }
    vec![
        summary.id.to_string(),
        status_word(summary.beneath.unwrap_or(summary.status)).to_owned(),
        time(summary.updated_at),
        cost(summary.cost_micros, summary.estimated),
        one_line(&name),
        marks.join(", "),
    ]
}
