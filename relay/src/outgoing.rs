//! What waits to be sent on one connection, bounded: whoever produces is told when the socket doesn't keep up, and what
//! is far behind is cut off. The producer's end never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Above this many bytes a connection is congested: no more is produced for it until it has drained.
const CONGESTED_BYTES: usize = 256 << 10;
/// Above this many messages, likewise.
const CONGESTED_MESSAGES: usize = 256;
/// With this many bytes waiting, one more ends the connection. (A single message may be larger: a whole document.)
const FULL_BYTES: usize = 32 << 20;
/// With this many messages waiting, one more ends the connection.
const FULL_MESSAGES: usize = 16_384;

/// One thing to do on the socket.
#[derive(Debug)]
pub enum Item {
    /// Send a binary message.
    Message(Bytes),
    /// Close, with a reason for people.
    Close(String),
}

/// How a message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// More may follow.
    Fits,
    /// It waits, but nothing more should be produced until the connection has drained.
    Congested,
}

/// The producer's end. Clones feed the same connection.
#[derive(Clone, Debug)]
pub struct Outgoing {
    items: mpsc::UnboundedSender<Item>,
    gauge: Arc<Gauge>,
}

/// The socket's end.
#[derive(Debug)]
pub struct Waiting {
    items: mpsc::UnboundedReceiver<Item>,
    gauge: Arc<Gauge>,
}

#[derive(Debug, Default)]
struct Gauge {
    bytes: AtomicUsize,
    messages: AtomicUsize,
    congested: AtomicBool,
    closing: AtomicBool,
}

/// Both ends for one connection.
pub fn channel() -> (Outgoing, Waiting) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let gauge = Arc::new(Gauge::default());
    (Outgoing { items: sender, gauge: gauge.clone() }, Waiting { items: receiver, gauge })
}

impl Outgoing {
    /// Adds a message. After the end of the connection it goes nowhere.
    pub fn push(&self, message: Bytes) -> Pushed {
        let gauge = &self.gauge;
        let before = gauge.bytes.fetch_add(message.len(), Ordering::SeqCst);
        let messages = gauge.messages.fetch_add(1, Ordering::SeqCst);
        if before >= FULL_BYTES || messages >= FULL_MESSAGES {
            self.close("it reads too slowly");
            return Pushed::Congested;
        }
        let congested = before + message.len() > CONGESTED_BYTES || messages > CONGESTED_MESSAGES;
        if congested {
            // Before the message is there to be sent: else it may be gone before anyone is to be told so.
            gauge.congested.store(true, Ordering::SeqCst);
        }
        // A send fails only when the socket is gone.
        let _ = self.items.send(Item::Message(message));
        if congested { Pushed::Congested } else { Pushed::Fits }
    }

    /// Closes the connection after what is waiting.
    pub fn close(&self, reason: &str) {
        if !self.gauge.closing.swap(true, Ordering::SeqCst) {
            let _ = self.items.send(Item::Close(reason.to_owned()));
        }
    }
}

impl Waiting {
    /// The next thing to do; `None` when nobody can add any more.
    pub async fn next(&mut self) -> Option<Item> {
        self.items.recv().await
    }

    /// This many bytes have left. Whether the connection was congested and has drained: its producer must be told.
    pub fn sent(&self, bytes: usize) -> bool {
        self.gauge.bytes.fetch_sub(bytes, Ordering::SeqCst);
        let left = self.gauge.messages.fetch_sub(1, Ordering::SeqCst) - 1;
        left == 0 && self.gauge.congested.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_congested_connection_says_once_when_it_has_drained() {
        let (outgoing, mut waiting) = channel();
        assert_eq!(outgoing.push(Bytes::from_static(b"small")), Pushed::Fits);
        assert_eq!(outgoing.push(vec![0; CONGESTED_BYTES].into()), Pushed::Congested);
        let mut drained = Vec::new();
        for _ in 0..2 {
            let Some(Item::Message(message)) = waiting.next().await else { panic!("a message") };
            drained.push(waiting.sent(message.len()));
        }
        assert_eq!(drained, [false, true]);
        assert_eq!(outgoing.push(Bytes::from_static(b"small")), Pushed::Fits);
        waiting.next().await.unwrap();
        assert!(!waiting.sent(5));
    }

    #[tokio::test]
    async fn one_that_never_reads_is_closed_and_takes_no_more_memory() {
        let (outgoing, mut waiting) = channel();
        let message = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..1000 {
            outgoing.push(message.clone());
        }
        drop(outgoing);
        let mut messages = 0;
        loop {
            match waiting.next().await {
                Some(Item::Message(_)) => messages += 1,
                Some(Item::Close(reason)) => break assert!(reason.contains("slowly")),
                None => panic!("it was not closed"),
            }
        }
        assert_eq!(messages, FULL_BYTES >> 20);
        assert!(waiting.next().await.is_none());
    }
}
