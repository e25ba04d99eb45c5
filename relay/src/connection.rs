//! One WebSocket, `/sync` or `/catalog`: its messages into the inbox of the task that answers it, that task's messages
//! out. Here are the bounds of a connection: what it may send at once and how fast, how long it may say nothing, how long a
//! message to it may take. A text message, or one that isn't WebSocket, ends it; so does the end of its token.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::accounts::{Accounts, Caller, Ended};
use crate::bucket::Bucket;
use crate::outgoing::{Item, Waiting};

/// The largest message, in bytes: a whole long session in one.
pub const MAX_MESSAGE: usize = 32 << 20;
/// Bytes of messages that may wait for one inbox, over all connections.
const INBOX_BYTES: usize = 64 << 20;
/// Messages that a connection may send at once, and each second: more are read more slowly.
const MESSAGES: f64 = 30_000.0;
const MESSAGES_PER_SECOND: f64 = 5_000.0;
/// Likewise bytes.
const BYTES: f64 = (256 << 20) as f64;
const BYTES_PER_SECOND: f64 = (32 << 20) as f64;
/// How long a connection may take for its first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// How often a quiet connection is asked whether it is there.
const PING: Duration = Duration::from_secs(20);
/// How long it may not answer.
const SILENT: Duration = Duration::from_secs(60);
/// How long a message to it may take: this, and a second for each [`SLOWEST`] bytes.
const SEND: Duration = Duration::from_secs(30);
/// Bytes a second of the slowest link that is worth keeping.
const SLOWEST: usize = 8 << 10;

/// What a connection tells the task that answers it.
#[derive(Debug)]
pub enum Event {
    /// A message, and its share of the inbox's memory, given back when this is dropped.
    Message(Bytes, OwnedSemaphorePermit),
    /// It was congested, and everything has left.
    Drained,
    /// It is gone.
    Gone,
}

/// The way into a task's inbox, bounded in messages and in bytes.
#[derive(Debug)]
pub struct Inbox<T> {
    sender: mpsc::Sender<T>,
    bytes: Arc<Semaphore>,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bytes: self.bytes.clone() }
    }
}

impl<T> Inbox<T> {
    /// An inbox, and the task's end of it.
    pub fn new() -> (Self, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(1024);
        (Self { sender, bytes: Arc::new(Semaphore::new(INBOX_BYTES)) }, receiver)
    }

    /// Hands something to the task. `false`: it has ended.
    pub async fn send(&self, item: T) -> bool {
        self.sender.send(item).await.is_ok()
    }

    async fn message(&self, bytes: Bytes) -> Option<Event> {
        // At least 1: an empty message also takes room.
        let share = u32::try_from(bytes.len().clamp(1, INBOX_BYTES)).ok()?;
        let permit = self.bytes.clone().acquire_many_owned(share).await.ok()?;
        Some(Event::Message(bytes, permit))
    }
}

/// Sets a WebSocket's bounds. Its read buffer is small: thousands of connections are idle.
pub fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).read_buffer_size(8 << 10).write_buffer_size(0)
}

/// When a connection has to go though neither side wants it to.
pub struct Leave {
    /// The relay stops.
    pub stop: watch::Receiver<bool>,
    /// Asked whether its caller is still let in.
    pub accounts: Arc<Accounts>,
    /// Who it was when it came in.
    pub caller: Caller,
}

impl Leave {
    /// Why its caller is let in no more, once that is so.
    async fn turned_out(&self, changes: &mut watch::Receiver<u64>) -> Ended {
        loop {
            changes.mark_unchanged();
            if let Err(ended) = self.accounts.standing(&self.caller) {
                return ended;
            }
            if changes.changed().await.is_err() {
                // The accounts live as long as the relay.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Runs a connection until either side ends it, or it has to leave. `wrap` makes what the inbox takes.
///
/// What came before a token was revoked is still handed on, and nothing that comes after.
pub async fn run<T>(socket: WebSocket, mut waiting: Waiting, inbox: Inbox<T>, wrap: impl Fn(Event) -> T, leave: Leave) {
    let (mut sink, mut stream) = socket.split();
    let mut stop = leave.stop.clone();
    let mut changes = leave.accounts.changes();
    let mut seen = changes.clone();
    // Something may have changed since the token was looked at.
    seen.mark_changed();
    let read = async {
        let mut heard = Instant::now();
        let mut first = true;
        let mut messages = Bucket::new(heard, MESSAGES, MESSAGES_PER_SECOND);
        let mut bytes_in = Bucket::new(heard, BYTES, BYTES_PER_SECOND);
        loop {
            let patience = if first { FIRST_MESSAGE } else { SILENT };
            let message = match tokio::time::timeout_at(heard + patience, stream.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(_)) | None) => return None,
                Err(_) => return Some((close_code::POLICY, "it says nothing".to_owned())),
            };
            match message {
                Message::Binary(bytes) => {
                    first = false;
                    // Whoever sends faster is read more slowly: nothing is lost, and its own socket fills up.
                    let now = Instant::now();
                    let wait = messages.wait(now, 1.0).max(bytes_in.wait(now, bytes.len() as f64));
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    messages.take(Instant::now(), 1.0);
                    bytes_in.take(Instant::now(), bytes.len() as f64);
                    if seen.has_changed().unwrap_or(true) {
                        seen.mark_unchanged();
                        if let Err(ended) = leave.accounts.standing(&leave.caller) {
                            return Some((close_code::POLICY, ended.to_string()));
                        }
                    }
                    let event = inbox.message(bytes).await?;
                    if !inbox.send(wrap(event)).await {
                        return None;
                    }
                }
                Message::Text(_) => {
                    return Some((close_code::UNSUPPORTED, "only binary messages are understood".to_owned()));
                }
                Message::Close(_) => return None,
                // Pings keep nobody in who hasn't said who they are.
                Message::Ping(_) | Message::Pong(_) if first => continue,
                Message::Ping(_) | Message::Pong(_) => {}
            }
            heard = Instant::now();
        }
    };
    let write = async {
        loop {
            let item = match timeout(PING, waiting.next()).await {
                Ok(Some(item)) => item,
                Ok(None) => return None,
                Err(_) => {
                    sink.send(Message::Ping(Bytes::new())).await.ok()?;
                    continue;
                }
            };
            match item {
                Item::Message(bytes) => {
                    let size = bytes.len();
                    let limit = SEND + Duration::from_secs((size / SLOWEST) as u64);
                    timeout(limit, sink.send(Message::Binary(bytes))).await.ok()?.ok()?;
                    if waiting.sent(size) && !inbox.send(wrap(Event::Drained)).await {
                        return None;
                    }
                }
                Item::Close(reason) => return Some((close_code::POLICY, reason)),
            }
        }
    };
    let goodbye = tokio::select! {
        end = read => end,
        end = write => end,
        ended = leave.turned_out(&mut changes) => Some((close_code::POLICY, ended.to_string())),
        () = stopped(&mut stop) => Some((close_code::AWAY, "the relay is stopping".to_owned())),
    };
    inbox.send(wrap(Event::Gone)).await;
    let close = goodbye.map(|(code, reason)| CloseFrame { code, reason: clip(&reason) });
    let _ = timeout(Duration::from_secs(1), sink.send(Message::Close(close))).await;
}

/// Waits until the relay stops.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the relay is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A reason that fits into a close frame: 123 bytes.
fn clip(reason: &str) -> Utf8Bytes {
    let end = (0..=reason.len().min(123)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    reason[..end].into()
}
