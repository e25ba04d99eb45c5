//! Between the device and its store: groups of changes on their way in, documents on their way out, and the catalog,
//! kept a while after it has changed.
//!
//! Invariant: nothing that the device has said to store is dropped: what can't be written is tried again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::{Rc, Weak};

use js_sys::Function;
use skein_engine::device::{Keeps, KeptDocument, Marks, Notice, QueueWrite};
use skein_engine::ids::{ChangeHash, DocumentId};
use skein_engine::storage::Record;
use skein_engine::wire::catalog::{Row, Welcome};
use wasm_bindgen_futures::spawn_local;

use super::{Seat, call, on};
use crate::browser::{Timeout, now, sleep};
use crate::store::{CatalogWrites, changed_rows};

const KEEP_CATALOG_AFTER_MS: u64 = 1_500;
const STORE_AGAIN_AFTER_MS: u64 = 3_000;
/// What was changed is told to the store by then.
pub(super) const EVICT_FIRST_MS: u64 = 60_000;
const EVICT_EVERY_MS: u64 = 600_000;

/// Changes on their way into the store: one group is being written, the next one gathers.
#[derive(Default)]
pub(super) struct Writing {
    pub(super) queue: Vec<Record>,
    /// Taken out of the store after that.
    pub(super) discard: Vec<(DocumentId, Vec<ChangeHash>)>,
    /// What has become of commands that wait.
    pub(super) commands: Vec<QueueWrite>,
    /// Called when everything queued so far is durable.
    pub(super) waiting: Vec<Function>,
    pub(super) busy: bool,
}

/// Documents on their way out of the store, one after the other.
#[derive(Default)]
pub(super) struct Loading {
    pub(super) queue: VecDeque<DocumentId>,
    pub(super) busy: bool,
}

/// What the store has of the catalog.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) rows: BTreeMap<DocumentId, Row>,
    /// How many writers of each document: rows are only ever added.
    pub(super) writers: BTreeMap<DocumentId, usize>,
    pub(super) marks: Marks,
    pub(super) identity: Option<Welcome>,
    pub(super) unsent: BTreeSet<DocumentId>,
    pub(super) documents: BTreeMap<DocumentId, KeptDocument>,
}

impl Seat {
    /// Writes what is queued, group after group, unless that is under way.
    pub(super) fn write(self: &Rc<Self>) {
        if std::mem::replace(&mut self.writing.borrow_mut().busy, true) {
            return;
        }
        let seat = self.clone();
        spawn_local(async move {
            let mut told = false;
            loop {
                let (group, commands, discard, waiting) = {
                    let mut writing = seat.writing.borrow_mut();
                    if writing.queue.is_empty() && writing.commands.is_empty() && writing.discard.is_empty() {
                        writing.busy = false;
                        writing.waiting.drain(..).for_each(|resolve| call(&resolve));
                        break;
                    }
                    let Writing { queue, commands, discard, waiting, .. } = &mut *writing;
                    (std::mem::take(queue), std::mem::take(commands), std::mem::take(discard), std::mem::take(waiting))
                };
                let Some(store) = &seat.store else { break };
                // The relay has everything else.
                let member = seat.device.borrow().identity().map(|identity| identity.member.clone());
                let own: BTreeSet<DocumentId> = group
                    .iter()
                    .filter(|record| Some(record.received_from.as_str()) == member.as_deref())
                    .map(|record| record.document)
                    .collect();
                let appended = match group.is_empty() && commands.is_empty() {
                    true => Ok(()),
                    false => store.append(&group, &commands, &own).await,
                };
                let written = match appended {
                    Ok(()) if !discard.is_empty() => store.discard(&discard).await,
                    appended => appended,
                };
                match written {
                    Ok(()) => {
                        waiting.iter().for_each(call);
                        if !own.is_empty() {
                            seat.kept.borrow_mut().unsent.extend(own);
                            seat.keep_soon();
                        }
                        told = false;
                    }
                    Err(error) => {
                        seat.device.borrow_mut().store_failed();
                        {
                            let mut writing = seat.writing.borrow_mut();
                            writing.queue.splice(..0, group);
                            writing.discard.splice(..0, discard);
                            writing.commands.splice(..0, commands);
                            writing.waiting.splice(..0, waiting);
                        }
                        if !std::mem::replace(&mut told, true) {
                            seat.dirty.borrow_mut().faults.push(error.into());
                            seat.show_soon();
                        }
                        sleep(STORE_AGAIN_AFTER_MS).await;
                    }
                }
            }
        });
    }

    /// Reads what is wanted, one document after the other, unless that is under way.
    pub(super) fn load(self: &Rc<Self>) {
        if std::mem::replace(&mut self.loading.borrow_mut().busy, true) {
            return;
        }
        let seat = self.clone();
        spawn_local(async move {
            loop {
                let next = {
                    let mut loading = seat.loading.borrow_mut();
                    let next = if seat.left.get() { None } else { loading.queue.pop_front() };
                    loading.busy = next.is_some();
                    next
                };
                let Some(document) = next else { break };
                if seat.aside.contains(&document) {
                    // For the device it is being read for ever: it is neither shown nor synced.
                    continue;
                }
                let records = match &seat.store {
                    Some(store) => store.scan(document).await,
                    None => Ok(Vec::new()),
                };
                let records = records.unwrap_or_else(|error| {
                    seat.dirty.borrow_mut().faults.push(error.into());
                    Vec::new()
                });
                on(Some(document), || seat.act(|device, now| device.loaded(now, document, records)));
                // It is here, or it isn't: whoever looks at it learns which.
                seat.note(vec![Notice::Document(document), Notice::Summary(document)]);
            }
        });
    }

    pub(super) fn keep_soon(self: &Rc<Self>) {
        let mut keep = self.keep.borrow_mut();
        if keep.is_none() && !self.left.get() && self.store.is_some() {
            let weak: Weak<Self> = Rc::downgrade(self);
            *keep = Some(Timeout::new(KEEP_CATALOG_AFTER_MS, move || {
                if let Some(seat) = weak.upgrade() {
                    seat.keep.take();
                    spawn_local(async move { seat.keep_catalog().await });
                }
            }));
        }
    }

    /// Lets go of what this device need not keep, a while after its start and from then on now and then.
    pub(super) fn evict_later(self: &Rc<Self>, after_ms: u64) {
        let weak: Weak<Self> = Rc::downgrade(self);
        *self.evict.borrow_mut() = Some(Timeout::new(after_ms, move || {
            if let Some(seat) = weak.upgrade().filter(|seat| !seat.left.get()) {
                seat.act(|device, _| device.evict(Keeps::default()));
                seat.evict_later(EVICT_EVERY_MS);
            }
        }));
    }

    /// Drops what the device lets go, unless something of it may be unsent.
    pub(super) fn drop_documents(self: &Rc<Self>, mut documents: Vec<DocumentId>) {
        documents.retain(|id| !self.kept.borrow().unsent.contains(id));
        documents.iter().for_each(|id| _ = self.kept.borrow_mut().documents.remove(id));
        let seat = self.clone();
        spawn_local(async move {
            if let Some(store) = &seat.store
                && let Err(error) = store.drop_documents(&documents).await
            {
                seat.dirty.borrow_mut().faults.push(error.into());
                seat.show_soon();
            }
        });
    }

    /// Keeps what has changed of the catalog since the last time.
    async fn keep_catalog(self: &Rc<Self>) {
        let Some(store) = &self.store else { return };
        let writes = {
            let mut device = self.device.borrow_mut();
            let snapshots = device.take_snapshots(now());
            let mut kept = self.kept.borrow_mut();
            let (rows, cursor) = device.catalog_rows();
            let (rows, removed) = changed_rows(&mut kept.rows, rows);
            let mut writers = device.writer_rows();
            writers.retain(|(id, rows)| kept.writers.insert(*id, rows.len()) != Some(rows.len()));
            let marks = Some(device.marks()).filter(|marks| kept.marks != **marks).cloned();
            if let Some(marks) = &marks {
                kept.marks.clone_from(marks);
            }
            let identity = device.identity().filter(|identity| kept.identity.as_ref() != Some(identity)).cloned();
            if identity.is_some() {
                kept.identity.clone_from(&identity);
            }
            let sent: Vec<DocumentId> = kept.unsent.iter().filter(|id| device.acknowledged(**id)).copied().collect();
            for id in &sent {
                kept.unsent.remove(id);
            }
            let mut documents = device.kept_documents();
            documents.retain(|one| kept.documents.get(&one.document) != Some(one));
            kept.documents.extend(documents.iter().map(|one| (one.document, one.clone())));
            CatalogWrites {
                rows,
                removed,
                cursor,
                writers,
                marks,
                identity,
                last_contact: self.last_contact.get(),
                sent,
                kept: documents,
                snapshots,
            }
        };
        if let Err(error) = store.keep(writes).await {
            // What wasn't kept counts as changed the next time.
            let mut kept = self.kept.borrow_mut();
            *kept = Kept { unsent: std::mem::take(&mut kept.unsent), ..Kept::default() };
            drop(kept);
            self.dirty.borrow_mut().faults.push(error.into());
            self.show_soon();
        }
    }
}
