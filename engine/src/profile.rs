//! A member's profile: the order that they gave their sessions, and what they pinned. One small document for each member,
//! made by the relay, synced among that member's devices only, so that an order that one person drags moves nobody
//! else's list.
//!
//! `{schema, kind: "profile", order: {session → {position, over}}, pins: {session → when}}`. An entry of `order` is
//! written whole, and counts only while its `over` is the session's own position: a session that was restored since comes
//! in at the end for everyone (rule 17).

use std::collections::BTreeMap;

use automerge::transaction::{Transactable, Transaction};
use automerge::{Automerge, AutomergeError, ObjType, ROOT, ReadDoc};
use serde::{Deserialize, Serialize};

use crate::ids::{DocumentId, Timestamp};
use crate::position::{self, MAX_FRACTION};
use crate::session::rules::{Rule, off};
use crate::session::tree::{self, Slot};
use crate::session::write::{container, put_int, put_word};

/// What is read of a profile; what is missing is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Where the member dragged a session.
    pub order: BTreeMap<DocumentId, Place>,
    /// What the member pinned, and when.
    pub pins: BTreeMap<DocumentId, Timestamp>,
}

/// Where a member dragged a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The position that counts for this member.
    pub position: String,
    /// The session's own position at that moment; `None`: it had none.
    pub over: Option<String>,
}

/// What a person does to their own list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Arrange {
    /// Moves one session; only its own place changes, next to the neighbour it was dropped at.
    Move {
        /// Which.
        session: DocumentId,
        /// To before this one; `None`: to the end.
        before: Option<DocumentId>,
    },
    /// Pins a session.
    Pin {
        /// Which.
        session: DocumentId,
    },
    /// No longer.
    Unpin {
        /// Which.
        session: DocumentId,
    },
}

/// Why a list can't be arranged so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArrangeError {
    /// Not in the list.
    #[error("there is no session {0} in the list")]
    Unknown(DocumentId),
    /// Before itself.
    #[error("a session can't be moved before itself")]
    BeforeItself,
    /// The document refused.
    #[error("the profile refused the change: {0}")]
    Document(String),
}

impl From<AutomergeError> for ArrangeError {
    fn from(error: AutomergeError) -> Self {
        Self::Document(error.to_string())
    }
}

impl Profile {
    /// Where a session stands for this member, given its own position. What is no position counts as missing.
    pub fn position<'a>(&'a self, session: DocumentId, own: Option<&'a str>) -> Option<&'a str> {
        let placed = self.order.get(&session).filter(|place| place.over.as_deref() == own || off(Rule::OrderOver));
        placed.map(|place| place.position.as_str()).or(own).filter(|position| position::is_valid(position))
    }
}

/// Reads a profile document.
pub fn read(document: &Automerge) -> Profile {
    let tree = tree::read(document);
    let root = Slot::root(&tree);
    let mut profile = Profile::default();
    for (id, slot) in root.field("order").entries() {
        let Ok(session) = id.parse() else { continue };
        // Of conflicting positions the highest.
        let places = slot.each().filter_map(|place| {
            Some(Place { position: place.field("position").word()?, over: place.field("over").word() })
        });
        if let Some(place) = places.max_by(|a, b| (&a.position, &a.over).cmp(&(&b.position, &b.over))) {
            let known = profile.order.get(&session);
            if known.is_none_or(|known| known.position < place.position) {
                profile.order.insert(session, place);
            }
        }
    }
    for (id, slot) in root.field("pins").entries() {
        if let Ok(session) = id.parse() {
            profile.pins.insert(session, slot.time().unwrap_or_default());
        }
    }
    profile
}

/// One session of the list that is arranged: its own position, as its document has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub session: DocumentId,
    /// Its own position.
    pub own: Option<String>,
}

/// The sessions in this member's order: by position, missing ones last; equal ones by the bytes of their ids, as in
/// [`crate::session::list`].
pub fn sorted(profile: &Profile, mut list: Vec<Listed>) -> Vec<Listed> {
    list.sort_by_cached_key(|listed| {
        let position = profile.position(listed.session, listed.own.as_deref()).map(str::to_owned);
        (position.is_none(), position, listed.session)
    });
    list
}

/// Does what a person asks; nothing is written if it is so already. `list`: every session that is known, archived ones
/// too, in any order.
pub fn arrange(
    tx: &mut Transaction<'_>,
    profile: &Profile,
    list: Vec<Listed>,
    arrange: &Arrange,
    now: Timestamp,
) -> Result<(), ArrangeError> {
    match arrange {
        Arrange::Move { session, before } => {
            for (listed, place) in moved(profile, list, *session, *before)? {
                put_place(tx, &listed, &place)?;
            }
        }
        Arrange::Pin { session } if !list.iter().any(|listed| listed.session == *session) => {
            return Err(ArrangeError::Unknown(*session));
        }
        Arrange::Pin { session } if !profile.pins.contains_key(session) => {
            let pins = container(tx, "pins", ObjType::Map)?;
            put_int(tx, &pins, &session.to_string(), now.0)?;
        }
        Arrange::Unpin { session } if profile.pins.contains_key(session) => {
            let key = session.to_string();
            let maps: Vec<_> = tx.get_all(ROOT, "pins")?.into_iter().map(|(_, pins)| pins).collect();
            for pins in maps {
                if tx.get(&pins, key.as_str()).is_ok_and(|found| found.is_some()) {
                    tx.delete(&pins, key.as_str())?;
                }
            }
        }
        Arrange::Pin { .. } | Arrange::Unpin { .. } => {}
    }
    Ok(())
}

/// The places to write: one, unless there is no room, or the fraction would grow too long; then those of a stretch around
/// it.
fn moved(
    profile: &Profile,
    list: Vec<Listed>,
    session: DocumentId,
    before: Option<DocumentId>,
) -> Result<Vec<(Listed, String)>, ArrangeError> {
    if before == Some(session) {
        return Err(ArrangeError::BeforeItself);
    }
    let mut list = sorted(profile, list);
    let from = list.iter().position(|listed| listed.session == session).ok_or(ArrangeError::Unknown(session))?;
    let listed = list.remove(from);
    let to = match before {
        None => list.len(),
        Some(before) => list.iter().position(|listed| listed.session == before).ok_or(ArrangeError::Unknown(before))?,
    };
    if to == from {
        return Ok(Vec::new());
    }
    list.insert(to, listed);
    let position = |index: usize| profile.position(list[index].session, list[index].own.as_deref());
    // A stretch that doubles until it has room for short fractions; at last it is the whole list, which always has.
    let mut reach = 0;
    loop {
        let start = to.saturating_sub(reach);
        let end = (to + reach + 1).min(list.len());
        let low = start.checked_sub(1).map(position);
        let high = (end < list.len()).then(|| position(end));
        let whole = start == 0 && end == list.len();
        // What has no position is after everything that has one; nothing can be put after it until it gets one.
        if low != Some(None) {
            let positions = position::spread(low.flatten(), high.flatten(), end - start);
            let short = |position: &String| position::fraction_length(position) <= MAX_FRACTION;
            if let Some(positions) = positions.filter(|all| whole || all.iter().all(short)) {
                return Ok(list.drain(start..end).zip(positions).collect());
            }
        }
        if whole {
            return Err(ArrangeError::Document("there is no room in the order".to_owned()));
        }
        reach = (reach * 2).max(1);
    }
}

fn put_place(tx: &mut Transaction<'_>, listed: &Listed, position: &str) -> Result<(), AutomergeError> {
    let order = container(tx, "order", ObjType::Map)?;
    let place = tx.put_object(&order, listed.session.to_string(), ObjType::Map)?;
    put_word(tx, &place, "position", Some(position))?;
    put_word(tx, &place, "over", listed.own.as_deref())
}
