//! What a person does and sees: sessions, commands, lists.

use std::collections::{BTreeMap, BTreeSet};

use automerge::{Automerge, Change, ROOT, ReadDoc};
use bytes::Bytes;

use super::catalog::Catalog;
use super::replica::{Replica, transact};
use super::{Device, DeviceError, Effects};
use crate::ids::{DocumentId, Principal, Timestamp, random_actor};
use crate::session::command::{self, Done, Given, NewSession};
use crate::session::conversation::{Conversation, Leases, MemberRole, Writer, Writers};
use crate::session::duplicate::{self, Source};
use crate::session::export::{self, Exported};
use crate::session::import;
use crate::session::{Command, Session, Summary, summary};
use crate::wire::catalog::{Offer, ToRelay, Welcome};
use crate::workspace::WorkspaceError;

/// What became of one session of a bulk command.
pub type Outcome = (DocumentId, Result<Done, DeviceError>);

impl Device {
    /// Creates a session: id, and what to store and send. What `new` leaves open is filled in: the workspace's default
    /// agent, the position after all others.
    pub fn create(&mut self, now: Timestamp, new: &NewSession) -> Result<(DocumentId, Effects), DeviceError> {
        self.may_write()?;
        let by = self.member()?;
        let mut new = new.clone();
        new.position.get_or_insert_with(|| self.next_position());
        new.agent = match &new.agent {
            Some(agent) => Some(self.agent(agent)?),
            None => Some(self.workspace().default_agent).filter(|agent| !agent.is_empty()),
        };
        let mut document = Automerge::new().with_actor(random_actor());
        let ((), change) =
            transact(&mut document, |tx| command::create(tx, &new, &Given { by: &by, at: now, id: None }))?;
        let id = DocumentId::random();
        self.replicas.insert(id, Replica::created(id, document));
        self.used(now, id);
        let mut effects = Effects::default();
        self.tell_catalog(&ToRelay::Follow { document: id }, &mut effects);
        self.written(id, change, &mut effects);
        self.has_read(now, &[id], &mut effects);
        Ok((id, self.settle(effects)))
    }

    /// A session that is made elsewhere than here, such as by the relay for a task that is due: its id and its first
    /// change. Nothing is kept of it.
    pub fn draft(&self, now: Timestamp, new: &NewSession) -> Result<(DocumentId, Bytes), DeviceError> {
        let by = self.member()?;
        let mut new = new.clone();
        new.position.get_or_insert_with(|| self.next_position());
        let mut document = Automerge::new().with_actor(random_actor());
        let ((), change) =
            transact(&mut document, |tx| command::create(tx, &new, &Given { by: &by, at: now, id: None }))?;
        let change = change.expect("a new session is a change");
        Ok((DocumentId::random(), Bytes::copy_from_slice(change.raw_bytes())))
    }

    /// Does what a person asks. A [`Command::Restore`] without a position gets the one after all others.
    pub fn command(
        &mut self,
        now: Timestamp,
        session: DocumentId,
        command: &Command,
    ) -> Result<(Done, Effects), DeviceError> {
        self.may_write()?;
        let by = self.member()?;
        if self.catalog.is_purged(session) {
            return Err(DeviceError::Purged(session));
        }
        let command = self.filled_in(command)?;
        self.derive(now, session)?;
        let (replicas, views) = (&mut self.replicas, &self.views);
        let seen = views.get(&session).and_then(|view| view.derived()).ok_or(DeviceError::NotHere(session))?;
        let replica = replicas.get_mut(&session).ok_or(DeviceError::NotHere(session))?;
        let written = replica
            .write(|tx| command::apply(tx, seen.0, seen.1, &command, &Given { by: &by, at: now, id: None }))
            .ok_or(DeviceError::NotHere(session))?;
        let (done, change) = written?;
        let mut effects = Effects::default();
        self.written(session, change, &mut effects);
        // Whoever writes has read what they write to.
        self.has_read(now, &[session], &mut effects);
        Ok((done, self.settle(effects)))
    }

    /// Copies a session up to and with a message (`None`: its last that isn't queued), to the end of the order: the
    /// copy's id, and what to store and send.
    pub fn duplicate(
        &mut self,
        now: Timestamp,
        session: DocumentId,
        at: Option<&str>,
    ) -> Result<(DocumentId, Effects), DeviceError> {
        let by = self.member()?;
        let position = self.next_position();
        self.derive(now, session)?;
        let document = self.replicas.get(&session).and_then(Replica::document);
        let shown = self.views.get(&session).and_then(|view| view.derived());
        let (document, (plain, seen)) = document.zip(shown).ok_or(DeviceError::NotHere(session))?;
        let source = Source { id: session, document, session: plain, seen };
        let copy = duplicate::duplicate(source, at, &position, &Given { by: &by, at: now, id: None })?;
        Ok(self.take_in(now, copy))
    }

    /// A session as JSON that loses nothing, with the names of whom it names, without its files.
    pub fn export(&mut self, now: Timestamp, session: DocumentId) -> Result<Exported, DeviceError> {
        self.derive(now, session)?;
        let replica = self.replicas.get(&session).ok_or(DeviceError::NotHere(session))?;
        let shown = self.views.get(&session).and_then(|view| view.derived());
        let (document, (plain, _)) = replica.document().zip(shown).ok_or(DeviceError::NotHere(session))?;
        let (_, writers) = surroundings(&self.catalog, replica);
        let mut exported = export::export(session, document, plain, &writers);
        let members = self.identity().map(|identity| identity.members.clone()).unwrap_or_default();
        exported.names.extend(members.into_iter().map(|member| (member.id, member.name)));
        let agents = self.workspace().agents;
        exported.names.extend(agents.into_iter().map(|(id, agent)| (id, agent.name)));
        // Whoever isn't named in it is nobody's business elsewhere.
        let said = exported.document.to_string();
        exported.names.retain(|id, _| said.contains(id.as_str()));
        Ok(exported)
    }

    /// Makes a session of what was exported, at the end of the order: its id, and what to store and send.
    pub fn import(&mut self, now: Timestamp, exported: &Exported) -> Result<(DocumentId, Effects), DeviceError> {
        self.may_write()?;
        let by = self.member()?;
        let position = self.next_position();
        let workspace = self.workspace();
        let members = self.identity().map(|identity| identity.members.clone()).unwrap_or_default();
        let is_known = |id: &str| workspace.agents.contains_key(id) || members.iter().any(|member| member.id == id);
        let given = Given { by: &by, at: now, id: None };
        let document = import::import(exported, &position, &given, is_known)?;
        Ok(self.take_in(now, document))
    }

    /// A document that was made here: its id, and what to store and send.
    fn take_in(&mut self, now: Timestamp, document: Automerge) -> (DocumentId, Effects) {
        let id = DocumentId::random();
        let changes = document.get_changes(&[]);
        self.replicas.insert(id, Replica::created(id, document));
        self.used(now, id);
        let mut effects = Effects::default();
        self.tell_catalog(&ToRelay::Follow { document: id }, &mut effects);
        self.document_changed(id, &changes, &mut effects);
        self.store(id, &self.principal(), changes, &mut effects);
        self.push_sync(id, &mut effects);
        (id, self.settle(effects))
    }

    /// Does the same to several sessions, or has it wait for those that aren't here: what became of each, in their order.
    /// Nobody's failure stops the others.
    pub fn commands(&mut self, now: Timestamp, sessions: &[DocumentId], command: &Command) -> (Vec<Outcome>, Effects) {
        let mut effects = Effects::default();
        let mut outcomes = Vec::with_capacity(sessions.len());
        for &session in sessions {
            let outcome = self.command_later(now, session, command).map(|(done, more)| {
                effects += more;
                done
            });
            outcomes.push((session, outcome));
        }
        (outcomes, effects)
    }

    /// A command with what it leaves to the device.
    pub(super) fn filled_in(&self, command: &Command) -> Result<Command, DeviceError> {
        Ok(match command {
            Command::Restore { position } if position.is_empty() => Command::Restore { position: self.next_position() },
            Command::SetAgent { agent } => Command::SetAgent { agent: self.agent(agent)? },
            command => command.clone(),
        })
    }

    /// The id of an agent that is given by id or name. While the workspace's document isn't here, whatever is given is
    /// taken for an id.
    fn agent(&self, given: &str) -> Result<String, WorkspaceError> {
        let workspace = self.workspace();
        if workspace.agents.is_empty() { Ok(given.to_owned()) } else { Ok(workspace.agent(given)?.0.to_owned()) }
    }

    /// The session as plain data, cached until its document changes.
    pub fn session(&mut self, session: DocumentId) -> Result<&Session, DeviceError> {
        self.document(session)?;
        let view = self.views.entry(session).or_default();
        let document = self.replicas.get(&session).and_then(Replica::document);
        Ok(view.session(document.ok_or(DeviceError::NotHere(session))?))
    }

    /// The conversation, cached likewise, with live text beyond what is committed joined on.
    pub fn conversation(&mut self, now: Timestamp, session: DocumentId) -> Result<Conversation, DeviceError> {
        self.derive(now, session)?;
        Ok(self.views.entry(session).or_default().with_live_text())
    }

    /// One row: of the document where it is here and ahead of the catalog, else the catalog's. Its place in the order,
    /// whether it is pinned and whether it is unread are this member's.
    pub fn summary(&mut self, now: Timestamp, session: DocumentId) -> Option<Summary> {
        self.shared_summary(now, session).map(|summary| self.as_the_members(summary))
    }

    fn as_the_members(&self, mut summary: Summary) -> Summary {
        let own = summary.position.take();
        summary.position = self.profile.position(summary.id, own.as_deref()).map(str::to_owned);
        summary.pinned = self.profile.pins.contains_key(&summary.id);
        summary.unread = summary.progress > self.catalog.marks.read(summary.id);
        summary
    }

    /// The row as everybody sees it.
    pub(super) fn shared_summary(&mut self, now: Timestamp, session: DocumentId) -> Option<Summary> {
        let row = self.catalog.row(session);
        let ahead = self.replicas.get(&session).is_some_and(|replica| {
            let here = replica.document().is_some_and(|document| !document.is_empty());
            here && row.is_none_or(|row| {
                row.tombstone.is_none()
                    && row.heads != replica.heads()
                    && (replica.holds(&row.heads) || replica.pending > 0 || row.summary.is_none())
            })
        });
        if !ahead {
            return row.and_then(|row| row.summary.clone());
        }
        let (found, conversation) = self.derive(now, session).ok()?;
        found.is_session.then(|| summary::summary(session, found, conversation, now))
    }

    /// Every session that is neither deleted nor purged, archived ones too; unordered.
    pub fn summaries(&mut self, now: Timestamp) -> Vec<Summary> {
        let shared = self.shared_summaries(now).into_iter();
        shared.map(|summary| self.as_the_members(summary)).collect()
    }

    /// The same, as everybody sees them.
    pub(super) fn shared_summaries(&mut self, now: Timestamp) -> Vec<Summary> {
        let mut summaries = self.standing(now);
        summaries.retain(|summary| summary.deleted_at.is_none());
        summaries
    }

    /// Every session that is deleted but not purged, so that it can be brought back; unordered.
    pub fn deleted(&mut self, now: Timestamp) -> Vec<Summary> {
        let mut summaries = self.standing(now);
        summaries.retain(|summary| summary.deleted_at.is_some());
        summaries
    }

    /// Every session that isn't purged, as everybody sees it.
    pub(super) fn standing(&mut self, now: Timestamp) -> Vec<Summary> {
        let listed =
            self.catalog.rows().filter(|row| row.tombstone.is_none() && row.summary.is_some()).map(|row| row.document);
        let own = self.replicas.keys().copied().filter(|document| self.catalog.row(*document).is_none());
        let sessions: BTreeSet<DocumentId> = listed.chain(own).collect();
        sessions.into_iter().filter_map(|session| self.shared_summary(now, session)).collect()
    }

    /// The position after all sessions known here (rule 17), for [`Command::Restore`] and new sessions.
    pub fn next_position(&self) -> String {
        let listed = self.catalog.rows().filter_map(|row| row.summary.as_ref()?.position.clone());
        let here = self.replicas.values().filter_map(|replica| {
            let (position, _) = replica.document()?.get(ROOT, "position").ok()??;
            position.as_str().map(str::to_owned)
        });
        let known: Vec<String> = listed.chain(here).collect();
        command::position_after(known.iter().map(String::as_str))
    }

    /// Who this device is.
    pub fn identity(&self) -> Option<&Welcome> {
        self.catalog.identity.as_ref()
    }

    /// Whether the relay has greeted on the catalog's connection of now.
    pub fn is_welcome(&self) -> bool {
        self.catalog.is_up()
    }

    /// Models and tools that workers offer.
    pub fn offers(&self) -> &[Offer] {
        self.catalog.offers()
    }

    pub(super) fn member(&self) -> Result<String, DeviceError> {
        self.catalog.identity.as_ref().map(|identity| identity.member.clone()).ok_or(DeviceError::NoIdentity)
    }

    /// Session and conversation of what is committed.
    pub(super) fn derive(
        &mut self,
        now: Timestamp,
        session: DocumentId,
    ) -> Result<(&Session, &Conversation), DeviceError> {
        self.document(session)?;
        let (catalog, view) = (&self.catalog, self.views.entry(session).or_default());
        let replica = self.replicas.get(&session).ok_or(DeviceError::NotHere(session))?;
        let document = replica.document().ok_or(DeviceError::NotHere(session))?;
        Ok(view.committed(document, now, || surroundings(catalog, replica)))
    }

    /// This device has written a change.
    pub(super) fn written(&mut self, document: DocumentId, change: Option<Change>, effects: &mut Effects) {
        if let Some(change) = change {
            let changes = vec![change];
            self.document_changed(document, &changes, effects);
            self.store(document, &self.principal(), changes, effects);
            self.tell_refused(document, effects);
            self.push_sync(document, effects);
        }
    }
}

/// The lease and the writers of a session, as last heard; this device's own actors are its member's.
pub(super) fn surroundings(catalog: &Catalog, replica: &Replica) -> (Leases, Writers) {
    let leases = Leases { live: catalog.live(replica.id), workers: catalog.workers() };
    let own = catalog.identity.as_ref().map(|identity| Writer {
        principal: Principal::from(identity.member.as_str()),
        kind: identity.kind,
        // What a viewer has written shows on the device where it is: the relay refuses it, and its rows beat this.
        role: if identity.role == MemberRole::Viewer { MemberRole::Member } else { identity.role },
    });
    let own: BTreeMap<_, _> =
        own.map(|own| replica.own.iter().map(|actor| (actor.clone(), own.clone())).collect()).unwrap_or_default();
    (leases, Writers { rows: catalog.writers(replica.id), own })
}
