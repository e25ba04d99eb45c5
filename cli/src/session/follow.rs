//! `skein session tail`: prints a session as it is written, live text included, until Ctrl-C or until nobody reads.

use std::collections::BTreeMap;
use std::time::Duration;

use skein_client::{Client, Event};
use skein_engine::device::DeviceError;
use skein_engine::ids::DocumentId;
use skein_engine::session::conversation::{Content, Conversation, ShownCallState, ShownMessage};
use skein_engine::session::model::Role;

use super::transcript::part_text;
use crate::failure::Failure;
use crate::print::{out, out_while_read, plain};
use crate::shutdown;

/// What comes within this time is printed in one go.
const PACE: Duration = Duration::from_millis(20);
/// How often a file is looked at that another command may have written to.
const LOOK: Duration = Duration::from_secs(1);

/// Follows until Ctrl-C.
pub(crate) async fn follow(client: &Client, id: DocumentId) -> Result<(), Failure> {
    let mut notices = client.notices();
    let mut printed = Printed::default();
    let following = async {
        loop {
            match client.read(|device, now| device.conversation(now, id)) {
                Ok(conversation) => {
                    if !out_while_read(&printed.news(&conversation))? {
                        return Ok(());
                    }
                }
                Err(DeviceError::Opening(_)) => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(PACE).await;
            tokio::select! {
                event = notices.about(id) => match event {
                    Some(Event::Notice(_) | Event::Missed) => {}
                    None => return Ok(()),
                },
                () = tokio::time::sleep(LOOK) => {
                    if client.has_grown(id) {
                        // Written by another command while there is no relay to bring it.
                        client.cast(|device, now| device.read_again(now, id));
                    }
                }
            }
        }
    };
    tokio::select! {
        ended = following => ended,
        () = shutdown::signal() => out("\n"),
    }
}

/// What stands on the terminal already.
#[derive(Default)]
struct Printed {
    begun: bool,
    /// (message, part) → bytes of it printed, or for what has states, the last state.
    parts: BTreeMap<(String, u64), Done>,
    /// The message that was printed last.
    last: Option<String>,
}

#[derive(Clone, PartialEq)]
enum Done {
    Bytes(usize),
    State(Option<ShownCallState>),
}

impl Printed {
    /// What is new. The first time: the last exchange.
    fn news(&mut self, conversation: &Conversation) -> String {
        let messages: Vec<&ShownMessage> = conversation.messages.iter().chain(&conversation.queued).collect();
        if !std::mem::replace(&mut self.begun, true) {
            let from = messages.iter().rposition(|message| message.role == Role::User).unwrap_or(0);
            messages[..from].iter().for_each(|message| {
                self.message(message);
            });
            self.last = None;
        }
        messages.into_iter().map(|message| self.message(message)).collect()
    }

    fn message(&mut self, message: &ShownMessage) -> String {
        let mut text = String::new();
        for part in &message.parts {
            let key = (message.id.clone(), part.index);
            let (new, done) = match &part.content {
                Content::Text { text } | Content::Thinking { text } => {
                    let from = match self.parts.get(&key) {
                        Some(Done::Bytes(bytes)) => *bytes,
                        _ => 0,
                    };
                    (text.get(from..).unwrap_or_default().to_owned(), Done::Bytes(from.max(text.len())))
                }
                content => {
                    let state = match content {
                        Content::ToolCall { state, .. } => Some(*state),
                        _ => None,
                    };
                    let done = Done::State(state);
                    let shown = state == Some(ShownCallState::Preparing) || self.parts.get(&key) == Some(&done);
                    (if shown { String::new() } else { format!("\n{}\n", part_text(part)) }, done)
                }
            };
            if new.is_empty() {
                continue;
            }
            if self.last.as_ref() != Some(&message.id) {
                let who = if message.role == Role::User { "you" } else { "assistant" };
                text.push_str(&format!("\n-- {who}\n"));
                self.last = Some(message.id.clone());
            } else if !self.parts.contains_key(&key) {
                text.push('\n');
            }
            text.push_str(&plain(&new));
            self.parts.insert(key, done);
        }
        text
    }
}
