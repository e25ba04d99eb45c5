//! Random histories of one list (rule 17): a member with two devices and another with one, who move, pin, archive,
//! restore and create sessions, and meet when they like.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use automerge::transaction::Transactable;
use automerge::{Automerge, ObjType, ROOT};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use skein_engine::ids::{DocumentId, Timestamp, random_actor};
use skein_engine::position::{fraction_length, position_after};
use skein_engine::profile::{self, Arrange, Listed, Profile};
use skein_engine::session::command::{self, Command, Given, NewSession};
use skein_engine::session::{Leases, Writers, conversation, read};
use skein_engine::testing;

const SEEDS: u64 = 60;
const STEPS: usize = 40;
const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// The member of each device; the last replica of each kind is the relay's.
const MEMBERS: [usize; 3] = [0, 0, 1];

/// What somebody did that says where a session stands.
struct Act {
    /// A session was put at the end of all lists, by creating or restoring it.
    end: Option<DocumentId>,
    /// A member moved something.
    moved_by: Option<usize>,
    past: BTreeSet<usize>,
}

#[derive(Clone, Default)]
struct Replica {
    sessions: BTreeMap<DocumentId, Automerge>,
    /// By member: a device has its own member's, the relay both.
    profiles: BTreeMap<usize, Automerge>,
    known: BTreeSet<usize>,
}

struct Lists {
    devices: Vec<Replica>,
    relay: Replica,
    acts: Vec<Act>,
    random: StdRng,
}

impl Replica {
    fn list(&self) -> Vec<Listed> {
        let listed =
            |(id, document): (&DocumentId, &Automerge)| Listed { session: *id, own: read::session(document).position };
        self.sessions.iter().map(listed).collect()
    }

    fn profile(&self, member: usize) -> Profile {
        profile::read(&self.profiles[&member])
    }

    fn order(&self, member: usize) -> Vec<DocumentId> {
        profile::sorted(&self.profile(member), self.list()).into_iter().map(|listed| listed.session).collect()
    }

    fn next_position(&self) -> String {
        let known: Vec<String> = self.list().into_iter().filter_map(|listed| listed.own).collect();
        position_after(known.iter().map(String::as_str))
    }
}

impl Lists {
    fn new(seed: u64) -> Self {
        testing::seed(Some(seed));
        let profiles = (0..2).map(|member| {
            let mut document = Automerge::new().with_actor(random_actor());
            document
                .transact(|tx| {
                    tx.put_object(ROOT, "order", ObjType::Map)?;
                    tx.put_object(ROOT, "pins", ObjType::Map).map(drop)
                })
                .unwrap();
            (member, document)
        });
        let relay = Replica { profiles: profiles.collect(), ..Replica::default() };
        let device = |member: &usize| {
            let own = relay.profiles[member].clone().with_actor(random_actor());
            Replica { profiles: [(*member, own)].into(), ..Replica::default() }
        };
        let mut lists = Self {
            devices: MEMBERS.iter().map(device).collect(),
            relay: relay.clone(),
            acts: Vec::new(),
            random: StdRng::seed_from_u64(seed),
        };
        for _ in 0..4 {
            lists.create(0);
        }
        lists.meet();
        lists
    }

    fn act(&mut self, device: usize, end: Option<DocumentId>, moved_by: Option<usize>) {
        let past = self.devices[device].known.clone();
        self.devices[device].known.insert(self.acts.len());
        self.acts.push(Act { end, moved_by, past });
    }

    fn put_last(&mut self, device: usize, session: DocumentId) {
        self.act(device, Some(session), None);
        assert_eq!(self.devices[device].order(MEMBERS[device]).last(), Some(&session), "who does it sees it last");
    }

    fn create(&mut self, device: usize) {
        let position = Some(self.devices[device].next_position());
        let new = NewSession { position, ..NewSession::default() };
        let mut document = Automerge::new().with_actor(random_actor());
        let given = Given { by: "person", at: NOW, id: None };
        let mut tx = document.transaction();
        command::create(&mut tx, &new, &given).unwrap();
        tx.commit();
        let id = DocumentId::random();
        self.devices[device].sessions.insert(id, document);
        self.put_last(device, id);
    }

    /// Archived and restored in one, or only one of them.
    fn archive_or_restore(&mut self, device: usize, id: DocumentId) {
        let position = self.devices[device].next_position();
        let document = self.devices[device].sessions.get_mut(&id).unwrap();
        let session = read::session(document);
        let seen = conversation(&session, &Leases::default(), &Writers::default(), NOW);
        let archived = session.archived_at.is_some();
        let command = if archived { Command::Restore { position } } else { Command::Archive };
        let mut tx = document.transaction();
        command::apply(&mut tx, &session, &seen, &command, &Given { by: "person", at: NOW, id: None }).unwrap();
        tx.commit();
        if archived {
            self.put_last(device, id);
        }
    }

    fn arrange(&mut self, device: usize, arrange: &Arrange) {
        let member = MEMBERS[device];
        let (list, profile) = (self.devices[device].list(), self.devices[device].profile(member));
        let mut tx = self.devices[device].profiles.get_mut(&member).unwrap().transaction();
        profile::arrange(&mut tx, &profile, list, arrange, NOW).unwrap();
        tx.commit();
        if let Arrange::Move { session, before } = arrange {
            self.act(device, None, Some(member));
            // Who drags sees it there at once, and nothing else moved.
            let before_it = profile::sorted(&profile, self.devices[device].list());
            let order = self.devices[device].order(member);
            let at = order.iter().position(|id| id == session).unwrap();
            assert_eq!(order.get(at + 1), before.as_ref(), "dropped where it was dropped");
            let others = |order: Vec<DocumentId>| order.into_iter().filter(|id| id != session).collect::<Vec<_>>();
            assert_eq!(others(order), others(before_it.into_iter().map(|listed| listed.session).collect()));
        }
    }

    fn sync(&mut self, device: usize) {
        let (device, member) = (&mut self.devices[device], MEMBERS[device]);
        take_sessions(&mut self.relay, device);
        take_sessions(device, &mut self.relay);
        let own = device.profiles.get_mut(&member).unwrap();
        let relays = self.relay.profiles.get_mut(&member).unwrap();
        relays.merge(own).unwrap();
        own.merge(relays).unwrap();
        self.relay.known.extend(&device.known);
        device.known = self.relay.known.clone();
    }

    fn meet(&mut self) {
        for _ in 0..2 {
            (0..MEMBERS.len()).for_each(|device| self.sync(device));
        }
    }

    fn step(&mut self) {
        let device = self.random.random_range(0..MEMBERS.len());
        let order = self.devices[device].order(MEMBERS[device]);
        let session = order[self.random.random_range(0..order.len())];
        let before = order.get(self.random.random_range(0..=order.len())).copied().filter(|before| *before != session);
        match self.random.random_range(0..12) {
            0..=4 => self.arrange(device, &Arrange::Move { session, before }),
            5 => self.arrange(device, &Arrange::Pin { session }),
            6 => self.arrange(device, &Arrange::Unpin { session }),
            7..=8 => self.archive_or_restore(device, session),
            9 if order.len() < 9 => self.create(device),
            _ => self.sync(device),
        }
    }

    /// What was put at the end last, alone, is last for everyone who has moved nothing since they heard of it.
    fn last_is_last(&self, device: usize) {
        let (replica, member) = (&self.devices[device], MEMBERS[device]);
        let mut positions: Vec<(String, DocumentId)> =
            replica.list().into_iter().map(|listed| (listed.own.unwrap(), listed.session)).collect();
        positions.sort();
        let [.., (before, _), (highest, last)] = positions.as_slice() else { return };
        if before == highest {
            return;
        }
        let put = replica.known.iter().copied().filter(|act| self.acts[*act].end == Some(*last)).max().unwrap();
        let knew = |act: &usize| self.acts[*act].moved_by == Some(member) && self.acts[*act].past.contains(&put);
        if !replica.known.iter().any(knew) {
            assert_eq!(replica.order(member).last(), Some(last), "member {member}");
        }
    }
}

fn take_sessions(into: &mut Replica, from: &mut Replica) {
    for (id, document) in &mut from.sessions {
        let known = into.sessions.entry(*id).or_insert_with(|| Automerge::new().with_actor(random_actor()));
        if known.get_heads() != document.get_heads() {
            known.merge(document).unwrap();
        }
    }
}

#[test]
fn every_list_is_its_members_own_the_same_on_their_devices_and_ends_with_what_was_restored() {
    for seed in 0..SEEDS {
        let told = std::panic::catch_unwind(|| {
            let mut lists = Lists::new(seed);
            for _ in 0..STEPS {
                lists.step();
                let device = lists.random.random_range(0..MEMBERS.len());
                lists.last_is_last(device);
            }
            lists.meet();
            assert_eq!(lists.devices[0].order(0), lists.devices[1].order(0), "two devices of one member");
            assert_eq!(lists.devices[0].profile(0), lists.devices[1].profile(0));
            assert_eq!(lists.devices[2].order(1), lists.relay.order(1));
            for (device, member) in MEMBERS.into_iter().enumerate() {
                lists.last_is_last(device);
                let places = lists.devices[device].profile(member).order;
                let longest = places.values().map(|place| fraction_length(&place.position)).max().unwrap_or(0);
                assert!(longest <= 2 * skein_engine::position::MAX_FRACTION, "{longest}");
            }
        });
        assert!(told.is_ok(), "history {seed}: see above");
    }
}
