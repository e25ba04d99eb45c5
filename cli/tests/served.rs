//! The binary with a relay and the demo model: a whole conversation, and what happens around it.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use support::Home;

#[test]
fn a_conversation_from_the_command_line() {
    let home = Home::new();
    let served = home.serve();
    let id = served.run(&["session", "new", "--message", "hello", "--json"]).json()["id"].as_str().unwrap().to_owned();
    assert_eq!(served.run(&["session", "wait", &id, "--timeout", "60"]).code, 0);
    let shown = served.run(&["session", "show", &id, "--json"]).json();
    assert_eq!(shown["status"], "ACTIVE");
    assert_eq!(shown["turns"][0]["state"], "completed");
    assert_eq!(shown["messages"][1]["role"], "assistant");
    assert!(shown["costMicros"].as_u64().unwrap() > 0);

    // A call that asks.
    assert_eq!(served.run(&["session", "send", &id, "approve"]).code, 0);
    assert_eq!(served.run(&["session", "wait", &id, "--until", "paused", "--timeout", "60"]).code, 0);
    let shown = served.run(&["session", "show", &id, "--json"]).json();
    let parts = shown["messages"].as_array().unwrap().last().unwrap()["parts"].as_array().unwrap().clone();
    let call = parts.iter().find(|part| part["type"] == "tool_call").unwrap();
    assert_eq!(call["state"], "waiting");
    let call = call["id"].as_str().unwrap();
    assert_eq!(served.run(&["session", "deny", &id, call, "--reason", "not now"]).code, 0);
    assert_eq!(served.run(&["session", "wait", &id, "--timeout", "60"]).code, 0);
    let shown = served.run(&["session", "show", &id]).stdout;
    assert!(shown.contains("denied"), "{shown}");
}

#[test]
fn what_was_written_offline_reaches_the_relay_with_a_later_command() {
    let home = Home::new();
    let served = home.serve();
    // Meets the relay once, so that the replica belongs to its workspace.
    assert_eq!(served.run(&["session", "list"]).code, 0);
    let id = served.run(&["session", "new", "--offline", "--message", "from afar", "--json"]).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(served.run_elsewhere(&["session", "show", &id]).code, 1, "nobody else has it yet");
    assert_eq!(served.run(&["session", "wait", &id, "--timeout", "60"]).code, 0);
    let shown = served.run_elsewhere(&["session", "show", &id, "--json"]).json();
    assert_eq!(shown["messages"][0]["parts"][0]["text"], "from afar");
    assert_eq!(shown["messages"][0]["unverified"], false);
}

#[test]
fn a_replica_whose_identity_is_lost_is_still_offered_to_no_other_workspace() {
    let (home, other) = (Home::new(), Home::new());
    let served = home.serve();
    let id = served.run(&["session", "new", "--message", "ours", "--json"]).json()["id"].as_str().unwrap().to_owned();
    std::fs::write(home.path("replica/identity"), "not what it was").unwrap();
    let elsewhere = other.serve();
    let refused = elsewhere.run_with(&["session", "list"], home.path("replica").to_str().unwrap());
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("another workspace"), "{refused:?}");
    assert_eq!(elsewhere.run(&["session", "show", &id]).code, 1, "it has it now");
    // Its own relay takes it back.
    assert_eq!(served.run(&["session", "show", &id]).code, 0);
}

#[test]
fn a_conversation_can_be_read_when_the_relay_is_gone() {
    let home = Home::new();
    let served = home.serve();
    let id = served.run(&["session", "new", "--message", "hello", "--json"]).json()["id"].as_str().unwrap().to_owned();
    assert_eq!(served.run(&["session", "wait", &id, "--timeout", "60"]).code, 0);
    let before = served.run(&["session", "show", &id, "--json"]).json();
    let after = served.stop().run(&["session", "show", &id, "--json"]);
    assert_eq!(after.code, 0, "{after:?}");
    assert!(after.stderr.contains("offline"), "{after:?}");
    let after = after.json();
    assert_eq!(after["messages"], before["messages"]);
    assert_eq!(after["turns"], before["turns"]);
}

#[test]
fn a_wrong_token_is_one_clear_line() {
    let home = Home::new();
    let served = home.serve();
    let run = served.run(&["session", "list", "--token", "wrong"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.starts_with("wrong token"), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
}

#[test]
fn a_replica_of_another_workspace_is_refused() {
    let (home, other) = (Home::new(), Home::new());
    let (served, another) = (home.serve(), other.serve());
    assert_eq!(served.run(&["session", "list"]).code, 0);
    let replica = home.path("replica");
    let run = another.run(&["session", "list", "--data", replica.to_str().unwrap()]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("another workspace"), "{run:?}");
}

#[test]
fn the_token_that_serve_leaves_is_found_and_nobody_else_may_read_it() {
    let home = Home::new();
    let served = home.serve();
    let run = served.run_by_default(&["session", "list"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    let token = home.path("state/skein/tokens").join(&served.address);
    let workspace = std::fs::read_to_string(format!("{}.workspace", token.display())).unwrap();
    assert!(home.path("share/skein/replica").join(workspace.trim()).is_dir());
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&token.metadata().unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let home = Home::new();
    let served = home.serve();
    let run = Home::new().run(&["serve", "--data", "other", "--listen", &served.address]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("in use"), "{run:?}");
}

#[test]
fn sigterm_ends_a_server_cleanly() {
    let home = Home::new();
    assert_eq!(home.serve().terminate(), Some(0));
}

#[test]
fn an_export_comes_in_elsewhere_with_its_files_and_without_its_costs() {
    let (home, other) = (Home::new(), Home::new());
    let served = home.serve();
    std::fs::write(home.path("notes.txt"), "a note").unwrap();
    let id =
        served.run(&["session", "new", "--name", "To go", "--message", "please use a tool"]).stdout.trim().to_owned();
    assert_eq!(served.run(&["session", "wait", &id, "--timeout", "30"]).code, 0);
    let file = home.path("notes.txt");
    assert_eq!(served.run(&["session", "send", &id, "and this", "--attach", file.to_str().unwrap()]).code, 0);
    assert_eq!(served.run(&["session", "wait", &id, "--timeout", "30"]).code, 0);
    let exported = served.run(&["session", "export", &id, "--format", "json"]);
    assert_eq!(exported.code, 0, "{exported:?}");
    std::fs::write(other.path("session.json"), &exported.stdout).unwrap();
    drop(served);

    let there = other.serve();
    let imported = there.run(&["session", "import", "session.json", "--json"]);
    assert_eq!(imported.code, 0, "{imported:?}");
    let copy = imported.json()["id"].as_str().unwrap().to_owned();
    let (before, after) = (exported.json(), there.run(&["session", "show", &copy, "--json"]).json());
    let said = |session: &serde_json::Value| {
        let messages = session["messages"].as_array().unwrap().iter();
        messages.map(|message| (message["id"].clone(), message["parts"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(said(&after), said(&before));
    assert!(said(&after).len() >= 4, "{after}");
    assert_eq!((&after["name"], &after["status"]), (&"To go".into(), &"ACTIVE".into()));
    assert_eq!((&after["costMicros"], &after["turns"][0]["inherited"]), (&0.into(), &true.into()), "{after}");
    assert_eq!(after["turns"][0]["usage"], before["turns"][0]["usage"]);
    let again = there.run_elsewhere(&["session", "export", &copy, "--format", "json"]).json();
    let notes = again["export"]["blobs"].as_object().unwrap();
    assert!(notes.values().any(|content| content == "YSBub3Rl"), "the file came along: {notes:?}");

    std::fs::write(other.path("odd.json"), "{\"export\": 7}").unwrap();
    for wrong in ["odd.json", "missing.json", "skein.toml"] {
        let run = there.run(&["session", "import", wrong]);
        assert_eq!((run.code, run.stderr.lines().count()), (1, 1), "{run:?}");
    }
}
