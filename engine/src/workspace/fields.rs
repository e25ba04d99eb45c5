//! Fields of the workspace document, one by one. Reading: what isn't of its type is left out and named in the faults.
//! Writing: a field goes into one map, and out of those that conflict with it, so that every reader sees the same.

use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, Value};

use crate::session::read::Faults;
use crate::session::tree::Slot;
use crate::session::write::{container, put_texts, string_at};

pub(super) use crate::session::fields::{int, text as word};

/// Reads the fields of one map, and notes what can't be read.
pub(super) struct Reader<'a, 'f> {
    pub(super) slot: Slot<'a>,
    place: String,
    pub(super) faults: &'f mut Faults,
}

impl<'a, 'f> Reader<'a, 'f> {
    /// `place` is what stands before a field's name in a fault.
    pub(super) fn new(slot: Slot<'a>, place: String, faults: &'f mut Faults) -> Self {
        Self { slot, place, faults }
    }

    /// `None` if the field is missing; noted as well if it isn't of the type that `read` wants.
    pub(super) fn read<T>(&mut self, key: &str, kind: &str, read: impl FnOnce(Slot<'a>) -> Option<T>) -> Option<T> {
        let slot = self.slot.field(key);
        slot.last()?;
        let found = read(slot);
        if found.is_none() {
            self.faults.note(|| format!("{}{key} is not {kind}", self.place));
        }
        found
    }

    /// A string; an empty one counts as missing.
    pub(super) fn word(&mut self, key: &str) -> Option<String> {
        self.read(key, "a string", Slot::text).filter(|word| !word.is_empty()).map(str::to_owned)
    }

    /// Names, each once.
    pub(super) fn names(&mut self, key: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self.read(key, "a list of strings", Slot::texts).unwrap_or_default() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// A whole number from 0.
    pub(super) fn count(&mut self, key: &str) -> Option<u64> {
        self.read(key, "a whole number", Slot::count)
    }

    /// A whole number from 0; of conflicting ones the lowest.
    pub(super) fn lowest(&mut self, key: &str) -> Option<u64> {
        self.read(key, "a whole number", |slot| slot.each().filter_map(Slot::count).min())
    }

    /// A whole number; of conflicting ones the highest.
    pub(super) fn highest(&mut self, key: &str) -> Option<u64> {
        self.read(key, "a whole number", |slot| slot.each().filter_map(Slot::count).max())
    }

    /// One of the words that `meant` knows; of conflicting ones the last.
    pub(super) fn choice<T>(&mut self, key: &str, meant: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.read(key, "understood", |slot| meant(slot.text()?))
    }
}

/// The map that is made for a new entry, under an id that nobody else can choose.
pub(super) fn made(tx: &mut Transaction<'_>, collection: &str, id: &str) -> Result<Vec<ObjId>, AutomergeError> {
    let all = container(tx, collection, ObjType::Map)?;
    Ok(vec![tx.put_object(&all, id, ObjType::Map)?])
}

/// The maps that stand at an entry: one, unless they conflict; the last one is what readers prefer.
pub(super) fn standing(tx: &Transaction<'_>, collection: &str, key: &str) -> Result<Vec<ObjId>, AutomergeError> {
    maps(tx, &maps(tx, &[ROOT], collection)?, key)
}

/// The maps at a key of these maps.
pub(super) fn maps(tx: &Transaction<'_>, parents: &[ObjId], key: &str) -> Result<Vec<ObjId>, AutomergeError> {
    let mut found = Vec::new();
    for parent in parents {
        for (value, id) in tx.get_all(parent, key)? {
            if value == Value::Object(ObjType::Map) {
                found.push(id);
            }
        }
    }
    Ok(found)
}

/// Puts a field, or takes it away.
pub(super) fn put(
    tx: &mut Transaction<'_>,
    maps: &[ObjId],
    key: &str,
    value: Option<ScalarValue>,
) -> Result<(), AutomergeError> {
    let Some((last, others)) = maps.split_last() else { return Ok(()) };
    for map in others {
        take(tx, map, key)?;
    }
    match value {
        Some(value) => tx.put(last, key, value),
        None => take(tx, last, key),
    }
}

fn take(tx: &mut Transaction<'_>, map: &ObjId, key: &str) -> Result<(), AutomergeError> {
    if tx.get(map, key)?.is_some() { tx.delete(map, key) } else { Ok(()) }
}

/// Makes a list of names hold these and no others; names that stay are left alone, so that another member's addition
/// beside it stays too.
pub(super) fn put_names(
    tx: &mut Transaction<'_>,
    maps: &[ObjId],
    key: &str,
    names: &[String],
) -> Result<(), AutomergeError> {
    let Some((last, others)) = maps.split_last() else { return Ok(()) };
    for map in others {
        take(tx, map, key)?;
    }
    let list = match tx.get_all(last, key)?.as_slice() {
        [(Value::Object(ObjType::List), list)] => list.clone(),
        _ => return put_texts(tx, last, key, names),
    };
    let mut missing: Vec<&String> = names.iter().collect();
    for index in (0..tx.length(&list)).rev() {
        let name = string_at(tx, &list, index)?;
        let wanted = name.and_then(|name| missing.iter().position(|missing| **missing == name));
        match wanted {
            Some(found) => drop(missing.remove(found)),
            None => tx.delete(&list, index)?,
        }
    }
    for name in missing {
        tx.insert(&list, tx.length(&list), word(name))?;
    }
    Ok(())
}
