//! `skein session list`.

use skein_engine::session::Summary;
use skein_engine::session::conversation::Status;
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
        let mut summaries = in_order(opened);
        summaries.retain(|summary| (summary.status == Status::Archived) == archived);
        summaries
    };
    if as_json { json(&summaries) } else { out(&table(&summaries.iter().map(row).collect::<Vec<_>>())) }
}

/// All sessions that aren't deleted, in the member's order (rule 17): by position as bytes, missing ones last, ties by
/// id.
pub(crate) fn in_order(opened: &Opened) -> Vec<Summary> {
    let mut summaries = opened.client.read(|device, now| device.summaries(now));
    summaries
        .sort_by_cached_key(|summary| (summary.position.is_none(), summary.position.clone(), summary.id.to_string()));
    summaries
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
