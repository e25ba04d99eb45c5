//! What is done to sessions from the command line: to one, to several, with a relay and without.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::Home;

fn message_id(shown: &Value, index: usize) -> String {
    shown["messages"][index]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_queued_message_is_said_anew_in_its_place() {
    let home = Home::new();
    let id = home.new_session();
    home.run(&["session", "send", &id, "second"]);
    let first = message_id(&home.run(&["session", "show", &id, "--json"]).json(), 0);
    let edited = home.run(&["session", "edit", &id, &first, "hello again"]);
    assert_eq!((edited.code, edited.stdout.trim().len()), (0, 22), "{edited:?}");
    let shown = home.run(&["session", "show", &id, "--json"]).json();
    let texts: Vec<&str> =
        shown["messages"].as_array().unwrap().iter().filter_map(|m| m["parts"][0]["text"].as_str()).collect();
    assert_eq!(texts, ["hello again", "second"]);
    for (arguments, why) in [
        (&["session", "edit", &id, "nothing", "x"][..], "no message"),
        (&["session", "edit", &id, edited.stdout.trim(), ""], "nothing in it"),
        (&["session", "edit", &id, edited.stdout.trim(), "x", "--detach", "1"], "attachment"),
        (&["session", "steer", &id, edited.stdout.trim()], "nothing is streaming"),
        (&["session", "omit", &id, edited.stdout.trim(), "0"], "can't be left out"),
    ] {
        let run = home.run(arguments);
        assert!(run.code == 1 && run.stderr.contains(why), "{arguments:?}: {run:?}");
    }
}

#[test]
fn several_sessions_at_once_and_what_fails_for_one_is_done_for_the_others() {
    let home = Home::new();
    let (a, b) = (home.new_session(), home.new_session());
    let archived = home.run(&["session", "archive", &a, &b]);
    assert_eq!(archived.code, 0, "{archived:?}");
    assert_eq!(home.run(&["session", "list", "--archived", "--json"]).json().as_array().unwrap().len(), 2);
    let restored = home.run(&["session", "restore", &a, "nothing", &b]);
    assert_eq!(restored.code, 1);
    let why = restored.stderr.lines().last().unwrap();
    assert_eq!(why, "1 of 3 failed: nothing: there is no session \"nothing\"");
    assert_eq!(home.run(&["session", "list", "--json"]).json().as_array().unwrap().len(), 2);

    assert_eq!(home.run(&["session", "delete", &a, &b]).code, 0);
    assert_eq!(home.run(&["session", "list", "--json"]).json().as_array().unwrap().len(), 0);
    assert_eq!(home.run(&["session", "list", "--deleted", "--json"]).json().as_array().unwrap().len(), 2);
    assert_eq!(home.run(&["session", "undelete", &a]).code, 0);
    assert_eq!(home.run(&["session", "list", "--deleted", "--json"]).json()[0]["id"], b.as_str());
    assert_eq!(home.run(&["session", "list", "--json"]).json()[0]["id"], a.as_str());
}

#[test]
fn a_copy_a_limit_and_a_name() {
    let home = Home::new();
    let id = home.new_session();
    assert_eq!(home.run(&["session", "limit", &id, "2.50"]).code, 0);
    assert_eq!(home.run(&["session", "limit", &id, "none"]).code, 0);
    assert_eq!(home.run(&["session", "limit", &id, "0"]).code, 1);
    assert_eq!(home.run(&["session", "limit", &id, "much"]).code, 2);
    assert_eq!(home.run(&["session", "rename", &id, "Mine"]).code, 0);
    assert_eq!(home.run(&["session", "smart-rename", &id]).code, 0);
    assert_eq!(home.run(&["session", "show", &id, "--json"]).json()["nameSource"], "default");

    let copy = home.run(&["session", "duplicate", &id, "--json"]);
    assert_eq!(copy.code, 0, "{copy:?}");
    let copy = copy.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(home.run(&["session", "show", &copy, "--json"]).json()["duplicateOf"], id.as_str());
    assert_eq!(home.run(&["session", "duplicate", &id, "--at", "nothing"]).code, 1);
}

#[test]
fn a_list_of_ones_own_moves_and_pins_on_all_of_ones_devices() {
    let home = Home::new();
    let served = home.serve();
    let ids: Vec<String> = (0..3).map(|_| served.run(&["session", "new"]).stdout.trim().to_owned()).collect();
    let order = || {
        let listed = served.run_elsewhere(&["session", "list", "--json"]).json();
        let ids = listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(order(), ids);
    assert_eq!(served.run(&["session", "move", &ids[2], "--before", &ids[0]]).code, 0);
    assert_eq!(order(), [&ids[2], &ids[0], &ids[1]].map(Clone::clone));
    assert_eq!(served.run(&["session", "move", &ids[2], "--last"]).code, 0);
    assert_eq!(order(), ids);
    assert_eq!(served.run(&["session", "pin", &ids[1], &ids[2]]).code, 0);
    assert_eq!(served.run(&["session", "unpin", &ids[2]]).code, 0);
    let listed = served.run_elsewhere(&["session", "list", "--json"]).json();
    let pinned = listed.as_array().unwrap().iter().filter(|one| one["pinned"] == true);
    assert_eq!(pinned.map(|one| one["id"].as_str().unwrap()).collect::<Vec<_>>(), [ids[1].as_str()]);
    for (arguments, code) in [
        (&["session", "move", &ids[0]][..], 2),
        (&["session", "move", &ids[0], "--before", &ids[0]], 1),
        (&["session", "move", &ids[0], "--before", "nothing"], 1),
        (&["session", "pin", "2bcYvvzc4P7V9UEnhsA19koR3NqJ"], 1),
    ] {
        let run = served.run(arguments);
        assert_eq!((run.code, run.stderr.lines().count()), (code, 1), "{arguments:?}: {run:?}");
    }
}

#[test]
fn what_waits_for_a_person_is_listed_over_all_sessions() {
    let home = Home::new();
    let served = home.serve();
    assert_eq!(served.run(&["approvals", "--json"]).json(), serde_json::json!([]));
    let id = served.run(&["session", "new", "--message", "approve"]).stdout.trim().to_owned();
    assert_eq!(served.run(&["session", "wait", &id, "--until", "paused", "--timeout", "60"]).code, 0);
    let asked = served.run_elsewhere(&["approvals", "--json"]).json();
    assert_eq!((&asked[0]["session"], asked.as_array().unwrap().len()), (&id.as_str().into(), 1), "{asked}");
    assert!(asked[0]["tool"].is_string() && asked[0]["input"].is_string() && asked[0]["askedAt"].is_u64(), "{asked}");
    let call = asked[0]["call"].as_str().unwrap();
    assert!(served.run(&["approvals"]).stdout.contains(call));
    assert_eq!(served.run_elsewhere(&["session", "approve", &id, call]).code, 0);
    assert_eq!(served.run_elsewhere(&["approvals", "--json"]).json(), serde_json::json!([]));
}

#[test]
fn a_file_goes_with_a_message_and_an_edit_can_leave_it_out() {
    let home = Home::new();
    let served = home.serve();
    std::fs::write(home.path("notes.txt"), "remember the milk").unwrap();
    let file = home.path("notes.txt");
    let file = file.to_str().unwrap();
    let id = served.run(&["session", "new"]).stdout.trim().to_owned();
    let sent = served.run(&["session", "send", &id, "", "--attach", file]);
    assert_eq!((sent.code, sent.stdout.trim().len()), (0, 22), "{sent:?}");
    assert_eq!(served.run(&["session", "wait", &id, "--timeout", "60"]).code, 0);
    let shown = served.run_elsewhere(&["session", "show", &id, "--json"]).json();
    let part = &shown["messages"][0]["parts"][0];
    assert_eq!((&part["type"], &part["mime"]), (&"attachment".into(), &"text/plain".into()), "{shown}");
    assert_eq!((&part["name"], &part["size"]), (&"notes.txt".into(), &17.into()));

    let index = part["index"].to_string();
    assert_eq!(served.run(&["session", "omit", &id, &message_id(&shown, 0), &index]).code, 0);
    let omitted = served.run(&["session", "show", &id, "--json"]).json();
    assert_eq!(omitted["messages"][0]["parts"][0]["omitted"], true);
    assert_eq!(served.run(&["session", "edit", &id, &message_id(&shown, 0), "no file", "--detach", "1"]).code, 0);
    let edited = served.run(&["session", "show", &id, "--json"]).json();
    assert_eq!(edited["messages"][0]["parts"].as_array().unwrap().len(), 1, "{edited}");

    for wrong in ["missing.txt", home.path("data").to_str().unwrap()] {
        let run = served.run(&["session", "send", &id, "x", "--attach", wrong]);
        assert_eq!((run.code, run.stderr.lines().count()), (1, 1), "{run:?}");
    }
}

#[test]
fn what_is_read_on_one_device_is_read_on_all_and_what_is_purged_is_gone() {
    let home = Home::new();
    let served = home.serve();
    let id = served.run(&["session", "new", "--name", "Mine", "--message", "hello"]).stdout.trim().to_owned();
    assert_eq!(served.run(&["session", "wait", &id, "--timeout", "60"]).code, 0);
    let unread = || served.run_elsewhere(&["session", "list", "--json"]).json()[0]["unread"].clone();
    assert_eq!(unread(), true);
    assert!(served.run(&["session", "list"]).stdout.contains("unread"));
    assert_eq!(served.run(&["session", "read", &id]).code, 0);
    assert_eq!(unread(), false);
    assert_eq!(served.run(&["session", "read", "2bcYvvzc4P7V9UEnhsA19koR3NqJ"]).code, 1);

    let standing = served.run(&["session", "purge", &id]);
    assert!(standing.code == 1 && standing.stderr.contains("deleted"), "{standing:?}");
    assert_eq!(served.run(&["session", "delete", &id]).code, 0);
    let offline = served.run(&["session", "purge", &id, "--offline"]);
    assert_eq!(offline.code, 1, "{offline:?}");
    let purged = served.run(&["session", "purge", &id]);
    assert_eq!((purged.code, purged.stderr.as_str()), (0, ""), "{purged:?}");
    assert_eq!(served.run_elsewhere(&["session", "undelete", &id]).code, 1);
    assert_eq!(served.run_elsewhere(&["session", "list", "--deleted", "--json"]).json(), serde_json::json!([]));
    assert_eq!(served.run(&["session", "show", &id, "--offline"]).code, 1, "gone from this device, too");
}
