//! The hub against automerge's own sync protocol: whatever is written, lost and reconnected, all ends converge, and
//! they stop talking.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use automerge::transaction::Transactable;
use automerge::{Automerge, ObjType, ROOT, ReadDoc};
use skein_engine::ids::DocumentId;
use support::{Peer, Relay, settle};

fn document() -> Automerge {
    let mut doc = Automerge::new();
    doc.transact::<_, _, automerge::AutomergeError>(|tx| {
        let list = tx.put_object(ROOT, "messages", ObjType::List)?;
        tx.insert(&list, 0, "hello")?;
        let text = tx.put_object(ROOT, "draft", ObjType::Text)?;
        tx.splice_text(&text, 0, 0, "a text")
    })
    .unwrap();
    doc
}

#[test]
fn a_document_of_one_peer_reaches_another_and_comes_back_changed() {
    let mut relay = Relay::new();
    let id = DocumentId::random();
    let mut peers = [Peer::new("a", id, document()), Peer::new("b", id, Automerge::new())];
    peers[0].connect(&mut relay);
    settle(&mut relay, &mut peers);
    peers[1].connect(&mut relay);
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), peers[1].heads());
    peers[1].doc.transact(|tx| tx.put(ROOT, "name", "b")).unwrap();
    peers[1].speak(&mut relay);
    settle(&mut relay, &mut peers);
    assert_eq!(peers[0].heads(), peers[1].heads());
    assert!(peers[0].doc.get(ROOT, "name").unwrap().is_some());
    let said: usize = peers.iter().map(|peer| peer.said).sum();
    assert!(said + relay.sent < 20, "{said} and {}", relay.sent);
}
