//! Who wrote it (the last of the session rules): whether a piece of a document takes part, given the actors of its
//! operations and the relay's table of writers.
//!
//! Invariant: what holds an operation by someone known not to be allowed it takes no part, whoever else wrote in it.

use super::conversation::{MemberRole, Writer, WriterKind, Writers};
use super::model::{AutoName, Message, Origin, Request, Run, Session};
use super::rules::{Rule, off};
use crate::ids::ActorId;

/// Whether something takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everyone who wrote it may.
    Counts,
    /// Someone whom nobody has vouched for wrote some of it: shown as unverified, never acted on.
    Unverified,
    /// Someone known not to be allowed it wrote some of it: it takes no part.
    Void,
}

fn judge(by: &[ActorId], writers: &Writers, allowed: impl Fn(&Writer) -> bool) -> Verdict {
    let mut verdict = if by.is_empty() { Verdict::Unverified } else { Verdict::Counts };
    for actor in by {
        match writers.get(actor) {
            Some(writer) if allowed(writer) => {}
            Some(_) => return Verdict::Void,
            None if off(Rule::Verified) => {}
            None => verdict = Verdict::Unverified,
        }
    }
    verdict
}

fn by_worker(by: &[ActorId], writers: &Writers) -> Verdict {
    judge(by, writers, |writer| writer.kind == WriterKind::Worker || off(Rule::ByWorker))
}

/// A run is a worker's; an inherited one the maker's of the document.
pub(crate) fn run(run: &Run, maker: Option<&ActorId>, writers: &Writers) -> Verdict {
    if run.inherited && made_by(&run.by, maker) { Verdict::Counts } else { by_worker(&run.by, writers) }
}

/// An assistant's message is a worker's; of an inherited run the maker's of the document.
pub(crate) fn answer(message: &Message, inherited: bool, maker: Option<&ActorId>, writers: &Writers) -> Verdict {
    if inherited && made_by(&message.by, maker) { Verdict::Counts } else { by_worker(&message.by, writers) }
}

/// An automatic title is a worker's; in a copy the one that it came with is the maker's.
pub(crate) fn title(name: &AutoName, session: &Session, writers: &Writers) -> Verdict {
    let copied = matches!(session.origin, Some(Origin::Duplicate { .. }));
    if copied && made_by(&name.by, session.maker.as_ref()) { Verdict::Counts } else { by_worker(&name.by, writers) }
}

/// A request is a person's who may write, or a tool's on behalf of one. A worker asks nothing of itself, or it could
/// approve its own calls.
pub(crate) fn request(request: &Request, writers: &Writers) -> Verdict {
    judge(&request.by, writers, |writer| {
        writer.kind != WriterKind::Worker && writer.role != MemberRole::Viewer || off(Rule::ByMember)
    })
}

/// A person's message that a reader without the right to write is known to have written in takes no part.
pub(crate) fn message(message: &Message, writers: &Writers) -> bool {
    let viewer = |actor: &ActorId| writers.get(actor).is_some_and(|writer| writer.role == MemberRole::Viewer);
    off(Rule::ByMember) || !message.by.iter().any(viewer)
}

fn made_by(by: &[ActorId], maker: Option<&ActorId>) -> bool {
    !by.is_empty() && by.iter().all(|actor| Some(actor) == maker || off(Rule::InheritedMaker))
}
