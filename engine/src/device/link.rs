//! The connection to `/sync`: the greeting, the frames' addresses, and the counting of ephemeral messages, by which
//! echoes and duplicates are dropped.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::replica::Outgoing;
use crate::ids::{DocumentId, PeerId, random_id};
use crate::wire::cbor;
use crate::wire::ephemeral::Ephemeral;
use crate::wire::frame::{Frame, PROTOCOL_VERSION, SyncFrame};

/// How many senders' counts are remembered; beyond that all are forgotten, and an old echo may pass once more.
const MAX_SENDERS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct SyncLink {
    peer: PeerId,
    state: State,
    /// Of our own ephemeral messages: random, one a start.
    session: String,
    count: u64,
    /// (sender, its session) → the highest count heard.
    heard: BTreeMap<(PeerId, String), u64>,
}

#[derive(Debug)]
enum State {
    Down,
    Joining,
    Up { relay: PeerId },
}

impl SyncLink {
    /// A link that is down.
    pub(super) fn new(peer: PeerId) -> Self {
        Self { peer, state: State::Down, session: random_id(), count: 0, heard: BTreeMap::new() }
    }

    /// The socket is open: the first message.
    pub(super) fn opened(&mut self) -> Bytes {
        self.state = State::Joining;
        Frame::Join { sender: self.peer.clone(), versions: vec![PROTOCOL_VERSION.to_owned()] }.encode().into()
    }

    /// The socket is closed.
    pub(super) fn closed(&mut self) {
        self.state = State::Down;
    }

    /// The relay has greeted. Whether that brought the link up; in words why not.
    pub(super) fn greeted(&mut self, relay: PeerId, version: &str) -> Result<bool, String> {
        if version != PROTOCOL_VERSION {
            return Err(format!("the relay chose version \"{version}\" of the sync protocol, not {PROTOCOL_VERSION}"));
        }
        let first = matches!(self.state, State::Joining);
        if first {
            self.state = State::Up { relay };
        }
        Ok(first)
    }

    /// Whether the relay has greeted.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether the socket is open.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Down)
    }

    /// A sync message as a frame; `None` while the link is not up.
    pub(super) fn sync(&self, document: DocumentId, message: Outgoing) -> Option<Bytes> {
        let State::Up { relay } = &self.state else { return None };
        let frame = SyncFrame { sender: self.peer.clone(), target: relay.clone(), document, data: message.data.into() };
        let frame = if message.request { Frame::Request(frame) } else { Frame::Sync(frame) };
        Some(frame.encode().into())
    }

    /// An ephemeral message as a frame; `None` while the link is not up.
    pub(super) fn ephemeral(&mut self, document: DocumentId, message: &Ephemeral) -> Option<Bytes> {
        let State::Up { relay } = &self.state else { return None };
        self.count += 1;
        let frame = Frame::Ephemeral {
            sender: self.peer.clone(),
            target: relay.clone(),
            document,
            session: self.session.clone(),
            count: self.count,
            data: cbor::encode(message).into(),
        };
        Some(frame.encode().into())
    }

    /// Whether an ephemeral message is new: neither our own nor one heard before.
    pub(super) fn is_new(&mut self, sender: &PeerId, session: &str, count: u64) -> bool {
        if *sender == self.peer {
            return false;
        }
        if self.heard.len() >= MAX_SENDERS {
            self.heard.clear();
        }
        let heard = self.heard.entry((sender.clone(), session.to_owned())).or_insert(0);
        // Counts begin at 1 among our clients and at 0 or 1 among others': only what was counted past is old.
        let new = count > *heard || (count == 0 && *heard == 0);
        *heard = count.max(*heard);
        new
    }
}
