//! `list_files`: what stands in the session's folder.

use super::files::{Cancelled, EntryKind, entries};
use super::folder::{Folder, explained};
use super::input::Input;
use crate::providers::prompt::ToolDefinition;

/// The most entries of an answer, and bytes of it.
const ENTRIES: usize = 1_000;
const ANSWER: usize = 30_000;

/// As models see it.
pub fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "list_files".into(),
        description: "Lists the files of this session's folder, or of a folder in it, with their sizes in bytes.".into(),
        schema: r#"{"type":"object","properties":{"path":{"type":"string","description":"Relative to the session's folder; default: all of it"},"depth":{"type":"integer","minimum":1,"maximum":20,"description":"How many folders deep; default 3"}},"additionalProperties":false}"#.into(),
    }
}

/// See the module.
pub fn work(folder: &Folder, input: &str, cancelled: &Cancelled) -> Result<String, String> {
    let input = Input::read(input, &["path", "depth"])?;
    let path = folder.relative(input.text("path")?.unwrap_or("."))?;
    let depth = input.number("depth", 1..=20)?.unwrap_or(3);
    let dir = folder.open()?;
    let first = entries(&dir, path).map_err(|error| explained(path, &error))?;
    // The next to be shown is the last.
    let mut waiting: Vec<_> = first.into_iter().rev().map(|entry| (entry, 1)).collect();
    let (mut lines, mut bytes) = (Vec::new(), 0);
    while let Some((entry, at)) = waiting.pop() {
        if lines.len() == ENTRIES || bytes > ANSWER || cancelled.now() {
            lines.push(format!("[there is more: list \"{}\" and what follows by itself]", entry.path));
            break;
        }
        let line = match entry.kind {
            EntryKind::Folder => format!("{}/", entry.path),
            EntryKind::File(size) => format!("{} {size}", entry.path),
            EntryKind::Link => format!("{} (link)", entry.path),
            EntryKind::Other => format!("{} (no plain file)", entry.path),
        };
        bytes += line.len() + 1;
        lines.push(line);
        if entry.kind == EntryKind::Folder && at < depth {
            // One that can't be read, or is gone by now, is shown by its name alone.
            let within = entries(&dir, &entry.path).unwrap_or_default();
            waiting.extend(within.into_iter().rev().map(|entry| (entry, at + 1)));
        }
    }
    Ok(if lines.is_empty() { "[no files]".to_owned() } else { lines.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::folder::Folders;

    #[test]
    fn files_are_listed_in_order_as_deep_as_asked_and_never_outside() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folders::new(root.path().join("work")).of(skein_engine::ids::DocumentId::from_bytes([1; 16]));
        let list = |input: &str| work(&folder, input, &Cancelled::default());
        assert_eq!(list("").unwrap(), "[no files]");
        folder.write("b.txt", b"12345").unwrap();
        folder.write("a/x/y.txt", b"1").unwrap();
        folder.write("a/z.txt", b"").unwrap();
        assert_eq!(list("{}").unwrap(), "a/\na/x/\na/x/y.txt 1\na/z.txt 0\nb.txt 5");
        assert_eq!(list(r#"{"depth":1}"#).unwrap(), "a/\nb.txt 5");
        assert_eq!(list(r#"{"path":"a/","depth":1}"#).unwrap(), "a/x/\na/z.txt 0");
        assert!(list(r#"{"path":".."}"#).unwrap_err().contains("leads out"));
        assert!(list(r#"{"path":"/etc"}"#).unwrap_err().contains("leads out"));
        assert!(list(r#"{"path":"b.txt"}"#).unwrap_err().contains("no folder"));
        assert!(list(r#"{"depth":21}"#).unwrap_err().contains("from 1 to 20"));
        for n in 0..1_500 {
            folder.write(&format!("many/{n:04}"), b"").unwrap();
        }
        let many = list(r#"{"path":"many"}"#).unwrap();
        assert!(many.ends_with("[there is more: list \"many/1000\" and what follows by itself]"), "{many}");
    }
}
