//! `skein session show`: what a session says, for people and for scripts.

use serde::Serialize;
use skein_engine::device::DeviceError;
use skein_engine::ids::{Micros, Timestamp};
use skein_engine::session::Summary;
use skein_engine::session::conversation::{Conversation, ShownMessage, ShownTurn};
use skein_engine::wire::catalog::Welcome;
use skein_engine::workspace::Workspace;

use super::transcript::Transcript;
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{json, out};

/// A session, and what its people and agents are called.
pub(super) struct Shown {
    summary: Summary,
    conversation: Conversation,
    identity: Option<Welcome>,
    workspace: Workspace,
    read_at: Timestamp,
}

/// The contract's shape.
#[derive(Serialize)]
pub(super) struct Json<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    messages: Vec<&'a ShownMessage>,
    turns: &'a [ShownTurn],
    faults: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<Resumed>,
}

/// What going on with it costs now.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resumed {
    cached_until: Option<Timestamp>,
    estimate_micros: Option<Micros>,
}

impl Shown {
    pub(super) async fn read(opened: &Opened, given: &str) -> Result<Self, Failure> {
        let id = opened.session(given).await?;
        opened.client.read(|device, now| {
            let conversation = device.conversation(now, id)?;
            let summary = device.summary(now, id).ok_or(DeviceError::NotHere(id))?;
            Ok(Self {
                summary,
                conversation,
                identity: device.identity().cloned(),
                workspace: device.workspace(),
                read_at: now,
            })
        })
    }

    /// For people, or in the contract's shape.
    pub(super) fn print(&self, as_json: bool) -> Result<(), Failure> {
        if as_json { json(&self.json()) } else { out(&self.transcript().text()) }
    }

    /// As a document for people.
    pub(super) fn markdown(&self) -> String {
        self.transcript().markdown()
    }

    /// In the contract's shape.
    pub(super) fn json(&self) -> Json<'_> {
        let messages = self.conversation.messages.iter().chain(&self.conversation.queued).collect();
        let Conversation { turns, faults, resume, .. } = &self.conversation;
        let resume = resume.as_ref().map(|resume| Resumed {
            cached_until: resume.cached_until,
            estimate_micros: resume.estimate(self.read_at),
        });
        Json { summary: &self.summary, messages, turns, faults, resume }
    }

    fn transcript(&self) -> Transcript<'_> {
        Transcript {
            summary: &self.summary,
            conversation: &self.conversation,
            identity: self.identity.as_ref(),
            workspace: &self.workspace,
        }
    }
}
