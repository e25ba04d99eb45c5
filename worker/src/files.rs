//! Files of a conversation, as models get them: pictures of the kinds that providers take, text as text, and of all others
//! their name. What a file is, its bytes say, not its name.
//!
//! Invariant: what a provider would refuse is not sent, and the model reads why.

use std::collections::HashMap;
use std::sync::Arc;

use skein_engine::session::conversation::{Content, Conversation};

use crate::link::Link;
use crate::providers::prompt::Image;

/// Bytes of a picture: Anthropic takes 5 MB each, the least of all
/// (<https://docs.claude.com/en/docs/build-with-claude/vision>).
pub const MAX_IMAGE: usize = 5_000_000;
/// Bytes of a text file that go into a prompt.
const MAX_TEXT: usize = 256 << 10;

/// A file, as a model gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// A picture.
    Image(Image),
    /// Words: the file's own, with its name, or why it can't be read.
    Text(String),
}

/// Files by the name of their blob.
pub type Files = HashMap<String, Loaded>;

/// Loads what a conversation names up to and with a turn, and isn't there yet. `Err`: one can't be had just now, and what
/// is sent must not depend on that.
pub async fn load(link: &Link, conversation: &Conversation, turn: &str, files: &mut Files) -> Result<(), String> {
    let messages = &conversation.messages;
    let end = messages.iter().rposition(|message| message.turn.as_deref() == Some(turn)).map_or(0, |last| last + 1);
    let parts = messages[..end].iter().flat_map(|message| &message.parts);
    let named: Vec<(String, String)> = parts
        .filter(|part| !part.omitted)
        .filter_map(|part| match &part.content {
            Content::Attachment { blob, name, .. } => Some((blob.clone(), name.clone())),
            _ => None,
        })
        .collect();
    for (blob, name) in named {
        if files.contains_key(&blob) {
            continue;
        }
        let found = match link.find_blob(&blob).await {
            Err(why) => return Err(format!("the file \"{name}\" can't be had from the relay: {why}")),
            Ok(Some(bytes)) => loaded(&name, &bytes),
            Ok(None) => Loaded::Text(format!("[The file \"{name}\" can't be had: the relay doesn't have it.]")),
        };
        files.insert(blob, found);
    }
    Ok(())
}

/// A file by its content.
pub fn loaded(name: &str, bytes: &[u8]) -> Loaded {
    if let Some(mime) = picture(bytes) {
        return match bytes.len() <= MAX_IMAGE {
            true => Loaded::Image(Image { mime: mime.to_owned(), bytes: Arc::from(bytes) }),
            false => Loaded::Text(format!("[The picture \"{name}\" is left out: it has more than 5 MB.]")),
        };
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => {
            let kept = &text[..text.floor_char_boundary(MAX_TEXT)];
            let cut = if kept.len() < text.len() { "\n[The rest of the file is left out.]" } else { "" };
            Loaded::Text(format!("The file \"{name}\":\n{kept}{cut}"))
        }
        _ => {
            Loaded::Text(format!("[The file \"{name}\" ({} bytes) is of a kind that can't be read here.]", bytes.len()))
        }
    }
}

/// The type of a picture that providers take.
pub fn picture(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_bytes_say() {
        let png = [b"\x89PNG\r\n\x1a\n".as_slice(), &[0; 16]].concat();
        assert!(matches!(loaded("notes.txt", &png), Loaded::Image(Image { mime, .. }) if mime == "image/png"));
        assert_eq!(loaded("a.png", b"just text"), Loaded::Text("The file \"a.png\":\njust text".into()));
        let large = [b"\xff\xd8\xff".as_slice(), &vec![0; MAX_IMAGE]].concat();
        for (bytes, words) in [(large.as_slice(), "more than 5 MB"), (b"%PDF\0\xff", "can't be read here")] {
            let Loaded::Text(said) = loaded("a.jpg", bytes) else { panic!("no picture") };
            assert!(said.contains(words), "{said}");
        }
        let Loaded::Text(long) = loaded("long.txt", "é".repeat(MAX_TEXT).as_bytes()) else { panic!("text") };
        assert!(long.len() < MAX_TEXT + 100 && long.ends_with("is left out.]"));
    }
}
