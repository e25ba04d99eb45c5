//! Live text stitched onto committed text: what a viewer shows is always a beginning of what the model said, whatever
//! was lost, doubled, reordered, or sent by a worker that had lost its lease.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use skein_engine::ids::Epoch;
use skein_engine::session::tail::{Stitched, Tails};
use skein_engine::wire::ephemeral::TailKind;

const TRUTH: &str = "Zürich — こんにちは, naïve café 🧶 and a plain end: 0123456789.";
const EPOCH: Epoch = Epoch(7);
const MESSAGE: &str = "m1";

fn receive(tails: &mut Tails, epoch: Epoch, committed: u64, offset: u64, text: &str) -> Stitched {
    tails.receive(Some(EPOCH), epoch, MESSAGE, 0, TailKind::Text, committed, offset, text)
}

fn shown(tails: &Tails, committed: usize) -> String {
    let live = tails.beyond(MESSAGE, 0, committed as u64).unwrap_or_default();
    format!("{}{live}", &TRUTH[..committed])
}

/// The character boundary that this fraction of the text falls on.
fn boundary(fraction: u16) -> usize {
    let at = usize::from(fraction) * (TRUTH.len() + 1) / (usize::from(u16::MAX) + 1);
    (0..=at).rev().find(|&at| TRUTH.is_char_boundary(at)).unwrap()
}

#[derive(Clone, Debug)]
enum Event {
    /// A piece of the truth arrives: any piece, in any order, any number of times.
    Piece(u16, u16),
    /// The document grows.
    Commit(u16),
    /// A worker that lost its lease sends something else.
    Stale(u16, String),
    /// The worker answers a `tail-request` with all it has said beyond the document.
    Whole(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (any::<u16>(), any::<u16>()).prop_map(|(a, b)| Event::Piece(a.min(b), a.max(b))),
        2 => any::<u16>().prop_map(Event::Commit),
        1 => (any::<u16>(), ".{0,8}").prop_map(|(at, text)| Event::Stale(at, text)),
        1 => any::<u16>().prop_map(Event::Whole),
    ]
}

proptest! {
    #[test]
    fn what_is_shown_is_always_a_beginning_of_the_truth(events in prop::collection::vec(event(), 0..60)) {
        let mut tails = Tails::default();
        let mut committed = 0;
        for event in events {
            let before = shown(&tails, committed);
            match event {
                Event::Piece(from, to) => {
                    let (from, to) = (boundary(from), boundary(to));
                    let stitched = receive(&mut tails, EPOCH, committed as u64, from as u64, &TRUTH[from..to]);
                    let after = shown(&tails, committed);
                    match stitched {
                        Stitched::Grew(text) => prop_assert_eq!(format!("{before}{text}"), after),
                        Stitched::Nothing => {
                            prop_assert!(to <= before.len());
                            prop_assert_eq!(before, after);
                        }
                        Stitched::Gap => {
                            prop_assert!(from > before.len());
                            prop_assert_eq!(before, after);
                        }
                    }
                }
                Event::Commit(to) => {
                    committed = committed.max(boundary(to));
                    tails.committed(MESSAGE, 0, committed as u64);
                    prop_assert!(shown(&tails, committed).len() >= before.len());
                }
                Event::Stale(at, text) => {
                    let stitched = receive(&mut tails, Epoch(6), committed as u64, boundary(at) as u64, &text);
                    prop_assert_eq!(stitched, Stitched::Nothing);
                    prop_assert_eq!(&before, &shown(&tails, committed));
                }
                Event::Whole(to) => {
                    let to = boundary(to).max(committed);
                    receive(&mut tails, EPOCH, committed as u64, committed as u64, &TRUTH[committed..to]);
                    prop_assert_eq!(shown(&tails, committed).len(), to.max(before.len()));
                }
            }
            prop_assert!(TRUTH.starts_with(&shown(&tails, committed)));
        }
    }

    #[test]
    fn nothing_that_arrives_panics(
        events in prop::collection::vec((any::<u64>(), 0..12_u64, 0..40_u64, ".{0,12}", any::<bool>()), 0..40)
    ) {
        let mut tails = Tails::default();
        for (wild, committed, offset, text, far) in events {
            let offset = if far { wild } else { offset };
            receive(&mut tails, EPOCH, committed, offset, &text);
            tails.committed(MESSAGE, 0, committed);
            tails.beyond(MESSAGE, 0, offset);
        }
    }
}

#[test]
fn an_overlap_adds_only_what_is_new() {
    let mut tails = Tails::default();
    assert_eq!(receive(&mut tails, EPOCH, 3, 3, "lo w"), Stitched::Grew("lo w".into()));
    assert_eq!(receive(&mut tails, EPOCH, 3, 0, "hello world"), Stitched::Grew("orld".into()));
    assert_eq!(receive(&mut tails, EPOCH, 3, 5, "world"), Stitched::Nothing);
    assert_eq!(receive(&mut tails, EPOCH, 3, 30, "later"), Stitched::Gap);
    assert_eq!(tails.beyond(MESSAGE, 0, 3), Some("lo world"));
}

#[test]
fn an_overlap_that_ends_inside_a_character_is_a_gap() {
    let mut tails = Tails::default();
    assert_eq!(receive(&mut tails, EPOCH, 1, 0, "é"), Stitched::Gap);
    assert_eq!(tails.beyond(MESSAGE, 0, 1), None);
}

#[test]
fn a_new_epoch_begins_with_nothing() {
    let mut tails = Tails::default();
    receive(&mut tails, EPOCH, 0, 0, "old");
    let next = Epoch(8);
    let stitched = tails.receive(Some(next), next, MESSAGE, 0, TailKind::Text, 0, 0, "new");
    assert_eq!((stitched, tails.epoch()), (Stitched::Grew("new".into()), next));
    assert_eq!(tails.beyond(MESSAGE, 0, 0), Some("new"));
    assert_eq!(tails.parts().count(), 1);
}

#[test]
fn nothing_is_believed_while_no_run_streams() {
    let mut tails = Tails::default();
    let stitched = tails.receive(None, EPOCH, MESSAGE, 0, TailKind::Text, 0, 0, "text");
    assert_eq!((stitched, tails.parts().count()), (Stitched::Nothing, 0));
}
