//! Bytes from outside: frames, sync messages and changes of any shape end as a value or an error, never as a panic, and
//! never as more memory than they justify.
#![allow(missing_docs, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use proptest::prelude::*;
use skein_engine::graph::change::{self, ParsedChange};
use skein_engine::ids::{DocumentId, PeerId};
use skein_engine::sync::message::{Flags, Message};
use skein_engine::wire::frame::{Frame, FrameError, SyncFrame};

/// Counts what is allocated at once, to show that claimed lengths aren't believed.
struct Counting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MEBIBYTE: usize = 1 << 20;

fn decodes_small(bytes: &[u8]) -> Result<Frame, FrameError> {
    let result = Frame::decode(bytes);
    assert!(LARGEST.get() < 8 * MEBIBYTE, "{} bytes at once", LARGEST.get());
    result
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x60 | text.len() as u8];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn with_data(data: &[u8]) -> Vec<u8> {
    let id = DocumentId::random().to_string();
    let mut bytes = vec![0xa5];
    for (key, value) in [("type", "sync"), ("senderId", "a"), ("targetId", "b")] {
        bytes.extend(text(key));
        bytes.extend(text(value));
    }
    bytes.extend(text("documentId"));
    bytes.extend([0x78, id.len() as u8]);
    bytes.extend(id.as_bytes());
    bytes.extend(text("data"));
    bytes.extend(data);
    bytes
}

#[test]
fn cbor_of_any_shape_is_an_error() {
    for bytes in [
        &[][..],
        &[0xf6],                                                                // null
        &[0xf7],                                                                // undefined
        &[0xff],                                                                // a break
        &[0x00],                                                                // 0
        &[0x80],                                                                // []
        &[0xa0],                                                                // {}
        &[0xa1],                                                                // a map that is cut short
        &[0xa1, 0x01, 0x02],                                                    // a key that is no text
        &[0xbb, 0x10, 0, 0, 0, 0, 0, 0, 0],                                     // a map of 2^60
        &[0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0],                                     // an array of 2^60
        &[0x5b, 0x10, 0, 0, 0, 0, 0, 0, 0],                                     // bytes, 2^60 of them
        &[0x7b, 0x10, 0, 0, 0, 0, 0, 0, 0],                                     // a text of 2^60
        &[0xa1, 0x64, b't', b'y', b'p', b'e', 0xf6],                            // type: null
        &[0xa1, 0x64, b't', b'y', b'p', b'e', 0x7b, 0x10, 0, 0, 0, 0, 0, 0, 0], // type: a text of 2^60
    ] {
        assert!(decodes_small(bytes).is_err(), "{bytes:x?}");
    }
    for data in [&[0xf6][..], &[0x01], &[0x61, b'x'], &[0x80], &[0x5b, 0x10, 0, 0, 0, 0, 0, 0, 0]] {
        assert!(decodes_small(&with_data(data)).is_err(), "{data:x?}");
    }
}

#[test]
fn nesting_of_100_000_levels_is_an_error() {
    for opening in [&[0x81][..], &[0x9f], &[0xa1, 0x60], &[0xc1], &[0xd8, 0x40], &[0x5f]] {
        let nested = opening.repeat(100_000);
        assert!(decodes_small(&nested).is_err());
        // In a field that nobody reads, too.
        let mut bytes = vec![0xa2];
        bytes.extend(text("type"));
        bytes.extend(text("leave"));
        bytes.extend(text("x"));
        bytes.extend(&nested);
        assert!(decodes_small(&bytes).is_err());
    }
}

#[test]
fn what_javascript_writes_is_read() {
    // A Uint8Array with its tag, an undefined field, an unknown one with a map inside, and a count beyond 32 bits.
    let mut bytes = with_data(&[0xd8, 0x40, 0x43, 1, 2, 3]);
    bytes[0] = 0xa7;
    bytes.extend(text("peerMetadata"));
    bytes.extend([0xa1]);
    bytes.extend(text("isEphemeral"));
    bytes.extend([0xf5]);
    bytes.extend(text("nothing"));
    bytes.extend([0xf7]);
    let Frame::Sync(frame) = Frame::decode(&bytes).unwrap() else { panic!() };
    assert_eq!(frame.data, [1, 2, 3].as_slice());

    let mut bytes = vec![0xa2];
    bytes.extend(text("type"));
    bytes.extend(text("remote-heads-changed"));
    bytes.extend(text("count"));
    bytes.extend([0x80]);
    assert_eq!(Frame::decode(&bytes), Ok(Frame::Other { name: "remote-heads-changed".to_owned() }));

    let mut bytes = vec![0xa2];
    bytes.extend(text("type"));
    bytes.extend(text("join"));
    bytes.extend(text("senderId"));
    bytes.extend(text("me"));
    assert_eq!(Frame::decode(&bytes), Ok(Frame::Join { sender: PeerId::from("me"), versions: vec!["1".to_owned()] }));
}

#[test]
fn every_frame_survives_its_bytes() {
    let (sender, target, document) = (PeerId::from("a"), PeerId::from("b"), DocumentId::random());
    let sync = SyncFrame { sender: sender.clone(), target: target.clone(), document, data: vec![0x42; 9000].into() };
    for frame in [
        Frame::Join { sender: sender.clone(), versions: vec!["1".to_owned(), "2".to_owned()] },
        Frame::Peer { sender: sender.clone(), target: target.clone(), version: "1".to_owned() },
        Frame::Request(sync.clone()),
        Frame::Sync(sync),
        Frame::Ephemeral {
            sender: sender.clone(),
            target: target.clone(),
            document,
            session: "s".to_owned(),
            count: 1 << 40,
            data: vec![0xa0].into(),
        },
        Frame::DocUnavailable { sender: sender.clone(), target: target.clone(), document },
        Frame::Error {
            sender: sender.clone(),
            target,
            message: "why ".repeat(200),
            document: Some(document),
            hash: Some("00".repeat(32)),
            code: Some("seq".to_owned()),
        },
        Frame::Leave { sender },
        Frame::Other { name: "remote-subscription-change".to_owned() },
    ] {
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }
}

#[test]
fn sync_messages_that_claim_more_than_follows_are_errors() {
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f]; // 2^32 - 1
    for before in
        [&[0x42][..], &[0x43], &[0x42, 0], &[0x42, 0, 0], &[0x42, 0, 0, 1], &[0x42, 0, 0, 1, 0], &[0x42, 0, 0, 0]]
    {
        let bytes = Bytes::from([before, &claim].concat());
        assert!(Message::decode(&bytes).is_err(), "{before:x?}");
    }
    // A filter whose numbers multiply to 2^60.
    let filter = [&claim[..], &[0x80, 0x80, 0x80, 0x80, 0x01], &[7]].concat();
    let bytes = [&[0x42, 0, 0, 1, 0, filter.len() as u8][..], &filter, &[0]].concat();
    assert!(Message::decode(&Bytes::from(bytes)).is_err());
    assert!(LARGEST.get() < 8 * MEBIBYTE);
}

#[test]
fn flags_are_read_as_automerge_writes_them() {
    let mut doc = automerge::Automerge::new();
    doc.empty_commit(automerge::transaction::CommitOptions::default());
    use automerge::sync::SyncDoc;
    let theirs = doc.generate_sync_message(&mut automerge::sync::State::new()).unwrap();
    let ours = Message::decode(&Bytes::from(theirs.clone().encode())).unwrap();
    assert_eq!((ours.heads.clone(), ours.flags), (theirs.heads, Some(Flags::default())));
    // And back: what we write, automerge reads.
    let ours = Message { flags: Some(Flags { read_only: true, reset: false }), ..ours };
    let back = automerge::sync::Message::decode(&ours.encode()).unwrap();
    assert!(back.flags.is_some_and(|flags| flags.contains(automerge::sync::MessageFlags::READ_ONLY)));
    assert_eq!(back.have.len(), 1);
    // Newer flags, and whatever comes after them, are passed over.
    let mut bytes = Message::default().encode();
    bytes.extend([4, 0x02, 0x80, 0x7f, 0xff, 1, 2, 3]);
    assert!(Message::decode(&Bytes::from(bytes)).is_ok());
}

#[test]
fn a_compressed_change_that_inflates_without_end_is_an_error() {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        encoder.write_all(&[0; MEBIBYTE]).unwrap();
    }
    let data = encoder.finish().unwrap();
    let mut bytes = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 2];
    let mut length = data.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(data);
    assert_eq!(ParsedChange::parse(bytes.into()).unwrap_err().0, "too large");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Frame::decode(&bytes);
        let _ = Frame::decode(&with_data(&bytes));
        let bytes = Bytes::from(bytes);
        let _ = Message::decode(&bytes);
        let _ = change::split(&bytes);
        let _ = ParsedChange::parse(bytes);
    }

    #[test]
    fn bytes_of_the_right_beginning_never_panic(
        kind in 0_u8..4,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut chunk = vec![0x85, 0x6f, 0x4a, 0x83, 1, 2, 3, 4, kind, bytes.len() as u8 & 0x7f];
        chunk.extend(&bytes);
        let chunk = Bytes::from(chunk);
        let _ = ParsedChange::parse(chunk.clone());
        let _ = change::split(&chunk);
        let message = [&[0x42], &bytes[..]].concat();
        let _ = Message::decode(&Bytes::from(message));
    }

    #[test]
    fn cut_frames_never_panic(cut in 0_usize..120, at in 0_usize..120, byte in any::<u8>()) {
        let mut bytes = with_data(&[0x43, 1, 2, 3]);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = Frame::decode(&bytes[..cut.min(bytes.len())]);
        let _ = Frame::decode(&bytes);
    }
}
