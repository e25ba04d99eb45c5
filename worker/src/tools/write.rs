//! `write_file` and `edit_file`: whole files, and passages of them, in the session's folder.

use super::files::Cancelled;
use super::folder::{Folder, explained, is_binary, read_bounded};
use super::input::Input;
use crate::providers::prompt::ToolDefinition;

/// The most bytes of a file that is written or edited.
const FILE: usize = 4 << 20;

/// `write_file`, as models see it.
pub fn write_definition() -> ToolDefinition {
    ToolDefinition {
        name: "write_file".into(),
        description: "Writes a text file in this session's folder, and makes the folders on the way. Replaces what was \
            there."
            .into(),
        schema: r#"{"type":"object","properties":{"path":{"type":"string","description":"Relative to the session's folder"},"content":{"type":"string"}},"required":["path","content"],"additionalProperties":false}"#.into(),
    }
}

/// `edit_file`, as models see it.
pub fn edit_definition() -> ToolDefinition {
    ToolDefinition {
        name: "edit_file".into(),
        description: "Replaces a passage of a text file in this session's folder. The passage must stand there exactly \
            as given, and only once, unless \"all\" is true."
            .into(),
        schema: r#"{"type":"object","properties":{"path":{"type":"string","description":"Relative to the session's folder"},"old":{"type":"string","description":"The passage, with enough around it to be found only once"},"new":{"type":"string","description":"What stands there instead"},"all":{"type":"boolean","description":"Replace it wherever it stands"}},"required":["path","old","new"],"additionalProperties":false}"#.into(),
    }
}

/// `write_file`.
pub fn write(folder: &Folder, input: &str, _cancelled: &Cancelled) -> Result<String, String> {
    let input = Input::read(input, &["path", "content"])?;
    let (path, content) = (input.needed("path")?, input.needed("content")?);
    within_bounds(content)?;
    folder.write(path, content.as_bytes())?;
    Ok(format!("Wrote {} bytes to \"{path}\".", content.len()))
}

/// `edit_file`.
pub fn edit(folder: &Folder, input: &str, _cancelled: &Cancelled) -> Result<String, String> {
    let input = Input::read(input, &["path", "old", "new", "all"])?;
    let (path, old, new) = (input.needed("path")?, input.needed("old")?, input.needed("new")?);
    if old.is_empty() {
        return Err("\"old\" must not be empty: write_file makes a new file.".to_owned());
    }
    if old == new {
        return Err("\"old\" and \"new\" are the same.".to_owned());
    }
    let (file, size) = folder.read(path)?;
    let (bytes, whole) = read_bounded(file, FILE as u64).map_err(|error| explained(path, &error))?;
    if !whole {
        return Err(format!("\"{path}\" has {size} bytes; the most that can be edited is {FILE}."));
    }
    let text = String::from_utf8(bytes).ok().filter(|text| !is_binary(text.as_bytes()));
    let text = text.ok_or_else(|| format!("\"{path}\" is a binary file, or not UTF-8: it can't be edited as text."))?;
    let count = text.matches(old).count();
    match count {
        0 => return Err(format!("\"{path}\" has no such passage: \"old\" must be exactly as in the file.")),
        1 => {}
        _ if input.flag("all")? => {}
        _ => {
            return Err(format!(
                "The passage stands {count} times in \"{path}\": give more of what is around it, or \"all\": true."
            ));
        }
    }
    let text = text.replace(old, new);
    within_bounds(&text)?;
    folder.write(path, text.as_bytes())?;
    let places = if count == 1 { "one place".to_owned() } else { format!("{count} places") };
    Ok(format!("Changed \"{path}\" in {places}."))
}

fn within_bounds(content: &str) -> Result<(), String> {
    match content.len() {
        0..=FILE => Ok(()),
        size => Err(format!("The file would have {size} bytes; the most is {FILE}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::folder::Folders;

    #[test]
    fn a_passage_is_replaced_only_where_it_is_meant() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folders::new(root.path().join("work")).of(skein_engine::ids::DocumentId::from_bytes([1; 16]));
        let never = Cancelled::default();
        let wrote = write(&folder, r#"{"path":"a/b.txt","content":"one two one"}"#, &never).unwrap();
        assert_eq!(wrote, "Wrote 11 bytes to \"a/b.txt\".");
        let edit = |input: &str| edit(&folder, input, &never);
        for (input, words) in [
            (r#"{"path":"a/b.txt","old":"one","new":"1"}"#, "stands 2 times"),
            (r#"{"path":"a/b.txt","old":"three","new":"3"}"#, "no such passage"),
            (r#"{"path":"a/b.txt","old":"","new":"3"}"#, "must not be empty"),
            (r#"{"path":"a/b.txt","old":"two","new":"two"}"#, "are the same"),
            (r#"{"path":"a/b.txt","old":"two"}"#, "\"new\" is missing"),
            (r#"{"path":"c","old":"a","new":"b"}"#, "There is no \"c\""),
            (r#"{"path":"../c","old":"a","new":"b"}"#, "leads out"),
        ] {
            assert!(edit(input).unwrap_err().contains(words), "{input}: {:?}", edit(input));
        }
        let text = || std::fs::read_to_string(folder.path().join("a/b.txt")).unwrap();
        assert_eq!(text(), "one two one");
        edit(r#"{"path":"a/b.txt","old":"two","new":"2"}"#).unwrap();
        assert_eq!(
            edit(r#"{"path":"a/b.txt","old":"one","new":"1","all":true}"#).unwrap(),
            "Changed \"a/b.txt\" in 2 places."
        );
        assert_eq!(text(), "1 2 1");
        let large = serde_json::json!({ "path": "large", "content": "x".repeat(FILE + 1) }).to_string();
        assert!(write(&folder, &large, &never).unwrap_err().contains("the most is 4194304"));
        folder.write("bin", b"a\0b").unwrap();
        assert!(edit(r#"{"path":"bin","old":"a","new":"b"}"#).unwrap_err().contains("binary"));
    }
}
