//! From what the device tells to patches for pages.
//!
//! Invariant: what a page is given is what the device has at that moment; notices only say what to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use skein_engine::device::{DeviceError, Notice};
use skein_engine::ids::DocumentId;
use wasm_bindgen_futures::spawn_local;

use super::{FLUSH_AFTER_MS, Seat, call, on};
use crate::browser::{Timeout, now};
use crate::link::Link;
use crate::patch::{Absence, AgentRow, Fault, Grew, Patch, SyncRow, SyncWord, WorkspaceRow};
use crate::screen::Growth;

/// What pages have to be told at the next flush.
#[derive(Default)]
pub(super) struct Dirty {
    pub(super) rows: BTreeSet<DocumentId>,
    pub(super) sessions: BTreeSet<DocumentId>,
    pub(super) grown: Vec<Grew>,
    pub(super) activities: BTreeMap<DocumentId, Patch>,
    pub(super) workspace: bool,
    pub(super) sync: bool,
    pub(super) faults: Vec<Fault>,
}

impl Seat {
    pub(super) fn note(self: &Rc<Self>, notices: Vec<Notice>) {
        let mut dirty = self.dirty.borrow_mut();
        let screen = self.screen.borrow();
        for notice in notices {
            match notice {
                Notice::Document(document) | Notice::Unavailable(document) => {
                    if screen.watches(document) {
                        dirty.sessions.insert(document);
                    }
                    self.waiting.borrow_mut().retain(|(awaited, resolve)| {
                        let comes = *awaited == document;
                        if comes {
                            call(resolve);
                        }
                        !comes
                    });
                }
                Notice::Summary(document) => {
                    dirty.rows.insert(document);
                }
                Notice::Grew { session, message, part, kind, offset, text } => {
                    if screen.watches(session) {
                        dirty.grown.push(Grew { session, message, part, kind, offset, text });
                    }
                }
                Notice::Activity { session, state, tool, progress } => {
                    if screen.watches(session) {
                        dirty.activities.insert(session, Patch::Activity { session, state, tool, progress });
                    }
                }
                Notice::Sync => dirty.sync = true,
                Notice::Workspace => dirty.workspace = true,
                Notice::Refused { message, .. } => dirty.faults.push(Fault::new("refused", message)),
                Notice::Purged { session, unsent } => {
                    dirty.rows.insert(session);
                    if unsent > 0 {
                        let message = "This session was purged. What you wrote in it is kept on this device only.";
                        dirty.faults.push(Fault::new("purged", message));
                    }
                }
                Notice::NotPurged { reason, .. } => {
                    dirty.faults.push(Fault::new("not-purged", format!("The session was not purged: {reason}.")));
                }
                // For workers.
                Notice::Ephemeral { .. } | Notice::Lease(_) => {}
            }
        }
        drop(dirty);
        drop(screen);
        self.show_soon();
    }

    pub(super) fn show_soon(self: &Rc<Self>) {
        let mut flush = self.flush.borrow_mut();
        if flush.is_none() && !self.left.get() {
            let weak = Rc::downgrade(self);
            *flush = Some(Timeout::new(FLUSH_AFTER_MS, move || {
                if let Some(seat) = weak.upgrade() {
                    seat.show();
                }
            }));
        }
    }

    /// Gives out everything that has changed.
    pub(super) fn show(self: &Rc<Self>) {
        self.flush.take();
        if self.left.get() {
            return;
        }
        let patches = self.patches();
        if !patches.is_empty() {
            (self.publish)(patches);
        }
    }

    fn patches(&self) -> Vec<Patch> {
        let Dirty { rows, mut sessions, grown, activities, workspace, sync, faults } = self.dirty.take();
        let mut patches = Vec::new();
        if workspace {
            let identity = self.identity();
            patches.extend(self.screen.borrow_mut().identity(identity));
            let row = self.workspace();
            patches.extend(self.screen.borrow_mut().workspace(row));
        }
        if !rows.is_empty() {
            let now = now();
            let rows: Vec<_> =
                rows.into_iter().map(|id| (id, on(Some(id), || self.device.borrow_mut().summary(now, id)))).collect();
            patches.extend(self.screen.borrow_mut().rows(rows));
        }
        for session in &sessions {
            patches.extend(self.look(*session));
        }
        for grew in grown {
            let session = grew.session;
            // A conversation that was just read holds it already.
            if sessions.contains(&session) {
                continue;
            }
            let growth = self.screen.borrow_mut().grew(grew);
            match growth {
                Growth::Joined(grew) => patches.push(Patch::Grew(grew)),
                Growth::Known => {}
                Growth::Gap => {
                    sessions.insert(session);
                    patches.extend(self.look(session));
                }
            }
        }
        patches.extend(activities.into_values());
        if sync {
            let row = self.sync();
            patches.extend(self.screen.borrow_mut().sync(row));
        }
        patches.extend(faults.into_iter().map(|fault| Patch::Fault { fault }));
        patches
    }

    /// A watched session as it is now.
    pub(super) fn look(&self, session: DocumentId) -> Option<Patch> {
        let commands = self.device.borrow().waiting_commands(session);
        if self.aside.contains(&session) {
            return self.screen.borrow_mut().absent(session, Absence::Unknown, commands);
        }
        let found = on(Some(session), || self.device.borrow_mut().conversation(now(), session));
        let mut screen = self.screen.borrow_mut();
        match found {
            Ok(conversation) => screen.conversation(session, conversation, commands),
            Err(DeviceError::Opening(_)) => screen.absent(session, Absence::Opening, commands),
            Err(DeviceError::Broken { .. }) => screen.absent(session, Absence::Unknown, commands),
            Err(_) if self.is_open() => screen.absent(session, Absence::Unknown, commands),
            Err(_) => screen.absent(session, Absence::Offline, commands),
        }
    }

    /// Shows the end of a conversation as it was kept, if the session itself has to be read first.
    pub(super) fn paint(self: &Rc<Self>, session: DocumentId) {
        let is_here =
            !matches!(self.device.borrow().document(session), Err(DeviceError::Opening(_) | DeviceError::NotHere(_)));
        if is_here || self.store.is_none() {
            return;
        }
        let seat = self.clone();
        spawn_local(async move {
            let Some(store) = &seat.store else { return };
            // One that can't be read is of no use, and no harm.
            let Ok(Some(snapshot)) = store.snapshot(session).await else { return };
            let patch = seat.screen.borrow_mut().snapshot(session, snapshot);
            if let Some(patch) = patch.filter(|_| !seat.left.get()) {
                (seat.publish)(vec![patch]);
            }
        });
    }

    pub(super) fn is_open(&self) -> bool {
        self.link.borrow().as_ref().is_some_and(|link| link.state().open)
    }

    fn workspace(&self) -> WorkspaceRow {
        let device = self.device.borrow();
        let workspace = device.workspace();
        let mut models: Vec<String> = Vec::new();
        for model in device.offers().iter().flat_map(|offer| &offer.models) {
            if !models.contains(model) {
                models.push(model.clone());
            }
        }
        WorkspaceRow {
            name: workspace.name,
            default_agent: workspace.default_agent,
            agents: workspace
                .agents
                .into_iter()
                .map(|(id, agent)| AgentRow { id, name: agent.name, model: agent.model, thread: agent.thread })
                .collect(),
            models,
            workers: device.offers().len(),
        }
    }

    fn sync(&self) -> SyncRow {
        let sync = self.device.borrow().sync_state();
        let link = self.link.borrow().as_ref().map(Link::state).unwrap_or_default();
        let turned_away = self.catalog_closed.borrow().clone();
        let not_wanted = link.fault.as_ref().is_some_and(|fault| fault.code != "unreachable");
        let (state, changes) = if turned_away.is_some() || (!link.open && not_wanted) {
            (SyncWord::Refused, sync.pending)
        } else if !link.open && !link.fresh && link.fault.is_some() {
            (SyncWord::Offline, sync.pending)
        } else if !sync.connected || !sync.caught_up {
            (SyncWord::Connecting, sync.pending)
        } else if sync.refused > 0 {
            (SyncWord::Refused, sync.refused)
        } else if sync.pending > 0 {
            (SyncWord::Sending, sync.pending)
        } else {
            (SyncWord::UpToDate, 0)
        };
        let (uploads, waiting, failed) = (sync.uploads, sync.waiting, sync.failed);
        let reason = turned_away.or_else(|| link.fault.map(|fault| fault.detail));
        SyncRow { state, changes, uploads, waiting, failed, last_contact: self.last_contact.get(), reason }
    }
}
