//! `skein session waiting`: commands that wait for their sessions to come to this device, and those that turned out to be
//! impossible when they had come.

use skein_engine::device::WaitingCommand;

use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{json, out};

/// Lists them, or lets some go.
pub(super) async fn waiting(opened: &Opened, drop: &[String], as_json: bool) -> Result<(), Failure> {
    let client = &opened.client;
    for id in drop {
        let known = client.read(|device, _| device.all_waiting_commands().any(|entry| entry.id == *id));
        if !known {
            return Err(Failure::new(format!("no command \"{id}\" waits here")));
        }
        client.act(|device, _| Ok(((), device.drop_waiting(id)))).await?;
    }
    let entries: Vec<WaitingCommand> = client.read(|device, _| device.all_waiting_commands().cloned().collect());
    if as_json {
        return json(&entries);
    }
    let lines = entries.iter().map(|entry| {
        let what = serde_json::to_string(&entry.command)?;
        let why = entry.failed.as_deref().map_or("waits for its session".to_owned(), |why| format!("not done: {why}"));
        Ok(format!("{}  {}  {what}  {why}\n", entry.id, entry.session))
    });
    out(&lines.collect::<Result<String, serde_json::Error>>()?)
}
