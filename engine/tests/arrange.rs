//! A member's own order (rule 17): drags by one device and by two, long games of moving, restored sessions.

#![allow(clippy::unwrap_used)]

use automerge::Automerge;
use proptest::prelude::*;
use skein_engine::ids::{DocumentId, Timestamp, random_actor};
use skein_engine::position::{MAX_FRACTION, fraction_length};
use skein_engine::profile::{self, Arrange, ArrangeError, Listed, Profile};
use skein_engine::workspace::create_profile;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn session(n: u8) -> DocumentId {
    DocumentId::from_bytes([n; 16])
}

/// Sessions 1 to `count`, created in that order.
fn list(count: u8) -> Vec<Listed> {
    (1..=count).map(|n| Listed { session: session(n), own: Some(format!("{n:010}")) }).collect()
}

fn arrange(document: &mut Automerge, list: &[Listed], what: &Arrange) -> Result<(), ArrangeError> {
    let profile = profile::read(document);
    let mut tx = document.transaction();
    profile::arrange(&mut tx, &profile, list.to_vec(), what, NOW)?;
    tx.commit();
    Ok(())
}

fn order(document: &Automerge, list: &[Listed]) -> Vec<DocumentId> {
    let profile = profile::read(document);
    profile::sorted(&profile, list.to_vec()).into_iter().map(|listed| listed.session).collect()
}

fn ids(numbers: &[u8]) -> Vec<DocumentId> {
    numbers.iter().map(|n| session(*n)).collect()
}

fn moving(n: u8, before: Option<u8>) -> Arrange {
    Arrange::Move { session: session(n), before: before.map(session) }
}

fn fork(document: &Automerge) -> Automerge {
    document.fork().with_actor(random_actor())
}

#[test]
fn one_row_moves_next_to_the_neighbour_it_was_dropped_at() {
    let (mut document, list) = (create_profile().unwrap(), list(4));
    arrange(&mut document, &list, &moving(4, Some(2))).unwrap();
    assert_eq!(order(&document, &list), ids(&[1, 4, 2, 3]));
    assert_eq!(profile::read(&document).order.len(), 1);
    arrange(&mut document, &list, &moving(1, None)).unwrap();
    assert_eq!(order(&document, &list), ids(&[4, 2, 3, 1]));
    arrange(&mut document, &list, &moving(3, Some(4))).unwrap();
    assert_eq!(order(&document, &list), ids(&[3, 4, 2, 1]));
    let before = document.get_heads();
    arrange(&mut document, &list, &moving(2, Some(1))).unwrap();
    assert_eq!(document.get_heads(), before, "it stands there already");
}

#[test]
fn nonsense_is_refused() {
    let (mut document, list) = (create_profile().unwrap(), list(2));
    assert_eq!(arrange(&mut document, &list, &moving(1, Some(1))), Err(ArrangeError::BeforeItself));
    assert_eq!(arrange(&mut document, &list, &moving(9, None)), Err(ArrangeError::Unknown(session(9))));
    assert_eq!(arrange(&mut document, &list, &moving(1, Some(9))), Err(ArrangeError::Unknown(session(9))));
}

#[test]
fn a_restored_session_is_last_whatever_was_dragged() {
    let (mut document, mut list) = (create_profile().unwrap(), list(3));
    arrange(&mut document, &list, &moving(1, Some(3))).unwrap();
    assert_eq!(order(&document, &list), ids(&[2, 1, 3]));
    list[0].own = Some("0000000004".into());
    assert_eq!(order(&document, &list), ids(&[2, 3, 1]));
}

#[test]
fn sessions_without_a_position_are_last_by_id_and_can_be_moved() {
    let (mut document, mut list) = (create_profile().unwrap(), list(4));
    list[1].own = None;
    list[2].own = Some("nonsense".into());
    assert_eq!(order(&document, &list), ids(&[1, 4, 2, 3]));
    arrange(&mut document, &list, &moving(1, None)).unwrap();
    assert_eq!(order(&document, &list), ids(&[4, 2, 3, 1]));
    arrange(&mut document, &list, &moving(1, Some(3))).unwrap();
    assert_eq!(order(&document, &list), ids(&[4, 2, 1, 3]));
}

#[test]
fn equal_positions_are_told_apart_when_one_is_moved_between_them() {
    let (mut document, mut list) = (create_profile().unwrap(), list(3));
    list[1].own = Some("0000000001".into());
    let [first, second, third] = order(&document, &list)[..] else { panic!() };
    assert_eq!(third, session(3));
    arrange(&mut document, &list, &Arrange::Move { session: third, before: Some(second) }).unwrap();
    assert_eq!(order(&document, &list), [first, third, second]);
}

#[test]
fn two_devices_that_move_different_sessions_keep_both_moves() {
    let (base, list) = (create_profile().unwrap(), list(5));
    let (mut laptop, mut phone) = (fork(&base), fork(&base));
    arrange(&mut laptop, &list, &moving(5, Some(1))).unwrap();
    arrange(&mut phone, &list, &moving(2, None)).unwrap();
    laptop.merge(&mut phone).unwrap();
    phone.merge(&mut laptop).unwrap();
    assert_eq!(order(&laptop, &list), ids(&[5, 1, 3, 4, 2]));
    assert_eq!(order(&laptop, &list), order(&phone, &list));
}

#[test]
fn two_devices_that_move_the_same_session_agree_on_the_later_place() {
    let (base, list) = (create_profile().unwrap(), list(4));
    let (mut laptop, mut phone) = (fork(&base), fork(&base));
    arrange(&mut laptop, &list, &moving(2, Some(1))).unwrap();
    arrange(&mut phone, &list, &moving(2, None)).unwrap();
    laptop.merge(&mut phone).unwrap();
    phone.merge(&mut laptop).unwrap();
    assert_eq!(order(&laptop, &list), ids(&[1, 3, 4, 2]));
    assert_eq!(order(&phone, &list), order(&laptop, &list));
}

#[test]
fn pins_merge_and_a_pin_outlives_an_unpin_beside_it() {
    let (mut base, list) = (create_profile().unwrap(), list(2));
    arrange(&mut base, &list, &Arrange::Pin { session: session(1) }).unwrap();
    let (mut laptop, mut phone) = (fork(&base), fork(&base));
    arrange(&mut laptop, &list, &Arrange::Unpin { session: session(1) }).unwrap();
    assert!(profile::read(&laptop).pins.is_empty());
    arrange(&mut phone, &list, &Arrange::Unpin { session: session(1) }).unwrap();
    arrange(&mut phone, &list, &Arrange::Pin { session: session(1) }).unwrap();
    laptop.merge(&mut phone).unwrap();
    assert!(profile::read(&laptop).pins.contains_key(&session(1)));
}

#[test]
fn a_document_of_another_shape_reads_as_an_empty_profile() {
    use automerge::ROOT;
    use automerge::transaction::Transactable;
    let mut document = Automerge::new();
    let mut tx = document.transaction();
    tx.put(ROOT, "order", "none").unwrap();
    tx.put(ROOT, "pins", 7_i64).unwrap();
    tx.commit();
    assert_eq!(profile::read(&document), Profile::default());
}

/// The worst game there is: always between the same two neighbours, from either side.
#[test]
fn positions_stay_short_under_a_thousand_moves_into_one_gap() {
    let (mut document, list) = (create_profile().unwrap(), list(20));
    for n in 0..1_000_u32 {
        let at = order(&document, &list);
        let what = match n % 3 {
            0 => Arrange::Move { session: at[19], before: Some(at[1]) },
            1 => Arrange::Move { session: at[0], before: Some(at[2]) },
            _ => Arrange::Move { session: at[2], before: Some(at[1]) },
        };
        arrange(&mut document, &list, &what).unwrap();
    }
    let longest = profile::read(&document).order.values().map(|place| fraction_length(&place.position)).max();
    assert!(longest.unwrap() <= MAX_FRACTION, "{longest:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any moves, on two devices that meet now and then: after each move its author sees what they asked for, and once
    /// both have heard of everything they see one order of all sessions.
    #[test]
    fn moves_do_what_they_say_and_merge(moves in prop::collection::vec((any::<bool>(), 1_u8..9, 0_u8..9, any::<bool>()), 1..60)) {
        let list = list(8);
        let base = create_profile().unwrap();
        let mut devices = [fork(&base), fork(&base)];
        for (which, n, before, meet) in moves {
            let device = usize::from(which);
            let before = Some(before).filter(|before| *before > 0);
            if before == Some(n) {
                continue;
            }
            arrange(&mut devices[device], &list, &moving(n, before)).unwrap();
            let seen = order(&devices[device], &list);
            let at = seen.iter().position(|id| *id == session(n)).unwrap();
            prop_assert_eq!(seen.get(at + 1).copied(), before.map(session));
            if meet {
                let [a, b] = &mut devices;
                a.merge(b).unwrap();
                b.merge(a).unwrap();
            }
        }
        let [a, b] = &mut devices;
        a.merge(b).unwrap();
        b.merge(a).unwrap();
        prop_assert_eq!(order(a, &list), order(b, &list));
        prop_assert_eq!(order(a, &list).len(), list.len());
        let profile = profile::read(a);
        for place in profile.order.values() {
            prop_assert!(fraction_length(&place.position) <= MAX_FRACTION);
        }
    }
}
