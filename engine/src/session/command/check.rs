//! What a name, a text and a file of a person may be.

use super::{Attachment, Command, CommandError};
use crate::blob::BlobId;
use crate::ids::Micros;

/// Bytes of a message's text.
pub(super) const MAX_TEXT: usize = 1 << 20;
/// Characters of a name.
const MAX_NAME: usize = 200;
/// Files of one message.
const MAX_ATTACHMENTS: usize = 100;
/// Characters of a MIME type (RFC 6838 allows 127 a side).
const MAX_MIME: usize = 255;

/// What can be said of a command without the session that it is for.
pub fn alone(command: &Command) -> Result<(), CommandError> {
    match command {
        Command::Send(draft) => {
            let files = draft.attachments.as_deref().unwrap_or_default();
            attachments(files)?;
            if files.is_empty() { text(&draft.text).map(drop) } else { text_or_none(&draft.text).map(drop) }
        }
        Command::Edit { text, .. } => text_or_none(text).map(drop),
        Command::Rename { name: given } | Command::SetAgent { agent: given } => name(given).map(drop),
        Command::Deny { reason: Some(reason), .. } => text_or_none(reason).map(drop),
        Command::SetSpendLimit { micros: Some(Micros(0)) } => Err(CommandError::BadLimit),
        _ => Ok(()),
    }
}

pub(super) fn text(text: &str) -> Result<&str, CommandError> {
    if text.trim().is_empty() { Err(CommandError::Empty) } else { text_or_none(text).map(Option::unwrap_or_default) }
}

/// Words that may be missing, since something else is there.
pub(super) fn text_or_none(text: &str) -> Result<Option<&str>, CommandError> {
    if text.len() > MAX_TEXT {
        Err(CommandError::TooLong)
    } else {
        Ok(Some(text).filter(|text| !text.trim().is_empty()))
    }
}

/// A name that can be told from others where it is shown: no line breaks, nothing that turns the direction of what
/// follows, and something to be seen. Joiners within it are letters of their scripts.
pub(crate) fn name(name: &str) -> Result<&str, CommandError> {
    let name = name.trim();
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let unseen = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    if name.is_empty() {
        Err(CommandError::Empty)
    } else if name.chars().count() > MAX_NAME || name.chars().any(|c| breaks(c) || turns(c)) || name.chars().all(unseen)
    {
        Err(CommandError::BadName)
    } else {
        Ok(name)
    }
}

pub(super) fn attachments(files: &[Attachment]) -> Result<(), CommandError> {
    let good = |file: &Attachment| file.blob.parse::<BlobId>().is_ok() && file.mime.len() <= MAX_MIME;
    if files.len() > MAX_ATTACHMENTS || !files.iter().all(good) {
        return Err(CommandError::BadAttachment);
    }
    files.iter().try_for_each(|file| name(&file.name).map(drop))
}
