//! A whole workspace as one file, and back with nothing changed: its changes as they came, who wrote them, its members
//! without their tokens, its files, what is left of purged sessions, what was read.
//!
//! The file is a tar archive, so that it can be looked into with any tool: `skein.json` ([`Head`]) first, then `blobs/ID`,
//! for each document `writers/SCOPE/ID` (JSON) before `changes/SCOPE/ID` (automerge's chunks, one after the other),
//! `graves/SCOPE/ID`, `firings.json`, `marks.json`, and last `end.json`, without which it is not whole. [`write`] makes it, [`read`] takes
//! it apart, [`restore`] puts it into a running relay, [`serve`] is its two addresses.
//!
//! Invariant: a workspace that comes in is the one that went out: same ids, same hashes, same writers, so same costs. No
//! secret is in it.

mod read;
mod restore;
pub mod serve;
mod write;

use serde::{Deserialize, Serialize};

use crate::accounts::{Member, SavedSeed, Workspace};

/// The version that this relay writes, and the newest that it reads.
const VERSION: u32 = 1;
const HEAD: &str = "skein.json";
const MARKS: &str = "marks.json";
const FIRINGS: &str = "firings.json";
const END: &str = "end.json";

/// What stands first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    /// [`VERSION`].
    version: u32,
    workspace: Workspace,
    /// Former ones too: their messages keep a name.
    members: Vec<Member>,
    /// First changes of the documents that the relay made.
    seeds: Vec<SavedSeed>,
    /// How many there are, for whoever shows progress.
    documents: u64,
    blobs: u64,
}

/// Why an archive can't be taken in.
#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    /// No archive of ours, or cut off.
    #[error("this is no archive of a workspace: {0}")]
    Content(String),
    /// A later version's.
    #[error("this archive is of version {0}, this relay reads version {VERSION}")]
    Version(u32),
    /// The relay's own fault.
    #[error("{0}")]
    Failed(String),
}

impl From<std::io::Error> for ArchiveError {
    fn from(error: std::io::Error) -> Self {
        Self::Content(error.to_string())
    }
}
