//! Rule 13: what a worker should do next in a session, a pure function that worker and summary share.

use super::conversation::{Conversation, Leases, Writers};
use super::model::{Continues, RunKey, Session};
use crate::ids::{Epoch, Timestamp};

/// The first thing due. Turn, place, answers, continues and request are those that the run must be made with (rule 6).
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// What kind of thing.
    pub kind: WorkKind,
    /// The run's turn.
    pub turn: String,
    /// The run's `place`; `None`: its own epoch.
    pub place: Option<Epoch>,
    /// The messages it answers.
    pub answers: Vec<String>,
    /// Where it goes on.
    pub continues: Option<Continues>,
    /// The request that asked for it.
    pub request: Option<String>,
    /// The run that it takes over, closes, continues or decides.
    pub of: Option<RunKey>,
    /// `PROVIDER/MODEL` that it needs, if a particular one.
    pub model: Option<String>,
}

/// In the order of rule 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkKind {
    /// A retry in force.
    Retry,
    /// A continue in force.
    Continue,
    /// A streaming run whose lease is dead, no pause holds.
    TakeOver,
    /// The same, after three take-overs: ends as failed.
    GiveUp,
    /// A streaming run whose lease is dead and a pause holds.
    Close,
    /// Every waiting call has its decision.
    Decide,
    /// The queue.
    Queue,
    /// A title.
    Name,
}

/// What is due, or `None`.
pub fn work(
    _session: &Session,
    _conversation: &Conversation,
    _leases: &Leases,
    _writers: &Writers,
    _now: Timestamp,
) -> Option<Work> {
    unimplemented!()
}

/// Why a worker must end the run it is streaming (rule 13, last part), asked at every change of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MustEnd {
    /// A pause holds.
    Paused,
    /// A retry of it is in force, or it is no longer shown.
    Overtaken,
    /// A steer holds: at the next tool boundary.
    Steered,
}

/// Whether the run with this key must end.
pub fn must_end(_session: &Session, _conversation: &Conversation, _run: &str) -> Option<MustEnd> {
    unimplemented!()
}
