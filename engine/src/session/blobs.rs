//! Which blobs a document names: attachments, whole tool results, preambles, and whatever a provider's data or a later
//! version names. A document's text goes in, names come out.
//!
//! Invariant: nothing that any reader could take for a blob's name is missed, so what is found may be too much: 64 digits
//! that merely look like one.

use std::collections::BTreeSet;

use automerge::Automerge;

use super::tree::{self, Node, Value};
use crate::blob::BlobId;

/// The names that a document holds at its heads, conflicting values included.
pub fn named(document: &Automerge) -> BTreeSet<BlobId> {
    let mut names = BTreeSet::new();
    gather(&tree::read(document), &mut names);
    names
}

fn gather(node: &Node, names: &mut BTreeSet<BlobId>) {
    match &node.value {
        Value::Map(entries) => entries.iter().for_each(|(_, node)| gather(node, names)),
        Value::List(elements) => elements.iter().flatten().for_each(|node| gather(node, names)),
        Value::Text(text, _) => names.extend(in_text(text)),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Other => {}
    }
}

/// A name may stand within a text, as in JSON.
fn in_text(text: &str) -> impl Iterator<Item = BlobId> {
    let digits = text.split(|letter: char| !letter.is_ascii_hexdigit());
    digits.filter(|digits| digits.len() == 64).filter_map(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use automerge::transaction::Transactable;
    use automerge::{AutoCommit, ObjType, ROOT};

    use super::*;

    #[test]
    fn names_are_found_wherever_they_stand_and_gone_when_they_are_deleted() {
        let ids = [0_u8, 1, 2, 3].map(|n| BlobId::of(&[n]));
        let mut document = AutoCommit::new();
        let messages = document.put_object(ROOT, "messages", ObjType::List).unwrap();
        let message = document.insert_object(&messages, 0, ObjType::Map).unwrap();
        document.put(&message, "blob", ids[0].to_string()).unwrap();
        document.put(&message, "data", format!("{{\"file\":\"{}\"}}", ids[1])).unwrap();
        let text = document.put_object(&message, "text", ObjType::Text).unwrap();
        document.splice_text(&text, 0, 0, &ids[2].to_string()).unwrap();
        document.put(ROOT, "unlike", format!("a{}", ids[3])).unwrap();
        document.commit();
        assert_eq!(named(document.document()), BTreeSet::from([ids[0], ids[1], ids[2]]));
        document.delete(&message, "blob").unwrap();
        document.commit();
        assert_eq!(named(document.document()), BTreeSet::from([ids[1], ids[2]]));
    }

    #[test]
    fn both_values_of_a_conflict_count() {
        let ids = [0_u8, 1].map(|n| BlobId::of(&[n]));
        let mut one = AutoCommit::new();
        let mut other = one.fork();
        one.put(ROOT, "blob", ids[0].to_string()).unwrap();
        other.put(ROOT, "blob", ids[1].to_string()).unwrap();
        one.merge(&mut other).unwrap();
        assert_eq!(named(one.document()), BTreeSet::from(ids));
    }
}
