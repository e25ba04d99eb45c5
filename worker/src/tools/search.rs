//! `search_files`: lines of the session's files that match.

use std::path::Path;
use std::time::{Duration, Instant};

use regex::bytes::RegexBuilder;

use super::files::{Cancelled, EntryKind, cut, entries};
use super::folder::{Folder, explained, is_binary, open_plain, read_bounded};
use super::input::Input;
use crate::providers::prompt::ToolDefinition;

/// The most bytes that are looked at in one file, and in all.
const FILE: u64 = 4 << 20;
const ALL: u64 = 256 << 20;
/// The most entries that are looked at.
const ENTRIES: usize = 50_000;
/// How long it may take.
const TIME: Duration = Duration::from_secs(20);
/// The most bytes of one line, and of the answer.
const LINE: usize = 300;
const ANSWER: usize = 30_000;

/// As models see it.
pub fn definition() -> ToolDefinition {
    ToolDefinition {
        name: "search_files".into(),
        description: "Finds lines in the text files of this session's folder. Answers with path:line: text. Passes over \
            .git, node_modules and binary files."
            .into(),
        schema: r#"{"type":"object","properties":{"pattern":{"type":"string","description":"A regular expression (RE2 syntax)"},"literal":{"type":"boolean","description":"Take the pattern word for word"},"ignore_case":{"type":"boolean"},"path":{"type":"string","description":"A file or folder; default: all of the session's folder"},"ending":{"type":"string","description":"Only files whose names end so, as in .rs"},"limit":{"type":"integer","minimum":1,"maximum":500,"description":"Most lines; default 100"}},"required":["pattern"],"additionalProperties":false}"#.into(),
    }
}

/// See the module.
pub fn work(folder: &Folder, input: &str, cancelled: &Cancelled) -> Result<String, String> {
    let input = Input::read(input, &["pattern", "literal", "ignore_case", "path", "ending", "limit"])?;
    let pattern = match input.needed("pattern")? {
        "" => return Err("\"pattern\" must not be empty.".to_owned()),
        pattern if input.flag("literal")? => regex::escape(pattern),
        pattern => pattern.to_owned(),
    };
    let built = RegexBuilder::new(&pattern).case_insensitive(input.flag("ignore_case")?).size_limit(1 << 20).build();
    let wanted = built.map_err(|error| format!("\"pattern\" can't be used: {error}"))?;
    let ending = input.text("ending")?.unwrap_or_default();
    let limit = input.number("limit", 1..=500)?.unwrap_or(100);
    let path = folder.relative(input.text("path")?.unwrap_or("."))?;
    let dir = folder.open()?;
    let kind = dir.metadata(path).map_err(|error| explained(path, &error))?;
    let mut waiting = if kind.is_dir() {
        entries(&dir, path).map_err(|error| explained(path, &error))?
    } else {
        vec![super::files::Entry { path: path.to_owned(), kind: EntryKind::File(kind.len()) }]
    };
    waiting.reverse();
    let (began, mut looked_at, mut bytes_read) = (Instant::now(), 0, 0);
    let (mut found, mut size, mut rest) = (Vec::new(), 0, None);
    'files: while let Some(entry) = waiting.pop() {
        looked_at += 1;
        if cancelled.now() || looked_at > ENTRIES || bytes_read > ALL || began.elapsed() > TIME {
            rest = Some(format!("[not all was searched: the search stopped before \"{}\"]", entry.path));
            break;
        }
        match entry.kind {
            EntryKind::Folder if !passed_over(&entry.path) => {
                waiting.extend(entries(&dir, &entry.path).unwrap_or_default().into_iter().rev());
            }
            EntryKind::File(_) if entry.path.ends_with(ending) => {
                // One that is gone by now has no lines.
                let Ok((file, _)) = open_plain(&dir, Path::new(&entry.path)) else { continue };
                let Ok((bytes, _)) = read_bounded(file, FILE) else { continue };
                bytes_read += bytes.len() as u64;
                if is_binary(&bytes) {
                    continue;
                }
                for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
                    if !wanted.is_match(line) {
                        continue;
                    }
                    if found.len() as u64 == limit || size > ANSWER {
                        rest = Some("[there are more: narrow the search]".to_owned());
                        break 'files;
                    }
                    let text = String::from_utf8_lossy(line);
                    let line = format!("{}:{}: {}", entry.path, index + 1, cut(text.trim_end(), LINE));
                    size += line.len() + 1;
                    found.push(line);
                }
            }
            _ => {}
        }
    }
    if found.is_empty() && rest.is_none() {
        return Ok("[nothing found]".to_owned());
    }
    found.extend(rest);
    Ok(found.join("\n"))
}

fn passed_over(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(name, ".git" | "node_modules")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::folder::Folders;

    #[test]
    fn lines_are_found_by_pattern_word_and_ending() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folders::new(root.path().join("work")).of(skein_engine::ids::DocumentId::from_bytes([1; 16]));
        let search = |input: &str| work(&folder, input, &Cancelled::default());
        folder.write("a.rs", "fn one() {}\n// Größe\nfn two() {}\n".as_bytes()).unwrap();
        folder.write("b/c.txt", b"one\nf(x)\n").unwrap();
        folder.write(".git/one", b"one").unwrap();
        folder.write("bin", b"one\0").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc", folder.path().join("etc")).unwrap();
        assert_eq!(search(r#"{"pattern":"fn \\w+"}"#).unwrap(), "a.rs:1: fn one() {}\na.rs:3: fn two() {}");
        assert_eq!(search(r#"{"pattern":"one"}"#).unwrap(), "a.rs:1: fn one() {}\nb/c.txt:1: one");
        assert_eq!(search(r#"{"pattern":"f(x)","literal":true}"#).unwrap(), "b/c.txt:2: f(x)");
        assert_eq!(search(r#"{"pattern":"GRÖSSE|GRÖßE","ignore_case":true}"#).unwrap(), "a.rs:2: // Größe");
        assert_eq!(search(r#"{"pattern":"one","ending":".txt"}"#).unwrap(), "b/c.txt:1: one");
        assert_eq!(search(r#"{"pattern":"one","path":"a.rs"}"#).unwrap(), "a.rs:1: fn one() {}");
        assert_eq!(search(r#"{"pattern":"root:"}"#).unwrap(), "[nothing found]");
        assert!(search(r#"{"pattern":"one","limit":1}"#).unwrap().ends_with("[there are more: narrow the search]"));
        for (input, words) in [
            (r#"{"pattern":"("}"#, "can't be used"),
            (r#"{"pattern":"(a{1000}){1000}"}"#, "can't be used"),
            (r#"{"pattern":""}"#, "must not be empty"),
            (r#"{"pattern":"x","path":"../.."}"#, "leads out"),
            (r#"{"pattern":"x","path":"etc/passwd"}"#, "leads out"),
        ] {
            assert!(search(input).unwrap_err().contains(words), "{input}: {:?}", search(input));
        }
    }

    #[test]
    fn a_search_that_nobody_waits_for_stops() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folders::new(root.path().join("work")).of(skein_engine::ids::DocumentId::from_bytes([1; 16]));
        folder.write("a", b"x").unwrap();
        let cancelled = Cancelled::by_now();
        assert!(work(&folder, r#"{"pattern":"x"}"#, &cancelled).unwrap().contains("stopped before \"a\""));
    }
}
