//! What comes in on the two sockets, and what it changes.

use super::catalog::Change;
use super::replica::Unreadable;
use super::{Device, Effects, Notice, RELAY};
use crate::ids::{ChangeHash, DocumentId, PeerId, Principal, Timestamp};
use crate::wire::catalog::{FromRelay, ToRelay};
use crate::wire::cbor;
use crate::wire::ephemeral::Ephemeral;
use crate::wire::frame::{Frame, SyncFrame};

impl Device {
    /// The socket of `/sync` is open.
    pub fn sync_opened(&mut self, now: Timestamp) -> Effects {
        let mut effects = self.sync_closed(now);
        effects.sync.push(self.link.opened());
        self.settle(effects)
    }

    /// It is closed.
    pub fn sync_closed(&mut self, _now: Timestamp) -> Effects {
        self.link.closed();
        self.left.clear();
        self.replicas.values_mut().for_each(super::Replica::disconnect);
        self.views.values_mut().for_each(super::View::disconnected);
        self.settle(Effects::default())
    }

    /// A binary message of it.
    pub fn sync_received(&mut self, now: Timestamp, bytes: &[u8]) -> Effects {
        let mut effects = Effects::default();
        match Frame::decode(bytes) {
            Ok(frame) => self.take_frame(now, frame, &mut effects),
            Err(error) => effects.close_sync = Some(format!("the relay sent what is no message: {error}")),
        }
        self.settle(effects)
    }

    fn take_frame(&mut self, now: Timestamp, frame: Frame, effects: &mut Effects) {
        match frame {
            Frame::Peer { sender, version, .. } => match self.link.greeted(sender, &version) {
                Ok(true) => {
                    let documents: Vec<DocumentId> = self.replicas.keys().copied().collect();
                    documents.into_iter().for_each(|document| self.push_sync(document, effects));
                }
                Ok(false) => {}
                Err(why) => effects.close_sync = Some(why),
            },
            Frame::Sync(frame) | Frame::Request(frame) => self.take_sync(now, frame, effects),
            Frame::Ephemeral { sender, document, session, count, data, .. } => {
                if self.replicas.contains_key(&document) && self.link.is_new(&sender, &session, count) {
                    self.take_ephemeral(now, &sender, document, &data, effects);
                }
            }
            Frame::DocUnavailable { document, .. } => {
                if let Some(replica) = self.replicas.get_mut(&document)
                    && replica.heads().is_empty()
                {
                    replica.unavailable = true;
                    effects.notices.push(Notice::Unavailable(document));
                }
            }
            Frame::Error { document: Some(document), hash: Some(hash), message, .. } => {
                if let (Some(replica), Ok(change)) = (self.replicas.get_mut(&document), hash.parse::<ChangeHash>()) {
                    replica.refuse(change);
                    effects.notices.push(Notice::Refused { document, hash, message });
                }
            }
            Frame::Join { .. } | Frame::Leave { .. } | Frame::Error { .. } | Frame::Other { .. } => {}
        }
    }

    fn take_sync(&mut self, now: Timestamp, frame: SyncFrame, effects: &mut Effects) {
        let document = frame.document;
        let Some(replica) = self.replicas.get_mut(&document) else { return };
        let answered = replica.answered;
        match replica.receive(&frame.data) {
            Ok(new) => {
                if !answered && replica.answered {
                    // It may have been up to date all along: only now is that known.
                    effects.notices.push(Notice::Sync);
                }
                let closes = replica.closing && replica.pending == 0 && !self.queue.waits_for(document);
                if !new.is_empty() {
                    self.document_changed(document, &new, effects);
                    self.store(document, &Principal::from(RELAY), new, effects);
                }
                self.tell_refused(document, effects);
                self.push_sync(document, effects);
                if closes {
                    self.unfollow(document, effects);
                }
                self.ask_for_tail(now, document, effects);
            }
            Err(Unreadable::Message(why)) => {
                effects.close_sync = Some(format!("the relay sent what is no sync message: {why}"));
            }
            Err(Unreadable::Changes) => self.document_changed(document, &[], effects),
        }
    }

    fn take_ephemeral(
        &mut self,
        now: Timestamp,
        sender: &PeerId,
        document: DocumentId,
        data: &[u8],
        effects: &mut Effects,
    ) {
        // Payloads of other programs pass through the same channel: what isn't ours is none of our business.
        let Ok(message) = cbor::decode::<Ephemeral>(data) else { return };
        match message {
            Ephemeral::Tail(tail) => {
                if self.derive(now, document).is_err() {
                    return;
                }
                let grown = self.views.get_mut(&document).and_then(|view| view.receive(sender, &tail));
                if let Some(grown) = grown {
                    effects.notices.push(Notice::Grew {
                        session: document,
                        message: tail.message,
                        part: tail.part,
                        kind: tail.kind,
                        offset: grown.offset,
                        text: grown.text,
                    });
                }
                self.ask_for_tail(now, document, effects);
            }
            Ephemeral::Activity { state, tool, progress, .. } => {
                effects.notices.push(Notice::Activity { session: document, state, tool, progress });
            }
            message => effects.notices.push(Notice::Ephemeral { session: document, message }),
        }
    }

    /// The socket of `/catalog` is open.
    pub fn catalog_opened(&mut self, _now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        let hello = self.catalog.opened(self.peer.clone());
        effects.catalog.push(cbor::encode(&hello).into());
        self.settle(effects)
    }

    /// It is closed.
    pub fn catalog_closed(&mut self, _now: Timestamp) -> Effects {
        self.catalog.closed();
        let mut effects = Effects::default();
        self.all_surroundings_changed(&mut effects);
        self.settle(effects)
    }

    /// A binary message of it.
    pub fn catalog_received(&mut self, now: Timestamp, bytes: &[u8]) -> Effects {
        let mut effects = Effects::default();
        // A frame that this version doesn't know is one that it wasn't made for.
        if let Ok(frame) = cbor::decode::<FromRelay>(bytes)
            && let Some(change) = self.catalog.receive(frame)
        {
            self.catalog_changed(now, change, &mut effects);
        }
        self.settle(effects)
    }

    fn catalog_changed(&mut self, now: Timestamp, change: Change, effects: &mut Effects) {
        match change {
            Change::Welcomed => {
                let documents: Vec<DocumentId> = self.replicas.keys().copied().collect();
                documents.into_iter().for_each(|document| self.tell_catalog(&ToRelay::Follow { document }, effects));
                effects.notices.push(Notice::Workspace);
                self.all_surroundings_changed(effects);
                self.open_workspace(effects);
            }
            Change::TurnedAway(why) => effects.close_catalog = Some(why),
            Change::Rows { changed, leases, complete } => {
                for document in &changed {
                    effects.notices.push(Notice::Summary(*document));
                    self.row_changed(*document, effects);
                }
                for document in leases {
                    if self.replicas.contains_key(&document) {
                        self.surroundings_changed(document);
                        effects.notices.push(Notice::Document(document));
                    }
                }
                changed.iter().for_each(|document| self.ask_for_tail(now, *document, effects));
                if self.catalog.caught_up {
                    self.list_kept((!complete).then_some(&*changed));
                }
                if complete {
                    self.send_marks(effects);
                    let open: Vec<DocumentId> = self.replicas.keys().copied().collect();
                    open.into_iter().for_each(|document| self.ask_for_tail(now, document, effects));
                }
            }
            Change::Read(sessions) => effects.notices.extend(sessions.into_iter().map(Notice::Summary)),
            Change::Purge(session, Ok(())) => self.purged(session, effects),
            Change::Purge(session, Err(reason)) => effects.notices.push(Notice::NotPurged { session, reason }),
            Change::Writers(document) => {
                self.surroundings_changed(document);
                if self.replicas.contains_key(&document) {
                    effects.notices.push(Notice::Document(document));
                    self.ask_for_tail(now, document, effects);
                }
            }
            Change::Members => effects.notices.push(Notice::Workspace),
            Change::Workers => {
                effects.notices.push(Notice::Workspace);
                self.all_surroundings_changed(effects);
            }
            Change::Lease(frame) => effects.notices.push(Notice::Lease(frame)),
        }
    }

    /// The relay's heads of a document are in its row: they count until `/sync` says more, and a document that the
    /// relay didn't have is asked for again.
    fn row_changed(&mut self, document: DocumentId, effects: &mut Effects) {
        if self.catalog.is_purged(document) {
            return self.purged(document, effects);
        }
        let (Some(replica), Some(row)) = (self.replicas.get_mut(&document), self.catalog.row(document)) else {
            return;
        };
        if !replica.answered {
            replica.relay_has(&row.heads, false);
        }
        if replica.unavailable {
            replica.disconnect();
            self.push_sync(document, effects);
        }
    }

    fn all_surroundings_changed(&mut self, effects: &mut Effects) {
        for (document, view) in &mut self.views {
            view.surroundings_changed();
            effects.notices.push(Notice::Document(*document));
        }
    }

    /// The time of [`Effects::wake`] has come.
    pub fn wake(&mut self, _now: Timestamp) -> Effects {
        self.settle(Effects::default())
    }
}
