//! This device's copy of the catalog: rows with their cursor, what this member has read, who wrote what, which workers
//! are there, and who this device is. Frames flow in; what has changed flows out.
//!
//! Invariant: a copy belongs to one workspace. A relay that serves another is turned away before any of its rows is
//! taken.

use std::collections::BTreeMap;

use super::marks::Marks;
use crate::ids::{ActorId, DocumentId, Epoch, PeerId};
use crate::session::conversation::Writer;
use crate::wire::catalog::{FromRelay, Live, Offer, Row, ToRelay, VERSION, Welcome, WriterRow};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    link: Link,
    pub(super) identity: Option<Welcome>,
    rows: BTreeMap<DocumentId, Row>,
    cursor: Option<u64>,
    pub(super) marks: Marks,
    writers: BTreeMap<DocumentId, BTreeMap<ActorId, Writer>>,
    offers: Vec<Offer>,
    pub(super) caught_up: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Link {
    #[default]
    Down,
    /// `Hello` is sent.
    Greeting,
    Up,
}

/// What a frame has changed.
#[derive(Debug)]
pub(super) enum Change {
    /// The relay has greeted.
    Welcomed,
    /// It serves another workspace, or another version, in words.
    TurnedAway(String),
    /// Rows came. Those of `leases` have another lease than before; with `complete` the copy has just become up to date.
    Rows { changed: Vec<DocumentId>, leases: Vec<DocumentId>, complete: bool },
    /// The member has read these further.
    Read(Vec<DocumentId>),
    /// A session was purged, or stays, in words why.
    Purge(DocumentId, Result<(), String>),
    /// Writers of a document came.
    Writers(DocumentId),
    /// Members came or went.
    Members,
    /// Workers came or went.
    Workers,
    /// For a worker.
    Lease(FromRelay),
}

impl Catalog {
    /// A catalog that knows nothing but who this device was.
    pub(super) fn new(identity: Option<Welcome>) -> Self {
        Self { identity, ..Self::default() }
    }

    /// Rows kept from an earlier start.
    pub(super) fn restore(&mut self, rows: Vec<Row>, cursor: u64) {
        self.rows = rows.into_iter().map(|row| (row.document, row)).collect();
        self.cursor = Some(cursor);
    }

    /// Writers kept from an earlier start.
    pub(super) fn restore_writers(&mut self, document: DocumentId, rows: Vec<WriterRow>) {
        self.writers.entry(document).or_default().extend(rows.into_iter().map(|row| (row.actor, row.writer)));
    }

    /// What to keep.
    pub(super) fn writer_rows(&self) -> Vec<(DocumentId, Vec<WriterRow>)> {
        let rows = |writers: &BTreeMap<ActorId, Writer>| {
            writers.iter().map(|(actor, writer)| WriterRow { actor: actor.clone(), writer: writer.clone() }).collect()
        };
        self.writers.iter().map(|(document, writers)| (*document, rows(writers))).collect()
    }

    /// The socket is open: the first message.
    pub(super) fn opened(&mut self, peer: PeerId) -> ToRelay {
        self.link = Link::Greeting;
        ToRelay::Hello { version: VERSION, peer, cursor: self.cursor }
    }

    /// The socket is closed. Rows, and the leases in them, stay as last known.
    pub(super) fn closed(&mut self) {
        self.link = Link::Down;
        self.caught_up = false;
        self.offers.clear();
    }

    /// Whether the relay has greeted.
    pub(super) fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Takes a frame.
    pub(super) fn receive(&mut self, frame: FromRelay) -> Option<Change> {
        match (&self.link, frame) {
            (Link::Greeting, FromRelay::Welcome(welcome)) => Some(self.welcome(welcome)),
            (_, FromRelay::Error { message }) => Some(Change::Lease(FromRelay::Error { message })),
            (Link::Down | Link::Greeting, _) | (Link::Up, FromRelay::Welcome(_)) => None,
            (Link::Up, FromRelay::Rows { cursor, reset, rows, complete }) => {
                Some(self.take_rows(cursor, reset, rows, complete))
            }
            (Link::Up, FromRelay::Read { marks, cursor }) => {
                self.cursor = cursor.or(self.cursor);
                Some(Change::Read(self.marks.heard(marks)))
            }
            (Link::Up, FromRelay::Purged { session }) => Some(Change::Purge(session, Ok(()))),
            (Link::Up, FromRelay::NotPurged { session, reason }) => Some(Change::Purge(session, Err(reason))),
            (Link::Up, FromRelay::Writers { document, rows }) => {
                self.restore_writers(document, rows);
                Some(Change::Writers(document))
            }
            (Link::Up, FromRelay::Members { members }) => {
                self.identity.as_mut()?.members = members;
                Some(Change::Members)
            }
            (Link::Up, FromRelay::Workers { offers }) => {
                self.offers = offers;
                Some(Change::Workers)
            }
            (Link::Up, lease) => Some(Change::Lease(lease)),
        }
    }

    fn welcome(&mut self, welcome: Welcome) -> Change {
        if welcome.version != VERSION {
            return Change::TurnedAway(format!(
                "the relay speaks version {} of the catalog, this device version {VERSION}: update the older one",
                welcome.version
            ));
        }
        if let Some(known) = &self.identity
            && known.is_bound()
            && known.workspace_document != welcome.workspace_document
        {
            return Change::TurnedAway(format!(
                "the relay serves another workspace ({}) than the one this replica belongs to ({})",
                welcome.workspace_document, known.workspace_document
            ));
        }
        self.link = Link::Up;
        self.identity = Some(welcome);
        Change::Welcomed
    }

    fn take_rows(&mut self, cursor: u64, reset: bool, rows: Vec<Row>, complete: bool) -> Change {
        let mut changed = Vec::new();
        let mut leases = Vec::new();
        if reset {
            changed.extend(self.rows.keys().copied());
            leases.extend(self.rows.iter().filter(|(_, row)| row.live.is_some()).map(|(document, _)| *document));
            self.rows.clear();
            self.marks.reset();
        }
        for row in rows {
            let document = row.document;
            let lease = live_epoch(row.live.as_ref());
            let before = self.rows.insert(document, row);
            if live_epoch(before.as_ref().and_then(|row| row.live.as_ref())) != lease {
                leases.push(document);
            }
            changed.push(document);
        }
        self.cursor = Some(cursor);
        let complete = complete && !self.caught_up;
        self.caught_up |= complete;
        for list in [&mut changed, &mut leases] {
            list.sort_unstable();
            list.dedup();
        }
        Change::Rows { changed, leases, complete }
    }

    /// One row.
    pub(super) fn row(&self, document: DocumentId) -> Option<&Row> {
        self.rows.get(&document)
    }

    /// Whether a session was purged, as far as is known.
    pub(super) fn is_purged(&self, document: DocumentId) -> bool {
        self.rows.get(&document).is_some_and(|row| row.tombstone.is_some())
    }

    /// All rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// The cursor that stands for the rows; 0 if there is none.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor.unwrap_or(0)
    }

    /// The epoch of the lease that lives, as last known.
    pub(super) fn live(&self, document: DocumentId) -> Option<Epoch> {
        live_epoch(self.rows.get(&document).and_then(|row| row.live.as_ref()))
    }

    /// Who wrote a document, as far as the relay has said.
    pub(super) fn writers(&self, document: DocumentId) -> BTreeMap<ActorId, Writer> {
        self.writers.get(&document).cloned().unwrap_or_default()
    }

    /// What workers offer; empty without a link.
    pub(super) fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// How many workers are connected; `None` without a link.
    pub(super) fn workers(&self) -> Option<u32> {
        self.is_up().then(|| u32::try_from(self.offers.len()).unwrap_or(u32::MAX))
    }
}

fn live_epoch(live: Option<&Live>) -> Option<Epoch> {
    live.map(|live| live.epoch)
}
