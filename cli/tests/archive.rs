//! A whole workspace as a file, and on another relay with nothing changed.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use support::{Home, Run};

fn done(run: Run) -> Run {
    assert_eq!(run.code, 0, "{run:?}");
    run
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// What is in an archive, by path.
fn entries(file: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(file).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (path, bytes)
    });
    entries.collect()
}

#[test]
fn a_workspace_moves_to_another_relay_with_nothing_changed() {
    let (home, other) = (Home::new(), Home::new());
    let served = home.serve();
    let new = |message: &str| {
        let id = text(&done(served.run(&["session", "new", "--message", message, "--json"])).json()["id"]);
        done(served.run(&["session", "wait", &id, "--timeout", "30"]));
        id
    };
    let (kept, gone) = (new("please use a tool"), new("to be purged"));
    std::fs::write(home.path("notes.txt"), "a note").unwrap();
    let file = home.path("notes.txt");
    done(served.run(&["session", "send", &kept, "and this", "--attach", file.to_str().unwrap()]));
    done(served.run(&["session", "wait", &kept, "--timeout", "30"]));
    done(served.run(&["session", "read", &kept]));
    done(served.run(&["member", "add", "Bob", "--json"]));
    done(served.run(&["session", "delete", &gone]));
    done(served.run(&["session", "purge", &gone]));
    let show = ["session", "show", &kept, "--json"];
    let before = done(served.run(&show)).json();
    let archive = home.path("home.tar");
    let exported = done(served.run(&["workspace", "export", archive.to_str().unwrap()]));
    assert!(exported.stdout.is_empty() && exported.stderr.contains("home.tar"), "{exported:?}");
    let inside = entries(&archive);
    let secrets = std::fs::read_to_string(home.path("data/accounts.json")).unwrap();
    let secrets: Value = serde_json::from_str(&secrets).unwrap();
    let all = inside.values().flatten().copied().collect::<Vec<u8>>();
    for token in secrets["tokens"].as_array().unwrap() {
        let hash = text(&token["hash"]);
        assert!(!all.windows(hash.len()).any(|part| part == hash.as_bytes()), "no secret is in it");
    }
    drop(served);

    let there = other.serve();
    let import = ["workspace", "import", archive.to_str().unwrap(), "--json"];
    let imported = done(there.run(&import)).json();
    assert_eq!((&imported["leftOut"], &imported["name"]), (&json!(0), &json!("Skein 2")), "{imported}");
    let token = text(&imported["token"]);
    let owner = |arguments: &[&str]| there.run_as(&token, "moved", arguments);
    let mut after = done(owner(&show)).json();
    after["unread"] = before["unread"].clone();
    assert_eq!(after, before);
    assert!(before["costMicros"].as_u64().unwrap() > 0 && before["turns"].as_array().unwrap().len() == 2);
    let list = done(owner(&["session", "list", "--json"])).json();
    assert_eq!(list.as_array().unwrap().len(), 1, "a purged session stays gone: {list}");
    assert_eq!(list[0]["unread"], false, "what was read stays read");
    let members = done(owner(&["member", "list", "--json"])).json();
    assert_eq!(members.as_array().unwrap().len(), 2, "{members}");

    // Once more changes nothing, and what leaves is what came.
    assert_eq!(done(there.run(&import)).json()["id"], imported["id"]);
    let again = other.path("again.tar");
    done(owner(&["workspace", "export", again.to_str().unwrap()]));
    let back = entries(&again);
    let lasting = |path: &&String| !["skein.json"].contains(&path.as_str());
    assert_eq!(back.keys().filter(lasting).collect::<Vec<_>>(), inside.keys().filter(lasting).collect::<Vec<_>>());
    for (path, bytes) in inside.iter().filter(|(path, _)| lasting(path)) {
        if path.starts_with("writers/") {
            let rows = |bytes: &[u8]| {
                let mut rows: Vec<Value> = serde_json::from_slice(bytes).unwrap();
                rows.sort_by_key(Value::to_string);
                rows
            };
            assert_eq!(rows(bytes), rows(&back[path]), "{path}");
        } else {
            assert!(bytes == &back[path], "{path} has changed");
        }
    }
    // A conversation goes on there, by its own worker.
    done(owner(&["session", "send", &kept, "are you there?"]));
    let waits = done(owner(&["session", "show", &kept, "--json"])).json();
    assert!(waits["messages"].as_array().unwrap().len() > before["messages"].as_array().unwrap().len());
}

#[test]
fn what_is_no_archive_or_is_damaged_is_refused_before_anything_is_written() {
    let home = Home::new();
    let served = home.serve();
    done(served.run(&["session", "new", "--message", "hello"]));
    let archive = home.path("home.tar");
    done(served.run(&["workspace", "export", archive.to_str().unwrap()]));
    let whole = std::fs::read(&archive).unwrap();
    let mut flipped = whole.clone();
    let changes = whole.windows(4).position(|bytes| bytes == [0x85, 0x6f, 0x4a, 0x83]).unwrap();
    flipped[changes + 20] ^= 1;
    let cut = whole[..whole.len() / 2].to_vec();
    for (wrong, word) in [(cut, ""), (flipped, "damaged"), (b"hello".to_vec(), "no archive"), (Vec::new(), "cut off")] {
        let file = home.path("wrong.tar");
        std::fs::write(&file, wrong).unwrap();
        let run = served.run(&["workspace", "import", file.to_str().unwrap()]);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.lines().count()), (1, "", 1), "{run:?}");
        assert!(run.stderr.contains("no archive of a workspace") && run.stderr.contains(word), "{run:?}");
    }
    let workspaces = done(served.run(&["workspace", "list", "--json"])).json();
    assert_eq!(workspaces.as_array().unwrap().len(), 1);
    let member = text(&done(served.run(&["member", "add", "Bob", "--json"])).json()["token"]);
    let refused = served.run_as(&member, "bob", &["workspace", "export", "mine.tar"]);
    assert_eq!((refused.code, refused.stderr.as_str()), (1, "only an owner may do this\n"));
    assert!(!home.path("mine.tar").exists());
}
