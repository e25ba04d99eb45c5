//! Frames of `/catalog`: the list of documents, who wrote what, leases. CBOR maps with `type`, one a binary message.
//!
//! A client opens the socket with its token (or ticket), sends [`ToRelay::Hello`], gets [`FromRelay::Welcome`], then
//! rows: all of them, or those since its cursor. Rows travel packed ([`super::packed`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{ActorId, ChangeHash, DocumentId, Epoch, Micros, PeerId, Timestamp, compact_id};
use crate::session::Summary;
use crate::session::conversation::{MemberRole, Writer, WriterKind};
use crate::session::model::Usage;
use crate::session::spent::Spent;
use crate::wire::ephemeral::ActivityState;
use crate::wire::{columns, packed};

/// Version of these frames. 2: rows come packed, marks and purges.
pub const VERSION: u32 = 2;
/// Marks that one frame may hold.
pub const MAX_MARKS: usize = 2_000;

/// From a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum ToRelay {
    /// First.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The peer id that this client uses on `/sync`.
        peer: PeerId,
        /// Where it left off, if it has rows of this workspace.
        cursor: Option<u64>,
    },
    /// Wants the writers of a document, now and as they appear.
    Follow {
        /// The document.
        document: DocumentId,
    },
    /// No longer.
    Unfollow {
        /// The document.
        document: DocumentId,
    },
    /// How far this member has read. A lower mark than the relay's says nothing.
    Read {
        /// At most [`MAX_MARKS`].
        marks: Vec<Mark>,
    },
    /// A person: drop everything of this session but the sums of what it spent. It must be deleted already, and nothing
    /// brings it back.
    Purge {
        /// The session.
        session: DocumentId,
    },
    /// A worker: what it can serve. Passed on to members.
    Offer(Offer),
    /// A worker: may I run this session?
    Claim {
        /// Answered under this number.
        ask: u64,
        /// The session.
        session: DocumentId,
        /// The actor under which it will write for this claim.
        actor: ActorId,
        /// The highest epoch in the worker's replica.
        epoch: Epoch,
    },
    /// A worker: store the change that makes the run, if my claim still lives (rule 8).
    Begin {
        /// Answered under this number.
        ask: u64,
        /// The session.
        session: DocumentId,
        /// Of the claim.
        epoch: Epoch,
        /// The change chunk.
        change: Bytes,
    },
    /// A worker: I am still at it. At most once a second with activity, at least every third of the time to live.
    Renew {
        /// Answered under this number, if it lives ([`FromRelay::Lives`]): asked where the worker must be sure.
        #[serde(default)]
        ask: Option<u64>,
        /// The session.
        session: DocumentId,
        /// Of the claim.
        epoch: Epoch,
        /// For lists.
        activity: Option<ActivityState>,
        /// For lists.
        usage: Option<Usage>,
        /// For lists.
        cost_micros: Option<Micros>,
    },
    /// A worker: a task is due. Granted once for each task and firing, and kept with what became of it.
    Fire {
        /// Answered under this number.
        ask: u64,
        /// Which; its session is the document that `change` makes.
        firing: Firing,
        /// The first change of its session, stored with the grant; `None`: there is no session, and `error` says why.
        change: Option<Bytes>,
    },
    /// A worker: what has been fired.
    Firings {
        /// Answered under this number.
        ask: u64,
    },
    /// A worker: done, and my last change is acknowledged.
    Release {
        /// The session.
        session: DocumentId,
        /// Of the claim.
        epoch: Epoch,
    },
}

/// From the relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum FromRelay {
    /// Answers `Hello`.
    Welcome(Welcome),
    /// Rows, each replacing its older self. `cursor` stands for everything up to them.
    Rows {
        /// Ask for what follows it after a reconnect.
        cursor: u64,
        /// Whether the client must forget the rows and marks it has (its cursor was unknown).
        reset: bool,
        /// The rows.
        #[serde(with = "columns::packed")]
        rows: Vec<Row>,
        /// Whether this is the last of the first batch: the client is up to date.
        complete: bool,
    },
    /// How far this member has read, where that is new to this client. Also the acknowledgement of [`ToRelay::Read`]:
    /// these marks are durable.
    Read {
        /// At most [`MAX_MARKS`].
        #[serde(with = "packed::within")]
        marks: Vec<Mark>,
        /// Stands for everything up to them; `None` while rows are on their way that bring it.
        cursor: Option<u64>,
    },
    /// The session of `Purge` is gone, durably. Everyone else learns it from the row.
    Purged {
        /// The session.
        session: DocumentId,
    },
    /// The session of `Purge` stays as it is.
    NotPurged {
        /// The session.
        session: DocumentId,
        /// Why, in words.
        reason: String,
    },
    /// Who wrote a followed document; added to what was sent before.
    Writers {
        /// The document.
        document: DocumentId,
        /// Rows.
        rows: Vec<WriterRow>,
    },
    /// Who is, or ever was, a member of the workspace; replaced whole.
    Members {
        /// For showing names.
        members: Vec<Member>,
    },
    /// Which workers are connected, replaced whole.
    Workers {
        /// One an offer.
        offers: Vec<Offer>,
    },
    /// The claim is granted.
    Granted {
        /// The question.
        ask: u64,
        /// The new epoch.
        epoch: Epoch,
        /// Milliseconds until it lapses unless renewed.
        ttl_ms: u64,
        /// The relay's heads: start only when the replica holds them.
        heads: Vec<ChangeHash>,
    },
    /// The claim is not granted.
    Busy {
        /// The question.
        ask: u64,
        /// Why, in words.
        reason: String,
    },
    /// The change of `Begin` is durable and on its way to followers.
    Stored {
        /// The question.
        ask: u64,
    },
    /// The change of `Begin` was not stored.
    Refused {
        /// The question.
        ask: u64,
        /// Why, in words.
        reason: String,
    },
    /// The claim of `Renew` lives, and has since it was granted.
    Lives {
        /// The question.
        ask: u64,
    },
    /// The firing is recorded and its session stored.
    Fired {
        /// The question.
        ask: u64,
    },
    /// Somebody has fired it already.
    Taken {
        /// The question.
        ask: u64,
    },
    /// The latest firings of each task, at most [`MAX_FIRINGS`] of one, oldest first.
    Firings {
        /// The question.
        ask: u64,
        /// All of them.
        firings: Vec<Firing>,
    },
    /// To workers: these were triggered from outside and not fired yet.
    Triggered {
        /// All of them.
        triggers: Vec<Trigger>,
    },
    /// A lease was lost: stop at once.
    Lost {
        /// The session.
        session: DocumentId,
        /// Of the claim.
        epoch: Epoch,
    },
    /// The relay could not understand, or won't.
    Error {
        /// One sentence.
        message: String,
    },
}

/// What a client learns of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// [`VERSION`] of the relay.
    pub version: u32,
    /// Id of the workspace.
    pub workspace: String,
    /// Its document.
    pub workspace_document: DocumentId,
    /// The member's profile document.
    pub profile: Option<DocumentId>,
    /// The member whose token this is.
    pub member: String,
    /// As shown.
    pub member_name: String,
    /// Role.
    pub role: MemberRole,
    /// Kind of token.
    pub kind: WriterKind,
    /// All members, for showing names.
    pub members: Vec<Member>,
    /// The relay's clock.
    pub now: Timestamp,
}

impl Welcome {
    /// Who a device is before it has met a relay: its member is `member`, its workspace has no id yet.
    pub fn unbound(member: &str) -> Self {
        Self {
            version: VERSION,
            workspace: String::new(),
            workspace_document: DocumentId::from_bytes([0; 16]),
            profile: None,
            member: member.to_owned(),
            member_name: member.to_owned(),
            role: MemberRole::Owner,
            kind: WriterKind::Member,
            members: Vec::new(),
            now: Timestamp(0),
        }
    }

    /// Whether a relay has said it.
    pub fn is_bound(&self) -> bool {
        !self.workspace.is_empty()
    }
}

/// A member's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Member {
    /// What `author` and `by` hold.
    pub id: String,
    /// As shown.
    pub name: String,
}

/// One document of the workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The document.
    #[serde(with = "compact_id")]
    pub document: DocumentId,
    /// The relay's heads.
    #[serde(with = "hashes")]
    pub heads: Vec<ChangeHash>,
    /// `None` for what is no session.
    pub summary: Option<Summary>,
    /// The lease, while one lives.
    pub live: Option<Live>,
    /// Purged: only sums are left.
    pub tombstone: Option<Tombstone>,
}

/// What is left of a purged session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// When, by the relay's clock.
    pub at: Timestamp,
    /// The member who purged it.
    pub by: String,
    /// What it cost.
    pub spent: Vec<Spent>,
}

/// How far a member has read in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The session.
    #[serde(with = "compact_id")]
    pub session: DocumentId,
    /// The highest [`Summary::progress`] that one of the member's devices has shown.
    pub progress: u64,
}

/// A lease that lives, with what lists show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// Of the claim.
    pub epoch: Epoch,
    /// What the worker is doing.
    pub activity: Option<ActivityState>,
    /// The running estimate.
    pub usage: Option<Usage>,
    /// Its price.
    pub cost_micros: Option<Micros>,
}

/// Who an actor is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterRow {
    /// The actor.
    pub actor: ActorId,
    /// Who that is.
    pub writer: Writer,
}

/// Firings of one task that are told at a time.
pub const MAX_FIRINGS: usize = 50;

/// One firing of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Firing {
    /// The task's id.
    pub task: String,
    /// The same for whoever fires it: when it fell due, in milliseconds; `DUE.N` for its N-th try; a trigger's id.
    pub id: String,
    /// When it fell due, or was triggered.
    pub at: Timestamp,
    /// The run, as the session's origin names it; tries of one firing share it.
    pub run: String,
    /// The session that it made.
    pub session: Option<DocumentId>,
    /// Why it made none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What a trigger gave for placeholders, if the firing may be tried again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
}

/// A task that was triggered from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// The task's id.
    pub task: String,
    /// The firing's id.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// The run.
    pub run: String,
    /// For the placeholders of the task's action.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

/// What a worker can serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// `PROVIDER/MODEL`, the default one first.
    pub models: Vec<String>,
    /// Core tools that are on.
    pub tools: Vec<String>,
    /// By the name in its `skein.toml`.
    #[serde(default)]
    pub integrations: BTreeMap<String, OfferedIntegration>,
}

/// A tool server of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedIntegration {
    /// Its tools.
    pub tools: Vec<String>,
    /// The operator's floor, by tool or `*`: `ask`, `once`, `allow`, `deny`.
    pub policy: BTreeMap<String, String>,
    /// Whether it answers.
    pub health: Health,
}

/// How a tool server is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Health {
    /// Being started.
    #[default]
    Starting,
    /// It answers.
    Up,
    /// It doesn't.
    Down {
        /// Why, in words.
        reason: String,
    },
}

/// Hashes as their bytes, one after the other: in hex they would be most of a row.
mod hashes {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Bytes, ChangeHash};

    pub(super) fn serialize<S: Serializer>(hashes: &[ChangeHash], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        serializer.serialize_bytes(&bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ChangeHash>, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(serde::de::Error::invalid_length(bytes.len(), &"hashes of 32 bytes"));
        }
        Ok(hashes.iter().map(|hash| automerge::ChangeHash(*hash)).collect())
    }
}
