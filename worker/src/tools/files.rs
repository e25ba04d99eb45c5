//! Tools on the files of a session's folder: one shape for all of them, off the threads that sessions share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::Dir;

use super::folder::Folder;
use super::{Outcome, Output, Policy, Running, Tool};
use crate::providers::prompt::ToolDefinition;

/// What one of them does: an input becomes words for the model, or an error in words for it.
pub type Work = fn(&Folder, &str, &Cancelled) -> Result<String, String>;

/// A tool on files.
pub struct OnFiles {
    /// As models see it.
    pub definition: fn() -> ToolDefinition,
    /// What it does. May block.
    pub work: Work,
    /// Whether it changes nothing.
    pub reads: bool,
    /// Where.
    pub folder: Folder,
}

/// Becomes true when nobody waits for the result any more.
#[derive(Clone, Debug, Default)]
pub struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// Whether to stop.
    pub fn now(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn by_now() -> Self {
        Self(Arc::new(true.into()))
    }
}

/// Cancels when it is dropped.
struct Waiting(Cancelled);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Tool for OnFiles {
    fn definition(&self) -> ToolDefinition {
        (self.definition)()
    }

    /// They reach the session's folder only, and those that write are off unless the operator lists them.
    fn policy(&self) -> Policy {
        Policy::Allow
    }

    fn is_read_only(&self) -> bool {
        self.reads
    }

    fn run<'a>(&'a self, input: &'a str, _output: &'a Output) -> Running<'a> {
        let (work, folder, input) = (self.work, self.folder.clone(), input.to_owned());
        Box::pin(async move {
            let waiting = Waiting(Cancelled::default());
            let cancelled = waiting.0.clone();
            match tokio::task::spawn_blocking(move || work(&folder, &input, &cancelled)).await {
                Ok(done) => done.map_or_else(Outcome::error, Outcome::ok),
                Err(error) => {
                    tracing::error!(%error, "a tool ended badly");
                    Outcome::error("The tool failed: this is a fault of the worker.")
                }
            }
        })
    }
}

/// What stands in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the session's folder.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A plain file, of so many bytes.
    File(u64),
    /// A symbolic link; never followed.
    Link,
    /// A pipe, a socket or a device.
    Other,
}

/// What stands in one folder, by name. Names that aren't Unicode are shown with signs in place of what isn't.
pub fn entries(dir: &Dir, path: &str) -> std::io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in dir.read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if path == "." { name } else { format!("{}/{name}", path.trim_end_matches('/')) };
        let kind = match entry.file_type()? {
            kind if kind.is_dir() => EntryKind::Folder,
            kind if kind.is_symlink() => EntryKind::Link,
            // It may be gone by now.
            kind if kind.is_file() => EntryKind::File(entry.metadata().map_or(0, |metadata| metadata.len())),
            _ => EntryKind::Other,
        };
        found.push(Entry { path, kind });
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Cuts a text to so many bytes at most, between characters.
pub fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}
