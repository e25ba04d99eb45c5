//! `skein session …`: each command is one step on this device's replica, brought to the relay if it is there.
//!
//! In order of reading: `args` (the grammar), `begin` (new, send, duplicate) with `attach`, `change` (what is done to
//! sessions that stand), `catalog` (read, purge), `list`, `show` with `transcript`, `export`, `wait`, `follow`; `waiting`, `refused`
//! and `gc` are about this device.

pub(crate) mod args;
mod attach;
mod begin;
mod catalog;
mod change;
mod export;
mod follow;
mod gc;
mod list;
mod refused;
mod show;
pub(crate) mod transcript;
mod wait;
mod waiting;

use skein_engine::profile::Arrange;
use skein_engine::session::Command;

use self::args::{Many, Session, SessionArgs};
use self::show::Shown;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{json, line};
use crate::replica::on_replica;

pub(crate) use self::begin::{begin, send};
pub(crate) use self::list::in_order;

/// Runs one command to its end.
pub(crate) async fn run(arguments: SessionArgs) -> Result<(), Failure> {
    on_replica(&arguments.place, async |opened| command(opened, arguments.session).await).await
}

async fn command(opened: &Opened, session: Session) -> Result<(), Failure> {
    use change::{arranged, each, one};
    match session {
        Session::New(new) => begin::new(opened, new).await,
        Session::Send(message) => begin::said(opened, message).await,
        Session::Duplicate { id, at, json } => begin::duplicate(opened, &id, at.as_deref(), json).await,
        Session::Copy { id, json } => refused::copy(opened, &id, json).await,
        Session::Discard { id } => refused::discard(opened, &id).await,
        Session::Edit { id, message, text, detach } => {
            let detach = detach.into_iter().map(|number| number - 1).collect();
            change::told(opened, &id, Command::Edit { message, text, detach }).await
        }
        Session::Remove { id, message } => one(opened, &id, Command::Remove { message }).await,
        Session::Steer { id, message } => one(opened, &id, Command::Steer { message }).await,
        Session::Omit { id, message, part } => one(opened, &id, Command::Omit { message, part }).await,
        Session::Approve { id, call, for_session } => one(opened, &id, Command::Approve { call, for_session }).await,
        Session::Deny { id, call, reason } => one(opened, &id, Command::Deny { call, reason }).await,
        Session::Retry { id, message } => one(opened, &id, Command::Retry { message }).await,
        Session::Rename { id, name } => one(opened, &id, Command::Rename { name }).await,
        Session::Agent { id, agent } => one(opened, &id, Command::SetAgent { agent }).await,
        Session::Limit { id, limit } => {
            let micros = limit.0.map(|limit| limit.0);
            one(opened, &id, Command::SetSpendLimit { micros }).await
        }
        Session::Pause(Many { ids }) => each(opened, &ids, Command::Pause).await,
        Session::Continue(Many { ids }) => each(opened, &ids, Command::Continue).await,
        Session::SmartRename(Many { ids }) => each(opened, &ids, Command::SmartRename).await,
        Session::Archive(Many { ids }) => each(opened, &ids, Command::Archive).await,
        // The device puts it after all others.
        Session::Restore(Many { ids }) => each(opened, &ids, Command::Restore { position: String::new() }).await,
        Session::Delete(Many { ids }) => each(opened, &ids, Command::Delete).await,
        Session::Undelete(Many { ids }) => each(opened, &ids, Command::Undelete).await,
        Session::Read(Many { ids }) => catalog::read(opened, &ids).await,
        Session::Purge(Many { ids }) => catalog::purge(opened, &ids).await,
        Session::Pin(Many { ids }) => arranged(opened, &ids, |session| Arrange::Pin { session }).await,
        Session::Unpin(Many { ids }) => arranged(opened, &ids, |session| Arrange::Unpin { session }).await,
        Session::Move { id, before, .. } => {
            let before = before.as_deref().map(crate::replica::session_id).transpose()?;
            arranged(opened, &[id], |session| Arrange::Move { session, before }).await
        }
        Session::List { archived, deleted, json } => list::list(opened, archived, deleted, json).await,
        Session::Show { id, json } => Shown::read(opened, &id).await?.print(json),
        Session::Export { id, format } => export::export(opened, &id, format).await,
        Session::Import { file, json } => export::import(opened, &file, json).await,
        Session::Waiting { drop, json } => waiting::waiting(opened, &drop, json).await,
        Session::Gc { sessions, json } => gc::gc(opened, sessions, json).await,
        Session::Tail { id } => follow::follow(&opened.client, opened.session(&id).await?).await,
        Session::Wait { id, until, timeout, json } => {
            let id = opened.session(&id).await?;
            let summary = wait::wait(&opened.client, id, &until, timeout).await?;
            if json { self::json(&summary) } else { line(transcript::status_word(summary.status)) }
        }
    }
}
