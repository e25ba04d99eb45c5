//! What a command may name, of what its author sees: the front run, a waiting call, an answer to be given again, a
//! message to be written anew.

use super::CommandError;
use crate::session::conversation::{Content, Conversation, ShownMessage, ShownTurn, TurnState};
use crate::session::model::{Role, Run, RunState, Session};
use crate::session::outline::attempt;

fn run_of<'a>(session: &'a Session, turn: &ShownTurn) -> Option<&'a Run> {
    session.runs.get(&turn.run)?.last()
}

fn front_turn(seen: &Conversation) -> Option<&ShownTurn> {
    seen.turns.iter().find(|turn| Some(&turn.run) == seen.front.as_ref())
}

/// The front run, if it streams.
pub(super) fn streaming<'a>(session: &'a Session, seen: &Conversation) -> Result<&'a Run, CommandError> {
    let front = front_turn(seen).and_then(|turn| run_of(session, turn));
    front.filter(|run| run.state == RunState::Streaming && !run.inherited).ok_or(CommandError::NothingStreams)
}

/// The front run, if a person may go on with it: it is stopped or failed, or about to be, and no call of it waits.
pub(super) fn stopped<'a>(session: &'a Session, seen: &Conversation) -> Result<&'a Run, CommandError> {
    let turn = front_turn(seen).ok_or(CommandError::NothingStopped)?;
    let run = run_of(session, turn).filter(|run| !run.inherited).ok_or(CommandError::NothingStopped)?;
    let pausing = turn.state == TurnState::Streaming && !seen.stops.is_empty();
    if !pausing && !matches!(turn.state, TurnState::Paused | TurnState::Failed | TurnState::Lost) {
        return Err(CommandError::NothingStopped);
    }
    let waits = calls(seen).any(|(id, _)| seen.stops.iter().any(|stop| stop == id));
    if waits { Err(CommandError::CallWaits) } else { Ok(run) }
}

/// What a retry names: the last answered message, and the attempt that follows the shown one.
pub(super) fn again(
    session: &Session,
    seen: &Conversation,
    message: Option<&str>,
) -> Result<(String, u64), CommandError> {
    let turn = match message {
        None => seen.turns.last().ok_or(CommandError::NothingAnswered)?,
        Some(id) => {
            let unknown = || CommandError::Unknown { what: "message", id: id.to_owned() };
            let shown = seen.messages.iter().find(|shown| shown.id == id).ok_or_else(unknown)?;
            seen.turns.iter().find(|turn| Some(&turn.id) == shown.turn.as_ref()).ok_or_else(unknown)?
        }
    };
    let last = run_of(session, turn).and_then(|run| run.answers.last()).ok_or(CommandError::NothingAnswered)?;
    let before = attempt(&turn.id, last).ok_or(CommandError::NothingAnswered)?;
    Ok((last.clone(), before.saturating_add(1)))
}

/// Calls of the conversation: id and digest.
fn calls(seen: &Conversation) -> impl Iterator<Item = (&str, &str)> {
    let answers = seen.messages.iter().filter(|message| message.role == Role::Assistant);
    answers.flat_map(|message| &message.parts).filter_map(|part| match &part.content {
        Content::ToolCall { id, digest, .. } => Some((id.as_str(), digest.as_str())),
        _ => None,
    })
}

pub(super) fn waiting_call<'a>(seen: &'a Conversation, call: &str) -> Result<&'a str, CommandError> {
    let known = calls(seen).filter(|(id, _)| *id == call).last();
    let (_, digest) = known.ok_or_else(|| CommandError::Unknown { what: "call", id: call.to_owned() })?;
    if seen.stops.iter().any(|stop| stop == call) { Ok(digest) } else { Err(CommandError::NotWaiting) }
}

/// A message of a person that waits.
pub(super) fn queued<'a>(
    session: &Session,
    seen: &'a Conversation,
    id: &str,
) -> Result<&'a ShownMessage, CommandError> {
    let found = seen.queued.iter().find(|queued| queued.id == id);
    found.ok_or_else(|| match session.messages.iter().any(|message| message.id == id) {
        true => CommandError::NotQueued,
        false => CommandError::Unknown { what: "message", id: id.to_owned() },
    })
}

/// What an edit of this message hides: itself if it waits; else it and every person's message that its author sees after
/// it, queued ones too.
pub(super) fn from_there_on<'a>(
    seen: &'a Conversation,
    id: &str,
) -> Result<(&'a ShownMessage, Vec<String>), CommandError> {
    if let Some(queued) = seen.queued.iter().find(|queued| queued.id == id) {
        return Ok((queued, vec![id.to_owned()]));
    }
    let unknown = || CommandError::Unknown { what: "message", id: id.to_owned() };
    let at = seen.messages.iter().position(|message| message.id == id).ok_or_else(unknown)?;
    let after = seen.messages[at..].iter().chain(&seen.queued).filter(|message| message.role == Role::User);
    match seen.messages[at].role {
        Role::User => Ok((&seen.messages[at], after.map(|message| message.id.clone()).collect())),
        Role::Assistant => Err(CommandError::NotAPersons),
    }
}

/// A part that may be left out of what models are sent.
pub(super) fn omittable(seen: &Conversation, id: &str, part: u64) -> Result<(), CommandError> {
    let unknown = |what, id: &str| CommandError::Unknown { what, id: id.to_owned() };
    let message = seen.messages.iter().chain(&seen.queued).find(|message| message.id == id);
    let message = message.ok_or_else(|| unknown("message", id))?;
    let part =
        message.parts.iter().find(|known| known.index == part).ok_or_else(|| unknown("part", &part.to_string()))?;
    let may = matches!(part.content, Content::Attachment { .. } | Content::ToolResult { .. });
    if may { Ok(()) } else { Err(CommandError::NotOmittable) }
}
