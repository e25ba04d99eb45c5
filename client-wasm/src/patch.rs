//! What crosses to the page, shaped as `web/src/engine/protocol.ts` says.

use serde::{Deserialize, Serialize};
use skein_engine::device::{DeviceError, WaitingCommand};
use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::session::Summary;
use skein_engine::session::conversation::{
    Conversation, MemberRole, Reason, ShownMessage, ShownTurn, Status, Totals, Waiting,
};
use skein_engine::session::model::RunKey;
use skein_engine::wire::catalog::{Member, Welcome};
use skein_engine::wire::ephemeral::{ActivityState, TailKind};

use crate::database::DatabaseError;

/// One change of what the page shows. It replaces what it names, whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Patch {
    /// Rows of the list.
    Summaries {
        /// New or changed.
        rows: Vec<Summary>,
        /// Gone.
        removed: Vec<DocumentId>,
        /// Forget all others.
        reset: bool,
    },
    /// A watched session.
    Conversation {
        /// Which.
        session: DocumentId,
        /// All but its messages.
        head: Head,
        /// Ids of the visible messages.
        order: Vec<String>,
        /// Ids of the queued ones.
        queued: Vec<String>,
        /// Those that are new or changed.
        messages: Vec<ShownMessage>,
    },
    /// A watched session that isn't here.
    Absent {
        /// Which.
        session: DocumentId,
        /// Why.
        why: Absence,
        /// What waits for it.
        commands: Vec<WaitingCommand>,
    },
    /// A part has grown by live text.
    Grew(Grew),
    /// What the worker of a watched session is doing.
    Activity {
        /// Which.
        session: DocumentId,
        /// In a word.
        state: ActivityState,
        /// Which tool.
        tool: Option<String>,
        /// How far it has come, or what it waits for, in words.
        progress: Option<String>,
    },
    /// The workspace.
    Workspace {
        /// All of it.
        workspace: WorkspaceRow,
    },
    /// Who this device is signed in as.
    Identity {
        /// `None`: nobody.
        identity: Option<Identity>,
    },
    /// The state of sync.
    Sync {
        /// All of it.
        sync: SyncRow,
    },
    /// Something that a person must know.
    Fault {
        /// What.
        fault: Fault,
    },
}

/// See [`Patch::Grew`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grew {
    /// The session.
    pub session: DocumentId,
    /// The message.
    pub message: String,
    /// Index of the part.
    pub part: u64,
    /// What grows.
    pub kind: TailKind,
    /// UTF-8 bytes of the part before `text`.
    pub offset: u64,
    /// What is new.
    pub text: String,
}

/// Why a watched session can't be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Absence {
    /// It is being read or fetched.
    Opening,
    /// It isn't on this device, and there is no link.
    Offline,
    /// The relay has none such.
    Unknown,
}

/// A [`Conversation`] without its messages.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// As there.
    pub waiting: Option<Waiting>,
    /// As there.
    pub turns: Vec<ShownTurn>,
    /// As there.
    pub front: Option<RunKey>,
    /// As there.
    pub stops: Vec<String>,
    /// As there.
    pub status: Status,
    /// As there.
    pub reason: Option<Reason>,
    /// As there.
    pub totals: Totals,
    /// As there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// Calls that asked, are decided, and haven't gone on since.
    pub decided: Vec<String>,
    /// Only the end of the conversation, as it was kept: the rest is being read. Commands wait until it is here.
    pub loading: bool,
    /// Commands that waited for this session and could not be done.
    pub commands: Vec<WaitingCommand>,
}

impl Head {
    /// Takes a conversation apart: head, visible messages, queued ones.
    pub fn split(conversation: Conversation) -> (Self, Vec<ShownMessage>, Vec<ShownMessage>) {
        let Conversation {
            messages,
            queued,
            waiting,
            turns,
            front,
            stops,
            status,
            reason,
            totals,
            faults,
            decisions,
            ..
        } = conversation;
        let decided = decisions.into_keys().collect();
        let (loading, commands) = (false, Vec::new());
        let head = Self { waiting, turns, front, stops, status, reason, totals, faults, decided, loading, commands };
        (head, messages, queued)
    }
}

/// The workspace, as far as the page shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceRow {
    /// Its name.
    pub name: String,
    /// Id of the agent of new sessions.
    pub default_agent: String,
    /// All agents.
    pub agents: Vec<AgentRow>,
    /// What connected workers offer.
    pub models: Vec<String>,
    /// How many are connected.
    pub workers: usize,
}

/// An agent of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentRow {
    /// Its id.
    pub id: String,
    /// As shown.
    pub name: String,
    /// `PROVIDER/MODEL`.
    pub model: Option<String>,
    /// Colour of its thread.
    pub thread: u8,
}

/// Who this device is signed in as, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The relay's address.
    pub relay: String,
    /// The workspace's id.
    pub workspace: String,
    /// The member's id.
    pub member: String,
    /// As shown.
    pub member_name: String,
    /// What they may do.
    pub role: MemberRole,
    /// Everyone.
    pub members: Vec<Member>,
}

impl Identity {
    /// Of what the relay said.
    pub fn new(relay: &str, welcome: &Welcome) -> Self {
        Self {
            relay: relay.to_owned(),
            workspace: welcome.workspace.clone(),
            member: welcome.member.clone(),
            member_name: welcome.member_name.clone(),
            role: welcome.role,
            members: welcome.members.clone(),
        }
    }
}

/// The honest state of sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncRow {
    /// In a word.
    pub state: SyncWord,
    /// Changes that wait or were refused.
    pub changes: u64,
    /// Files that the relay may not have.
    pub uploads: u64,
    /// Commands that wait for their sessions.
    pub waiting: u64,
    /// Commands that waited and could not be done.
    pub failed: u64,
    /// When the relay was last heard.
    pub last_contact: Option<Timestamp>,
    /// Why there is no link.
    pub reason: Option<String>,
}

/// See [`SyncRow::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncWord {
    /// Nothing waits.
    UpToDate,
    /// Changes are on their way.
    Sending,
    /// No link.
    Offline,
    /// The relay refuses changes, or this device.
    Refused,
    /// The first try.
    Connecting,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// One of those in `protocol.ts`.
    pub code: &'static str,
    /// The cause, in the engine's words.
    pub detail: String,
}

impl Fault {
    /// A fault with this code.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl From<DeviceError> for Fault {
    fn from(error: DeviceError) -> Self {
        let code = match &error {
            DeviceError::Purged(_) => "purged",
            DeviceError::NotDeleted(_) => "not-deleted",
            DeviceError::NoLink => "offline",
            DeviceError::NotHere(_) | DeviceError::NoIdentity => "not-here",
            DeviceError::Opening(_) => "opening",
            DeviceError::ReadOnly
            | DeviceError::Command(_)
            | DeviceError::Arrange(_)
            | DeviceError::Workspace(_)
            | DeviceError::Import(_) => "bad-command",
            DeviceError::Broken { .. } => "engine",
        };
        Self::new(code, error.to_string())
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        Self::new("storage", error.0)
    }
}

/// Arguments of `sign-in`.
#[derive(Deserialize)]
pub struct SignIn {
    /// The relay's address; its origin is enough.
    pub relay: String,
    /// A pairing code or a token.
    pub secret: String,
    /// What the relay calls this device.
    pub device: String,
}
