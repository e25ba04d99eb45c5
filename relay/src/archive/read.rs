//! An archive → what is in it, piece by piece, each checked: hashes of files, changes that parse, writers of every actor.
//! Blocks.
//!
//! Invariant: nothing is unpacked under a name that stands in the archive, and any bytes give pieces or an error.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use skein_engine::blob::{BlobId, MAX_BYTES};
use skein_engine::graph::change::{ParsedChange, split};
use skein_engine::ids::{ActorId, DocumentId, Scope};
use skein_engine::session::conversation::Writer;
use skein_engine::wire::catalog::{Firing, Mark};
use tar::{Archive, Entry};

use super::{ArchiveError, END, FIRINGS, HEAD, Head, MARKS, VERSION};
use crate::store::ledger::Grave;

/// Bytes of one document's changes, and of any other entry but a file: more is a mistake.
const MAX_ENTRY: u64 = 1 << 30;

/// A document's place.
pub(super) type Key = (Scope, DocumentId);

/// One thing of it.
pub(super) enum Piece {
    Head(Box<Head>),
    Blob(BlobId, Bytes),
    /// In an order in which each comes after what it depends on.
    Document(Key, Vec<(Writer, Bytes)>),
    Grave(Key, Grave),
    Marks(Vec<(Scope, Mark)>),
    Firings(Vec<Firing>),
}

/// Gives out each piece in its order, until `take` says no. An archive without its end is an error.
pub(super) fn read(
    archive: impl Read,
    mut take: impl FnMut(Piece) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut archive = Archive::new(archive);
    let mut scopes: BTreeSet<Scope> = BTreeSet::new();
    let mut writers: HashMap<Key, HashMap<ActorId, Writer>> = HashMap::new();
    let (mut first, mut ended) = (true, false);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if first != (path == HEAD) {
            return Err(content(format!("it begins with {path}, not with {HEAD}")));
        }
        first = false;
        let key = |rest: &str| {
            let (scope, document) = rest.rsplit_once('/').unwrap_or_default();
            let (scope, document) = (Scope::from(scope), document.parse());
            match document {
                Ok(document) if scopes.contains(&scope) => Ok((scope, document)),
                _ => Err(content(format!("{path} names no document of its workspace"))),
            }
        };
        match path.split_once('/') {
            None if path == HEAD => {
                let head: Head = json(&mut entry, &path)?;
                if head.version != VERSION {
                    return Err(ArchiveError::Version(head.version));
                }
                scopes.insert(head.workspace.scope());
                scopes.extend(head.members.iter().map(|member| member.scope()));
                check(&head)?;
                take(Piece::Head(Box::new(head)))?;
            }
            None if path == MARKS => {
                let mut marks: Vec<(Scope, Mark)> = json(&mut entry, &path)?;
                marks.retain(|(scope, _)| scopes.contains(scope));
                take(Piece::Marks(marks))?;
            }
            None if path == FIRINGS => take(Piece::Firings(json(&mut entry, &path)?))?,
            None if path == END => {
                ended = true;
                break;
            }
            Some(("blobs", id)) => {
                let id: BlobId = id.parse().map_err(|_| content(format!("{path} is no SHA-256")))?;
                let bytes = bytes(&mut entry, &path, MAX_BYTES)?;
                if BlobId::of(&bytes) != id {
                    return Err(content(format!("the file {id} is damaged")));
                }
                take(Piece::Blob(id, bytes))?;
            }
            Some(("writers", rest)) => {
                let rows: Vec<(ActorId, Writer)> = json(&mut entry, &path)?;
                writers.insert(key(rest)?, rows.into_iter().collect());
            }
            Some(("changes", rest)) => {
                let key = key(rest)?;
                let of = writers.remove(&key).unwrap_or_default();
                let chunks = split(&bytes(&mut entry, &path, MAX_ENTRY)?);
                let chunks =
                    chunks.map_err(|error| content(format!("the changes of {} are damaged: {error}", key.1)))?;
                let changes = chunks.into_iter().map(|chunk| {
                    let parsed = ParsedChange::parse(chunk.clone());
                    let parsed =
                        parsed.map_err(|error| content(format!("a change of {} is damaged: {error}", key.1)))?;
                    let writer = of.get(&parsed.actor).cloned();
                    let writer = writer.ok_or_else(|| content(format!("nobody is named for a change of {}", key.1)))?;
                    Ok::<_, ArchiveError>((writer, chunk))
                });
                let changes = changes.collect::<Result<Vec<_>, _>>()?;
                take(Piece::Document(key, changes))?;
            }
            Some(("graves", rest)) => take(Piece::Grave(key(rest)?, json(&mut entry, &path)?))?,
            // What a later version adds.
            _ => {}
        }
    }
    if ended { Ok(()) } else { Err(content("it is cut off: its end is missing")) }
}

/// What a head may not say, since it becomes part of the relay's accounts.
fn check(head: &Head) -> Result<(), ArchiveError> {
    let id = |id: &str| id.len() == 22 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let members = &head.members;
    if !id(&head.workspace.id) || members.iter().any(|member| !id(&member.id) || member.workspace != head.workspace.id)
    {
        return Err(content("its ids are none"));
    }
    let scopes: BTreeSet<Scope> =
        std::iter::once(head.workspace.scope()).chain(members.iter().map(|member| member.scope())).collect();
    if head.seeds.iter().any(|seed| !scopes.contains(&seed.scope)) {
        return Err(content("it makes documents of another workspace"));
    }
    let names = members.iter().map(|member| &member.name).chain([&head.workspace.name]);
    match names.into_iter().find(|name| crate::accounts::name(name).is_err()) {
        Some(name) => Err(content(format!("\"{}\" is no name", name.escape_debug()))),
        None => Ok(()),
    }
}

fn content(why: impl Into<String>) -> ArchiveError {
    ArchiveError::Content(why.into())
}

fn bytes(entry: &mut Entry<'_, impl Read>, path: &str, most: u64) -> Result<Bytes, ArchiveError> {
    if entry.size() > most {
        return Err(content(format!("{path} is too large")));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn json<T: DeserializeOwned>(entry: &mut Entry<'_, impl Read>, path: &str) -> Result<T, ArchiveError> {
    serde_json::from_slice(&bytes(entry, path, MAX_ENTRY)?).map_err(|error| content(format!("{path}: {error}")))
}
