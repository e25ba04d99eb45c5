//! `skein session …`: each command is one step on this device's replica, brought to the relay if it is there.

use std::time::Duration;

use serde::Serialize;
use skein_client::Client;
use skein_engine::device::{DeviceError, Notice};
use skein_engine::ids::DocumentId;
use skein_engine::session::command::{Draft, NewSession};
use skein_engine::session::conversation::{Conversation, ShownMessage, ShownTurn, Status};
use skein_engine::session::{Command, Summary};

use crate::args::{Format, One, Session, SessionArgs};
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{json, line, out, remark};
use crate::transcript::{self, Transcript};
use crate::{follow, wait};

/// How long the relay may take to bring what it has, or to acknowledge what it was sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs one command to its end.
pub(crate) async fn run(arguments: SessionArgs) -> Result<(), Failure> {
    let opened = arguments.place.open().await?;
    let client = opened.client.clone();
    let done = command(&opened, arguments.session).await;
    drop(opened);
    client.close().await;
    done
}

async fn command(opened: &Opened, session: Session) -> Result<(), Failure> {
    match session {
        Session::New { name, agent, message, json, .. } => new(opened, name, agent, message, json).await,
        Session::Send { id, text, queue } => {
            let id = open(opened, &id).await?;
            if let Some(message) = act(opened, id, Command::Send(Draft { text, queue, ..Draft::default() })).await? {
                line(&message)?;
            }
            Ok(())
        }
        Session::Wait { id, until, timeout, json } => {
            let id = open(opened, &id).await?;
            let summary = wait::wait(&opened.client, id, &until, timeout).await?;
            if json { self::json(&summary) } else { line(transcript::status_word(summary.status)) }
        }
        Session::List { archived, json, .. } => list(opened, archived, json).await,
        Session::Show { id, json } => {
            let shown = Shown::read(&opened.client, open(opened, &id).await?)?;
            if json { shown.json() } else { out(&shown.transcript(&opened.client, |transcript| transcript.text())) }
        }
        Session::Tail { id } => follow::follow(&opened.client, open(opened, &id).await?).await,
        Session::Pause(One { id }) => silent(opened, &id, Command::Pause).await,
        Session::Continue(One { id }) => silent(opened, &id, Command::Continue).await,
        Session::Approve { id, call, for_session } => silent(opened, &id, Command::Approve { call, for_session }).await,
        Session::Deny { id, call, reason } => silent(opened, &id, Command::Deny { call, reason }).await,
        Session::Rename { id, name } => silent(opened, &id, Command::Rename { name }).await,
        Session::Archive(One { id }) => silent(opened, &id, Command::Archive).await,
        // The device puts it after all others.
        Session::Restore(One { id }) => silent(opened, &id, Command::Restore { position: String::new() }).await,
        Session::Retry { id, message } => silent(opened, &id, Command::Retry { message }).await,
        Session::Remove { id, message } => silent(opened, &id, Command::Remove { message }).await,
        Session::Export { id, format } => {
            let shown = Shown::read(&opened.client, open(opened, &id).await?)?;
            match format {
                Format::Json => shown.json(),
                Format::Markdown => out(&shown.transcript(&opened.client, |transcript| transcript.markdown())),
            }
        }
    }
}

async fn new(
    opened: &Opened,
    name: Option<String>,
    agent: Option<String>,
    message: Option<String>,
    as_json: bool,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct New {
        id: DocumentId,
    }
    let client = &opened.client;
    loaded(client).await;
    if opened.connected {
        // Its agents, and the positions of all sessions.
        client.until(PATIENCE, |device, _| device.sync_state().caught_up.then_some(())).await;
        workspace(client).await;
    }
    let agent = agent.map(|agent| find_agent(client, &agent)).transpose()?;
    let new = NewSession { name, agent, message, ..NewSession::default() };
    let id = client.act(|device, now| device.create(now, &new)).await?;
    brought(opened, id).await?;
    if as_json { json(&New { id }) } else { line(&id.to_string()) }
}

/// Waits until the workspace's document is here.
async fn workspace(client: &Client) {
    let here = |device: &mut skein_engine::device::Device, _| {
        let document = device.identity()?.workspace_document;
        (device.document(document).is_ok()).then_some(())
    };
    client.until(Duration::from_secs(3), here).await;
}

/// The id of an agent, given by id or name.
fn find_agent(client: &Client, given: &str) -> Result<String, Failure> {
    let agents = client.read(|device, _| device.workspace()).agents;
    if agents.contains_key(given) {
        return Ok(given.to_owned());
    }
    let mut named = agents.iter().filter(|(_, agent)| agent.name.eq_ignore_ascii_case(given)).map(|(id, _)| id);
    match (named.next(), named.next()) {
        (Some(id), None) => Ok(id.clone()),
        (Some(_), Some(_)) => Err(Failure::new(format!("several agents are called \"{given}\": give the id"))),
        (None, _) => {
            let known: Vec<&str> = agents.values().map(|agent| agent.name.as_str()).collect();
            let known = if known.is_empty() { "none is known here".into() } else { known.join(", ") };
            Err(Failure::new(format!("there is no agent \"{given}\" (agents: {known})")))
        }
    }
}

async fn silent(opened: &Opened, id: &str, command: Command) -> Result<(), Failure> {
    let id = open(opened, id).await?;
    act(opened, id, command).await.map(drop)
}

/// Does what is asked; the new message's or request's id.
async fn act(opened: &Opened, id: DocumentId, command: Command) -> Result<Option<String>, Failure> {
    let done = opened.client.act(|device, now| device.command(now, id, &command)).await?;
    brought(opened, id).await?;
    Ok(done.id)
}

/// Waits until the relay has what was written here. It is safe here in any case.
async fn brought(opened: &Opened, id: DocumentId) -> Result<(), Failure> {
    if !opened.connected {
        return Ok(());
    }
    let mut notices = opened.client.notices();
    let settled = async {
        let mut why = "the relay refused the change".to_owned();
        loop {
            if opened.client.read(|device, _| device.acknowledged(id)) {
                return Ok(());
            }
            if opened.client.read(|device, _| device.refused(id)) {
                return Err(Failure::new(why));
            }
            if let Some(skein_client::Event::Notice(Notice::Refused { message, .. })) = notices.about(id).await {
                why = format!("the relay refused the change: {message}");
            }
        }
    };
    match tokio::time::timeout(PATIENCE, settled).await {
        Ok(settled) => settled,
        Err(_) => {
            remark("saved on this device; the relay has not acknowledged it yet, a later command will bring it");
            Ok(())
        }
    }
}

/// Waits until nothing is being read from the store any more.
async fn loaded(client: &Client) {
    client.until(PATIENCE, |device, _| (!device.is_loading()).then_some(())).await;
}

/// Opens a session, as new as it can be had.
async fn open(opened: &Opened, given: &str) -> Result<DocumentId, Failure> {
    let client = &opened.client;
    let id: DocumentId = given.parse().map_err(|_| Failure::new(format!("there is no session \"{given}\"")))?;
    client.cast(|device, now| device.open(now, id));
    if opened.connected {
        workspace(client).await;
        let here = |device: &mut skein_engine::device::Device, _| {
            let settled = match device.document(id) {
                Ok(_) => device.up_to_date(id) && device.sync_state().caught_up,
                Err(DeviceError::Opening(_)) => false,
                Err(_) => true,
            };
            settled.then_some(())
        };
        if client.until(PATIENCE, here).await.is_none() {
            remark("the relay is slow: this may not be its latest state");
        }
    }
    loaded(client).await;
    let session = client.read(|device, _| device.session(id).map(|session| session.is_session));
    match session {
        Ok(true) => Ok(id),
        Ok(false) => Err(Failure::new(format!("{id} is a document, but no session"))),
        Err(error) => Err(error.into()),
    }
}

async fn list(opened: &Opened, archived: bool, as_json: bool) -> Result<(), Failure> {
    let client = &opened.client;
    loaded(client).await;
    if opened.connected {
        let fresh = |device: &mut skein_engine::device::Device, _| device.sync_state().caught_up.then_some(());
        if client.until(PATIENCE, fresh).await.is_none() {
            remark("the relay is slow: this may not be its latest state");
        }
    }
    let mut summaries = client.read(|device, now| device.summaries(now));
    summaries.retain(|summary| (summary.status == Status::Archived) == archived);
    // Rule 17: by position as bytes, missing ones last, ties by id.
    summaries
        .sort_by_cached_key(|summary| (summary.position.is_none(), summary.position.clone(), summary.id.to_string()));
    if as_json { json(&summaries) } else { out(&transcript::list(&summaries)) }
}

/// A session as `show` gives it.
struct Shown {
    summary: Summary,
    conversation: Conversation,
}

impl Shown {
    fn read(client: &Client, id: DocumentId) -> Result<Self, Failure> {
        client.read(|device, now| {
            let conversation = device.conversation(now, id)?;
            let summary = device.summary(now, id).ok_or(DeviceError::NotHere(id))?;
            Ok(Self { summary, conversation })
        })
    }

    /// The contract's shape.
    fn json(&self) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Json<'a> {
            #[serde(flatten)]
            summary: &'a Summary,
            messages: Vec<&'a ShownMessage>,
            turns: &'a [ShownTurn],
        }
        let messages = self.conversation.messages.iter().chain(&self.conversation.queued).collect();
        json(&Json { summary: &self.summary, messages, turns: &self.conversation.turns })
    }

    fn transcript(&self, client: &Client, print: impl FnOnce(&Transcript<'_>) -> String) -> String {
        let (identity, workspace) = client.read(|device, _| (device.identity().cloned(), device.workspace()));
        print(&Transcript {
            summary: &self.summary,
            conversation: &self.conversation,
            identity: identity.as_ref(),
            agents: &workspace.agents,
        })
    }
}
