//! What each operation of a document is: its kind, its object, and the key or element that it writes; 9 bytes each.
//!
//! Operations are numbered through, change by change in the graph's order, so that what an operation refers to has a
//! lower number. The index is built at a document's first write, and not persisted.

use std::collections::HashMap;
use std::sync::Arc;

/// Stands for the root (as an object) and the head of a list (as an element).
pub(super) const NONE: u32 = u32::MAX;

/// Set in a kind, beside the action, for an insertion.
const INSERT: u8 = 0x80;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct OpIndex {
    kinds: Vec<u8>,
    objects: Vec<u32>,
    keys: Vec<u32>,
    /// The first operation of each change.
    firsts: Vec<u32>,
    /// Map keys, numbered, and in the order of their numbers.
    names: HashMap<Arc<str>, u32>,
    names_in_order: Vec<Arc<str>>,
}

impl OpIndex {
    /// How many changes are in.
    pub(super) fn changes(&self) -> usize {
        self.firsts.len()
    }

    /// How many operations are in.
    pub(super) fn len(&self) -> u32 {
        self.kinds.len() as u32
    }

    /// Adds an operation; its number.
    pub(super) fn push(&mut self, action: u64, insert: bool, object: u32, key: u32) -> u32 {
        self.kinds.push(action as u8 | if insert { INSERT } else { 0 });
        self.objects.push(object);
        self.keys.push(key);
        self.len() - 1
    }

    /// The operations from `first` on are the next change's.
    pub(super) fn close_change(&mut self, first: u32) {
        self.firsts.push(first);
    }

    /// How many map keys are known.
    pub(super) fn names(&self) -> usize {
        self.names_in_order.len()
    }

    /// Forgets the operations from `first` on, and the map keys beyond so many: their change broke a rule.
    pub(super) fn drop_change(&mut self, first: u32, names: usize) {
        self.drop_ops(first);
        for name in self.names_in_order.drain(names..) {
            self.names.remove(&name);
        }
    }

    fn drop_ops(&mut self, first: u32) {
        let len = first as usize;
        self.kinds.truncate(len);
        self.objects.truncate(len);
        self.keys.truncate(len);
    }

    /// Forgets the changes from this index on.
    pub(super) fn truncate(&mut self, changes: usize) {
        if let Some(first) = self.firsts.get(changes).copied() {
            self.drop_ops(first);
            self.firsts.truncate(changes);
        }
    }

    /// The first operation of a change.
    pub(super) fn first(&self, change: u32) -> u32 {
        self.firsts[change as usize]
    }

    /// The change that an operation is of; one past the last for those of the change that is being added.
    pub(super) fn change_of(&self, op: u32) -> usize {
        self.firsts.partition_point(|first| *first <= op) - 1
    }

    /// What it does, as the column has it.
    pub(super) fn action(&self, op: u32) -> u64 {
        u64::from(self.kinds[op as usize] & !INSERT)
    }

    /// Whether it made an element.
    pub(super) fn is_insert(&self, op: u32) -> bool {
        self.kinds[op as usize] & INSERT != 0
    }

    /// The object that it writes to.
    pub(super) fn object(&self, op: u32) -> u32 {
        self.objects[op as usize]
    }

    /// Of an insertion, the element that it was put behind; of others, the map key's number or the element written to.
    pub(super) fn key(&self, op: u32) -> u32 {
        self.keys[op as usize]
    }

    /// What it writes: the map key's number, or the element.
    pub(super) fn place(&self, op: u32) -> u32 {
        if self.is_insert(op) { op } else { self.key(op) }
    }

    /// The number of a map key.
    pub(super) fn name(&mut self, name: &str) -> u32 {
        match self.names.get(name) {
            Some(number) => *number,
            None => {
                let number = self.names.len() as u32;
                let name: Arc<str> = name.into();
                self.names_in_order.push(name.clone());
                self.names.insert(name, number);
                number
            }
        }
    }
}
