//! The binary without a relay: a replica of its own, honest about it, with the contract's exit codes.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::io::Read;

use support::Home;

#[test]
fn a_session_made_without_a_relay_is_listed_and_shown() {
    let home = Home::new();
    let made = home.run(&["session", "new", "--name", "First", "--message", "hello", "--json"]);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.stderr.contains("offline"), "it says that it works offline: {made:?}");
    let id = made.json()["id"].as_str().unwrap().to_owned();

    let listed = home.run(&["session", "list", "--json"]).json();
    assert_eq!(listed[0]["id"], id.as_str());
    assert_eq!(listed[0]["name"], "First");
    assert_eq!(listed[0]["nameSource"], "user");
    assert_eq!(listed[0]["status"], "ACTIVE");
    assert_eq!(listed[0]["queued"]["count"], 1);

    let shown = home.run(&["session", "show", &id, "--json"]).json();
    assert_eq!(shown["messages"][0]["role"], "user");
    assert_eq!(shown["messages"][0]["parts"][0]["type"], "text");
    assert_eq!(shown["messages"][0]["parts"][0]["text"], "hello");
    assert_eq!(shown["turns"].as_array().unwrap().len(), 0);
}

#[test]
fn what_one_command_writes_the_next_one_sees() {
    let home = Home::new();
    let id = home.new_session();
    for arguments in [
        &["session", "send", &id, "second"][..],
        &["session", "rename", &id, "A better name"],
        &["session", "archive", &id],
    ] {
        let run = home.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
    }
    assert_eq!(home.run(&["session", "list", "--json"]).json().as_array().unwrap().len(), 0);
    let archived = home.run(&["session", "list", "--archived", "--json"]).json();
    assert_eq!((&archived[0]["name"], &archived[0]["status"]), (&"A better name".into(), &"ARCHIVED".into()));
    assert_eq!(archived[0]["beneath"], "ACTIVE");

    assert_eq!(home.run(&["session", "restore", &id]).code, 0);
    let shown = home.run(&["session", "show", &id]);
    assert!(shown.stdout.contains("A better name") && shown.stdout.contains("second"), "{shown:?}");
}

#[test]
fn a_queued_message_can_be_taken_back() {
    let home = Home::new();
    let id = home.new_session();
    let message = home.run(&["session", "send", &id, "by mistake"]).stdout.trim().to_owned();
    assert_eq!(message.len(), 22);
    assert_eq!(home.run(&["session", "remove", &id, &message]).code, 0);
    assert!(!home.run(&["session", "show", &id]).stdout.contains("by mistake"));
}

#[test]
fn several_commands_at_once_lose_nothing() {
    let home = Home::new();
    let id = home.new_session();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (home, id) = (&home, &id);
            scope.spawn(move || assert_eq!(home.run(&["session", "send", id, &format!("message {number}")]).code, 0));
        }
    });
    let shown = home.run(&["session", "show", &id]).stdout;
    assert!((0..6).all(|number| shown.contains(&format!("message {number}"))), "{shown}");
}

#[test]
fn tail_shows_what_another_command_writes_and_ends_when_nobody_reads() {
    let home = Home::new();
    let id = home.new_session();
    let mut tail = home.spawn(&["session", "tail", &id]);
    let mut shown = tail.stdout.take().unwrap();
    // No line ends while an answer may still grow.
    let mut until = |words: &str| {
        let mut read = Vec::new();
        while !read.ends_with(words.as_bytes()) {
            let mut byte = [0];
            shown.read_exact(&mut byte).unwrap();
            read.push(byte[0]);
        }
    };
    until("hello");
    assert_eq!(home.run(&["session", "send", &id, "from the other terminal"]).code, 0);
    until("from the other terminal");
    drop(shown);
    assert_eq!(home.run(&["session", "send", &id, "into a closed pipe"]).code, 0);
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}

#[test]
fn names_of_others_do_not_reach_the_terminal_as_commands() {
    let home = Home::new();
    let id = home.new_session();
    assert_eq!(home.run(&["session", "send", &id, "a\u{1b}[2Jb\u{202e}c"]).code, 0);
    let shown = home.run(&["session", "show", &id]).stdout;
    assert!(shown.contains("a[2Jbc"), "{shown}");
    let wrong = home.run(&["session", "show", "\u{1b}[2J"]).stderr;
    assert!(!wrong.contains('\u{1b}'), "{wrong}");
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    let home = Home::new();
    let id = home.new_session();
    for (arguments, code) in [
        (&["session", "list"][..], 0),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["session", "show", "nothing"], 1),
        (&["session", "show", "2bcYvvzc4P7V9UEnhsA19koR3NqJ"], 1),
        (&["session", "pause", &id], 1),
        (&["session", "rename", &id, ""], 1),
        (&["session", "send", &id, ""], 1),
        (&["session", "approve", &id, "nothing"], 1),
        (&[], 2),
        (&["session"], 2),
        (&["session", "send", &id], 2),
        (&["session", "wait", &id, "--until", "whatever"], 2),
        (&["session", "wait", &id, "--timeout", "-1"], 2),
        (&["session", "wait", &id, "--timeout", "0.3"], 3),
        (&["worker"], 2),
        (&["serve", "--config", "missing.toml"], 1),
    ] {
        let run = home.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {run:?}");
        let errors: Vec<&str> = run.stderr.lines().filter(|line| !line.starts_with("offline")).collect();
        assert_eq!(errors.len(), usize::from(code != 0), "one line that says why: {arguments:?}: {run:?}");
    }
}

#[test]
fn what_is_exported_is_the_conversation() {
    let home = Home::new();
    let id = home.new_session();
    let markdown = home.run(&["session", "export", &id]).stdout;
    assert!(markdown.starts_with("# ") && markdown.contains("hello"), "{markdown}");
    let json = home.run(&["session", "export", &id, "--format", "json"]).json();
    assert_eq!(json["messages"][0]["parts"][0]["text"], "hello");
}

#[test]
fn a_typo_in_the_settings_is_one_line_with_the_nearest_key() {
    let home = Home::new();
    std::fs::write(home.path("skein.toml"), "[worker]\nmodle = \"a/b\"\n").unwrap();
    for command in ["serve", "relay"] {
        let run = home.run(&[command, "--listen", "127.0.0.1:0"]);
        assert_eq!(run.code, 1);
        assert_eq!(run.stderr.trim(), "skein.toml:2: unknown key \"modle\"; did you mean \"model\"?");
    }
}

#[test]
fn a_first_command_without_relay_and_folder_says_what_to_do() {
    let home = Home::new();
    let run = home.run_without_data(&["session", "list"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("skein serve") && run.stderr.contains("--token"), "{run:?}");
}

#[test]
fn an_address_that_is_none_is_an_error() {
    let home = Home::new();
    let run = home.run(&["session", "list", "--relay", "ftp://x", "--token", "t"]);
    assert_eq!(run.code, 1, "{run:?}");
}
