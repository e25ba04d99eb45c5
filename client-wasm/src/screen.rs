//! What pages have been given, so that only what differs crosses to them. Pure.
//!
//! In: rows and conversations as the device has them now. Out: patches, or nothing where nothing changed. Live text is
//! added to what was given too, so that a checkpoint, which only makes durable what the page has already, costs nothing.

use std::collections::{BTreeMap, BTreeSet};

use skein_engine::device::WaitingCommand;
use skein_engine::ids::DocumentId;
use skein_engine::session::Summary;
use skein_engine::session::conversation::{Content, Conversation, ShownMessage};
use skein_engine::session::snapshot::Snapshot;
use skein_engine::wire::ephemeral::TailKind;

use crate::patch::{Absence, Grew, Head, Identity, Patch, SyncRow, WorkspaceRow};

/// See the module.
#[derive(Default)]
pub struct Screen {
    rows: BTreeMap<DocumentId, Summary>,
    watched: BTreeMap<DocumentId, Watched>,
    workspace: WorkspaceRow,
    identity: Option<Identity>,
    sync: Option<SyncRow>,
}

/// A watched session, as given.
enum Watched {
    /// Nothing yet.
    Blank,
    Absent(Absence, Vec<WaitingCommand>),
    Shown(Box<Shown>),
}

struct Shown {
    head: Head,
    order: Vec<String>,
    queued: Vec<String>,
    messages: BTreeMap<String, ShownMessage>,
}

/// What became of live text.
#[derive(Debug, PartialEq)]
pub enum Growth {
    /// It joins on: give it out.
    Joined(Grew),
    /// It was there already.
    Known,
    /// What it belongs to isn't there, or text before it is missing: the conversation has to be read again.
    Gap,
}

impl Screen {
    /// Everything that a page starts from.
    pub fn opening(&self) -> Vec<Patch> {
        let mut patches = vec![
            Patch::Identity { identity: self.identity.clone() },
            Patch::Workspace { workspace: self.workspace.clone() },
            Patch::Summaries { rows: self.rows.values().cloned().collect(), removed: Vec::new(), reset: true },
        ];
        patches.extend(self.sync.clone().map(|sync| Patch::Sync { sync }));
        patches
    }

    /// The rows that are asked for; `None` stands for one that is gone.
    pub fn rows(&mut self, rows: impl IntoIterator<Item = (DocumentId, Option<Summary>)>) -> Option<Patch> {
        let mut fresh = Vec::new();
        let mut removed = Vec::new();
        for (id, row) in rows {
            match row.filter(|row| row.deleted_at.is_none()) {
                Some(row) if self.rows.get(&id) != Some(&row) => {
                    self.rows.insert(id, row.clone());
                    fresh.push(row);
                }
                Some(_) => {}
                None => removed.extend(self.rows.remove(&id).map(|_| id)),
            }
        }
        let some = !fresh.is_empty() || !removed.is_empty();
        some.then_some(Patch::Summaries { rows: fresh, removed, reset: false })
    }

    /// Forgets everything, for another member or none; what is watched stays watched.
    pub fn reset(&mut self) -> Vec<Patch> {
        *self = Self {
            watched: std::mem::take(&mut self.watched).into_keys().map(|id| (id, Watched::Blank)).collect(),
            ..Self::default()
        };
        self.opening()
    }

    /// Whether a page looks at this session.
    pub fn watches(&self, session: DocumentId) -> bool {
        self.watched.contains_key(&session)
    }

    /// Every session that a page looks at.
    pub fn watched(&self) -> BTreeSet<DocumentId> {
        self.watched.keys().copied().collect()
    }

    /// A page looks at a session; the next patch of it is whole.
    pub fn watch(&mut self, session: DocumentId) {
        self.watched.insert(session, Watched::Blank);
    }

    /// No page does any longer.
    pub fn unwatch(&mut self, session: DocumentId) {
        self.watched.remove(&session);
    }

    /// A watched session as it is now, and what waited for it and could not be done.
    pub fn conversation(
        &mut self,
        session: DocumentId,
        now: Conversation,
        commands: Vec<WaitingCommand>,
    ) -> Option<Patch> {
        self.show(session, now, |head| head.commands = commands)
    }

    /// The end of a watched session as it was kept, unless something newer was given.
    pub fn snapshot(&mut self, session: DocumentId, snapshot: Snapshot) -> Option<Patch> {
        let commands = match self.watched.get(&session)? {
            Watched::Shown(_) => return None,
            Watched::Absent(_, commands) => commands.clone(),
            Watched::Blank => Vec::new(),
        };
        self.show(session, snapshot.into_conversation(), |head| {
            head.loading = true;
            head.commands = commands;
        })
    }

    fn show(&mut self, session: DocumentId, now: Conversation, complete: impl FnOnce(&mut Head)) -> Option<Patch> {
        let watched = self.watched.get_mut(&session)?;
        let (mut head, mut visible, mut waiting) = Head::split(now);
        complete(&mut head);
        // A page prints nothing of what is for the provider's eyes only.
        let parts = visible.iter_mut().chain(&mut waiting).flat_map(|message| &mut message.parts);
        parts.for_each(|part| part.provider = None);
        let ids = |messages: &[ShownMessage]| messages.iter().map(|message| message.id.clone()).collect::<Vec<_>>();
        let (order, queued) = (ids(&visible), ids(&waiting));
        let given = match watched {
            Watched::Shown(shown) => Some(&*shown),
            _ => None,
        };
        let mut fresh = Vec::new();
        let mut messages = BTreeMap::new();
        for message in visible.into_iter().chain(waiting) {
            if given.and_then(|given| given.messages.get(&message.id)) != Some(&message) {
                fresh.push(message.clone());
            }
            messages.insert(message.id.clone(), message);
        }
        let same = fresh.is_empty()
            && given.is_some_and(|given| given.head == head && given.order == order && given.queued == queued);
        let shown = Shown { head: head.clone(), order: order.clone(), queued: queued.clone(), messages };
        *watched = Watched::Shown(Box::new(shown));
        (!same).then_some(Patch::Conversation { session, head, order, queued, messages: fresh })
    }

    /// A watched session isn't here. While it is only being read, what was painted of it stays.
    pub fn absent(&mut self, session: DocumentId, why: Absence, commands: Vec<WaitingCommand>) -> Option<Patch> {
        let watched = self.watched.get_mut(&session)?;
        match watched {
            Watched::Absent(known, waiting) if *known == why && *waiting == commands => return None,
            Watched::Shown(shown) if shown.head.loading && why == Absence::Opening => return None,
            _ => {}
        }
        *watched = Watched::Absent(why, commands.clone());
        Some(Patch::Absent { session, why, commands })
    }

    /// Live text has come for a session.
    pub fn grew(&mut self, mut grew: Grew) -> Growth {
        let Some(watched) = self.watched.get_mut(&grew.session) else { return Growth::Known };
        let Watched::Shown(shown) = watched else { return Growth::Gap };
        let part = shown
            .messages
            .get_mut(&grew.message)
            .and_then(|message| message.parts.iter_mut().find(|part| part.index == grew.part));
        let text = match part.map(|part| &mut part.content) {
            Some(Content::Text { text }) if grew.kind == TailKind::Text => text,
            Some(Content::Thinking { text }) if grew.kind == TailKind::Thinking => text,
            Some(Content::ToolCall { input, .. }) if grew.kind == TailKind::Input => input,
            _ => return Growth::Gap,
        };
        let here = text.len() as u64;
        if grew.offset > here {
            return Growth::Gap;
        }
        // An overlap is cut at a border of characters, or it isn't an overlap of this text.
        let Some(beyond) = usize::try_from(here - grew.offset).ok().filter(|known| *known < grew.text.len()) else {
            return Growth::Known;
        };
        let Some(new) = grew.text.get(beyond..) else { return Growth::Gap };
        text.push_str(new);
        grew.text = new.to_owned();
        grew.offset = here;
        Growth::Joined(grew)
    }

    /// The workspace as it is now.
    pub fn workspace(&mut self, workspace: WorkspaceRow) -> Option<Patch> {
        (self.workspace != workspace).then(|| {
            self.workspace = workspace.clone();
            Patch::Workspace { workspace }
        })
    }

    /// Who this device is now.
    pub fn identity(&mut self, identity: Option<Identity>) -> Option<Patch> {
        (self.identity != identity).then(|| {
            self.identity = identity.clone();
            Patch::Identity { identity }
        })
    }

    /// The state of sync as it is now.
    pub fn sync(&mut self, sync: SyncRow) -> Option<Patch> {
        (self.sync.as_ref() != Some(&sync)).then(|| {
            self.sync = Some(sync.clone());
            Patch::Sync { sync }
        })
    }
}

#[cfg(test)]
mod tests {
    use skein_engine::ids::Timestamp;
    use skein_engine::session::Command;
    use skein_engine::session::conversation::{Decision, ShownPart};
    use skein_engine::session::model::{ProviderData, Role};

    use super::*;

    fn message(id: &str, text: &str) -> ShownMessage {
        ShownMessage {
            id: id.to_owned(),
            role: Role::Assistant,
            author: None,
            created_at: None,
            turn: None,
            epoch: None,
            unverified: false,
            parts: vec![ShownPart {
                index: 0,
                content: Content::Text { text: text.to_owned() },
                omitted: false,
                provider: None,
            }],
        }
    }

    fn conversation(messages: &[ShownMessage]) -> Conversation {
        Conversation { messages: messages.to_vec(), ..Conversation::default() }
    }

    fn tail(session: DocumentId, offset: u64, text: &str) -> Grew {
        Grew { session, message: "m".to_owned(), part: 0, kind: TailKind::Text, offset, text: text.to_owned() }
    }

    fn ids_of(patch: Option<Patch>) -> Vec<String> {
        match patch {
            Some(Patch::Conversation { messages, .. }) => messages.into_iter().map(|message| message.id).collect(),
            other => panic!("no conversation: {other:?}"),
        }
    }

    #[test]
    fn only_messages_that_changed_cross() {
        let session = DocumentId::random();
        let mut screen = Screen::default();
        screen.watch(session);
        let (a, b) = (message("a", "1"), message("b", "1"));
        assert_eq!(ids_of(screen.conversation(session, conversation(&[a.clone(), b]), vec![])), ["a", "b"]);
        let b = message("b", "2");
        assert_eq!(ids_of(screen.conversation(session, conversation(&[a.clone(), b.clone()]), vec![])), ["b"]);
        assert_eq!(screen.conversation(session, conversation(&[a.clone(), b.clone()]), vec![]), None);
        assert_eq!(ids_of(screen.conversation(session, conversation(&[b, a]), vec![])), [] as [&str; 0], "order alone");
    }

    #[test]
    fn a_decision_crosses_though_no_message_changed() {
        let session = DocumentId::random();
        let mut screen = Screen::default();
        screen.watch(session);
        screen.conversation(session, conversation(&[]), vec![]);
        let decision = Decision::Approved { request: "r".to_owned(), for_session: false };
        let decided = Conversation { decisions: [("c".to_owned(), decision)].into(), ..conversation(&[]) };
        match screen.conversation(session, decided, vec![]) {
            Some(Patch::Conversation { head, .. }) => assert_eq!(head.decided, ["c"]),
            other => panic!("no conversation: {other:?}"),
        }
    }

    #[test]
    fn a_session_that_nobody_watches_costs_nothing() {
        let session = DocumentId::random();
        let mut screen = Screen::default();
        assert_eq!(screen.conversation(session, conversation(&[message("a", "1")]), vec![]), None);
        assert_eq!(screen.grew(tail(session, 0, "x")), Growth::Known);
    }

    #[test]
    fn a_checkpoint_of_text_that_was_shown_live_crosses_no_message() {
        let session = DocumentId::random();
        let mut screen = Screen::default();
        screen.watch(session);
        screen.conversation(session, conversation(&[message("m", "one")]), vec![]);
        assert_eq!(screen.grew(tail(session, 3, " two")), Growth::Joined(tail(session, 3, " two")));
        assert_eq!(screen.conversation(session, conversation(&[message("m", "one two")]), vec![]), None);
    }

    #[test]
    fn what_overlaps_is_cut_what_repeats_is_dropped_what_leaves_a_gap_is_reported() {
        let session = DocumentId::random();
        let mut screen = Screen::default();
        screen.watch(session);
        screen.conversation(session, conversation(&[message("m", "é1")]), vec![]);
        assert_eq!(screen.grew(tail(session, 2, "12")), Growth::Joined(tail(session, 3, "2")));
        assert_eq!(screen.grew(tail(session, 0, "é1")), Growth::Known);
        assert_eq!(screen.grew(tail(session, 0, "é12")), Growth::Known);
        assert_eq!(screen.grew(tail(session, 9, "x")), Growth::Gap);
        assert_eq!(screen.grew(tail(session, 3, "漢字")), Growth::Gap, "cut inside a character");
        assert_eq!(screen.grew(Grew { part: 1, ..tail(session, 0, "x") }), Growth::Gap);
        assert_eq!(screen.grew(Grew { kind: TailKind::Thinking, ..tail(session, 4, "x") }), Growth::Gap);
    }

    #[test]
    fn a_session_that_comes_back_comes_whole() {
        let session = DocumentId::random();
        let mut screen = Screen::default();
        screen.watch(session);
        let shown = conversation(&[message("a", "1")]);
        assert_eq!(ids_of(screen.conversation(session, shown.clone(), vec![])), ["a"]);
        assert_eq!(
            screen.absent(session, Absence::Offline, vec![]),
            Some(Patch::Absent { session, why: Absence::Offline, commands: vec![] })
        );
        assert_eq!(screen.absent(session, Absence::Offline, vec![]), None);
        assert_eq!(ids_of(screen.conversation(session, shown.clone(), vec![])), ["a"]);
        screen.watch(session);
        assert_eq!(ids_of(screen.conversation(session, shown, vec![])), ["a"], "another page looks");
    }

    #[test]
    fn another_member_sees_nothing_of_the_last() {
        let mut screen = Screen::default();
        let session = DocumentId::random();
        screen.watch(session);
        screen.conversation(session, conversation(&[message("a", "1")]), vec![]);
        screen.workspace(WorkspaceRow { name: "Theirs".to_owned(), ..WorkspaceRow::default() });
        let patches = screen.reset();
        assert!(patches.contains(&Patch::Summaries { rows: vec![], removed: vec![], reset: true }));
        assert!(patches.contains(&Patch::Workspace { workspace: WorkspaceRow::default() }));
        assert!(screen.watches(session));
    }

    #[test]
    fn what_is_painted_first_gives_way_without_a_flicker() {
        let session = DocumentId::random();
        let mut screen = Screen::default();
        screen.watch(session);
        let mut shown = conversation(&[message("a", "1"), message("b", "2")]);
        let kept = Snapshot::of(session, Vec::new(), &shown);
        match screen.snapshot(session, kept.clone()) {
            Some(Patch::Conversation { head, messages, .. }) => assert!(head.loading && messages.len() == 2),
            other => panic!("nothing is painted: {other:?}"),
        }
        assert_eq!(screen.absent(session, Absence::Opening, vec![]), None, "it stays while the session is read");
        // What is for the provider's eyes only is not kept, and makes no difference.
        let provider = ProviderData { kind: "p".to_owned(), data: "{}".to_owned() };
        shown.messages[0].parts[0].provider = Some(provider);
        match screen.conversation(session, shown, vec![]) {
            Some(Patch::Conversation { head, messages, .. }) => assert!(!head.loading && messages.is_empty()),
            other => panic!("it stays loading: {other:?}"),
        }
        assert_eq!(screen.snapshot(session, kept), None, "late, it changes nothing");
    }

    #[test]
    fn what_waits_for_an_absent_session_crosses_with_its_absence() {
        let session = DocumentId::random();
        let mut screen = Screen::default();
        screen.watch(session);
        let command = WaitingCommand {
            id: "w".to_owned(),
            session,
            command: Command::send("later"),
            by: "me".to_owned(),
            at: Timestamp(1),
            failed: None,
        };
        screen.absent(session, Absence::Offline, vec![]);
        let patch = screen.absent(session, Absence::Offline, vec![command.clone()]);
        assert_eq!(patch, Some(Patch::Absent { session, why: Absence::Offline, commands: vec![command.clone()] }));
        assert_eq!(screen.absent(session, Absence::Offline, vec![command]), None);
    }
}
