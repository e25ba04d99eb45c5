//! A server's tool ↔ a name that every provider takes: 1 to 64 characters of `a-zA-Z0-9_-`, another one for each tool of
//! each server, and the same in every run, whatever else is offered.

use sha2::{Digest, Sha256};

/// The longest name that providers take.
const MOST: usize = 64;

/// As a model calls a tool. Where letters have to go, or two tools could come to the same, a digest tells them apart.
pub fn model_name(server: &str, tool: &str) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect()
    };
    let (plain_server, plain_tool) = (plain(server), plain(tool));
    let name = format!("{plain_server}__{plain_tool}");
    let clear = plain_server == server && plain_tool == tool && !server.contains("__") && !tool.starts_with('_');
    if clear && !server.ends_with('_') && name.len() <= MOST {
        return name;
    }
    let digest = Sha256::digest(format!("{server}\0{tool}"));
    let digest: String = digest[..5].iter().map(|byte| format!("{byte:02x}")).collect();
    let room = MOST - digest.len() - 1;
    format!("{}_{digest}", &name[..name.len().min(room)])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_what_providers_take_and_no_two_tools_have_the_same() {
        assert_eq!(model_name("files", "read_file"), "files__read_file");
        let long = "x".repeat(100);
        let tools = [
            ("files", "read_file"),
            ("files", "read.file"),
            ("files", "read file"),
            ("files", "größe"),
            ("a", "b__c"),
            ("a__b", "c"),
            ("a_", "_b"),
            ("a", "__b"),
            ("a__", "b"),
            ("other", "read_file"),
            ("files", long.as_str()),
            ("files", &long[1..]),
            (long.as_str(), "read_file"),
        ];
        let names: BTreeSet<String> = tools.iter().map(|(server, tool)| model_name(server, tool)).collect();
        assert_eq!(names.len(), tools.len(), "{names:?}");
        for name in names {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            assert!((1..=MOST).contains(&name.len()) && name.chars().all(fits), "{name}");
        }
    }
}
