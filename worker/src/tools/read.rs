//! `read_file`: the text of a file, or some of its lines.

use super::files::{Cancelled, cut};
use super::folder::{Folder, explained, is_binary, read_bounded};
use super::input::Input;
use crate::providers::prompt::ToolDefinition;

/// The most bytes that are looked at.
const FILE: u64 = 16 << 20;
/// The most bytes of text in an answer: a result of this size stands in the document as a whole.
const ANSWER: usize = 30_000;

/// As models see it.
pub fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "read_file".into(),
        description: "Reads a text file of this session's folder. Long files come in pieces: the answer says with which \
            line to go on."
            .into(),
        schema: r#"{"type":"object","properties":{"path":{"type":"string","description":"Relative to the session's folder"},"from":{"type":"integer","minimum":1,"description":"First line, counted from 1"},"lines":{"type":"integer","minimum":1,"maximum":100000,"description":"How many lines; default: as many as fit"}},"required":["path"],"additionalProperties":false}"#.into(),
    }
}

/// See the module.
pub fn work(folder: &Folder, input: &str, _cancelled: &Cancelled) -> Result<String, String> {
    let input = Input::read(input, &["path", "from", "lines"])?;
    let path = input.needed("path")?;
    let from = input.number("from", 1..=u64::from(u32::MAX))?.unwrap_or(1);
    let most = input.number("lines", 1..=100_000)?;
    let (file, size) = folder.read(path)?;
    let (bytes, whole) = read_bounded(file, FILE).map_err(|error| explained(path, &error))?;
    if is_binary(&bytes) {
        return Ok(format!("[\"{path}\" is a binary file of {size} bytes: its content is not shown]"));
    }
    let text = String::from_utf8_lossy(&bytes);
    let all = text.lines().count() as u64;
    let beyond = if whole { "" } else { ", of the first 16 MiB of the file" };
    if from > all.max(1) {
        return Err(format!("\"{path}\" has {all} lines{beyond}: there is no line {from}."));
    }
    let mut shown = String::new();
    let mut count = 0;
    let wanted = most.unwrap_or(u64::MAX);
    for line in text.split_inclusive('\n').skip(usize::try_from(from - 1).unwrap_or(usize::MAX)) {
        if count == wanted {
            break;
        }
        if shown.len() + line.len() > ANSWER {
            if count == 0 {
                shown.push_str(cut(line, ANSWER));
                shown.push_str(&format!("\n[line {from} has {} bytes: the rest of it is not shown]\n", line.len()));
                count = 1;
            }
            break;
        }
        shown.push_str(line);
        count += 1;
    }
    let last = from + count - count.min(1);
    if last < all || !whole {
        let gap = if shown.ends_with('\n') { "" } else { "\n" };
        shown.push_str(&format!("{gap}[lines {from} to {last} of {all}{beyond}; go on with \"from\": {}]", last + 1));
    }
    Ok(if shown.is_empty() { format!("[\"{path}\" is empty]") } else { shown })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::folder::Folders;

    #[test]
    fn a_long_file_comes_in_pieces_that_join_to_the_whole() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folders::new(root.path().into()).of(skein_engine::ids::DocumentId::from_bytes([1; 16]));
        let text: String = (1..=5_000).map(|n| format!("line {n} with é\n")).collect();
        folder.write("long.txt", text.as_bytes()).unwrap();
        let (mut joined, mut from) = (String::new(), 1);
        loop {
            let input = format!(r#"{{"path":"long.txt","from":{from}}}"#);
            let piece = work(&folder, &input, &Cancelled::default()).unwrap();
            assert!(piece.len() < 32 << 10);
            let Some((lines, note)) = piece.split_once("[lines ") else {
                joined.push_str(&piece);
                break;
            };
            joined.push_str(lines);
            from = note.trim_end_matches(']').rsplit(' ').next().unwrap().parse().unwrap();
        }
        assert_eq!(joined, text);
        let two = work(&folder, r#"{"path":"long.txt","from":10,"lines":2}"#, &Cancelled::default()).unwrap();
        assert!(two.starts_with("line 10 with é\nline 11 with é\n[lines 10 to 11 of 5000;"), "{two}");
        let beyond = work(&folder, r#"{"path":"long.txt","from":9999}"#, &Cancelled::default()).unwrap_err();
        assert!(beyond.contains("has 5000 lines"), "{beyond}");
    }

    #[test]
    fn binary_huge_and_empty_files_are_said_to_be_so() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folders::new(root.path().into()).of(skein_engine::ids::DocumentId::from_bytes([1; 16]));
        folder.write("picture", b"\x89PNG\0\0").unwrap();
        folder.write("empty", b"").unwrap();
        folder.write("one-line", "é".repeat(40_000).as_bytes()).unwrap();
        folder.write("huge", b"words\n").unwrap();
        let huge = std::fs::OpenOptions::new().write(true).open(folder.path().join("huge")).unwrap();
        huge.set_len(1 << 40).unwrap();
        let read = |path: &str| work(&folder, &format!(r#"{{"path":"{path}"}}"#), &Cancelled::default()).unwrap();
        assert_eq!(read("picture"), "[\"picture\" is a binary file of 6 bytes: its content is not shown]");
        assert_eq!(read("empty"), "[\"empty\" is empty]");
        assert!(read("one-line").contains("[line 1 has 80000 bytes"), "{}", read("one-line").len());
        assert!(read("huge").contains("binary file of 1099511627776 bytes"), "{}", read("huge"));
    }
}
