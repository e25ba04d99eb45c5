//! Commands on sessions that this device only lists, while its relay is away; and making room on the device.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use support::Home;

#[test]
fn a_message_to_a_session_that_is_only_listed_here_waits_for_it() {
    let home = Home::new();
    let served = home.serve();
    let made = served.run(&["session", "new", "--name", "Elsewhere"]);
    let id = made.stdout.trim().to_owned();
    assert_eq!(served.run_elsewhere(&["session", "list", "--json"]).json()[0]["id"], id.as_str());
    let relay = format!("http://{}", served.address);
    drop(served);

    let offline = |arguments: &[&str]| home.run_elsewhere(&[arguments, &["--offline"]].concat(), &relay);
    let sent = offline(&["session", "send", &id, "written while away"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(sent.stderr.contains("waits for its document"), "{sent:?}");
    assert_eq!(offline(&["session", "continue", &id]).code, 0, "whether it can be done shows later");
    let waiting = offline(&["session", "waiting", "--json"]).json();
    assert_eq!(waiting[0]["id"], sent.stdout.trim());
    assert_eq!(waiting[0]["command"]["text"], "written while away");
    let unknown = offline(&["session", "send", "2bcYvvzc4P7V9UEnhsA19koR3NqJ", "to nowhere"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");

    let served = home.serve();
    assert_eq!(served.run_elsewhere(&["session", "list"]).code, 0, "any command brings it");
    let shown = served.run(&["session", "show", &id, "--json"]).json();
    assert_eq!(shown["messages"][0]["id"], sent.stdout.trim());
    let waiting = served.run_elsewhere(&["session", "waiting", "--json"]).json();
    assert_eq!(waiting[0]["failed"], "nothing is paused or failed");
    let failed = waiting[0]["id"].as_str().unwrap();
    assert_eq!(served.run_elsewhere(&["session", "waiting", "--drop", failed, "--json"]).stdout.trim(), "[]");
}

#[test]
fn collecting_keeps_what_was_never_sent() {
    let home = Home::new();
    let id = home.new_session();
    let collected = home.run(&["session", "gc", "--json", "--offline"]).json();
    assert_eq!((&collected["kept"], &collected["dropped"]), (&1.into(), &serde_json::json!([])));
    assert_eq!(collected["inUse"], false);
    assert!(collected["bytesAfter"].as_u64() < collected["bytesBefore"].as_u64());
    assert!(home.run(&["session", "show", &id, "--offline"]).stdout.contains("hello"));
    assert!(home.run(&["session", "gc", "--offline"]).stdout.starts_with("1 documents kept, 0 dropped"));
}

#[test]
fn collecting_drops_older_sessions_that_the_relay_has_and_keeps_pinned_ones() {
    let home = Home::new();
    let served = home.serve();
    let ids: Vec<String> = (0..3).map(|_| served.run(&["session", "new"]).stdout.trim().to_owned()).collect();
    assert_eq!(served.run(&["session", "pin", &ids[0]]).code, 0);
    let collected = served.run(&["session", "gc", "--sessions", "1", "--json"]).json();
    assert_eq!(collected["dropped"], serde_json::json!([ids[1]]), "{collected}");
    let here = |id: &String| served.run(&["session", "show", id, "--offline"]).code == 0;
    assert_eq!(ids.iter().map(here).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(served.run(&["session", "show", &ids[1]]).code, 0, "it comes back from the relay");
    assert_eq!(served.run(&["session", "gc", "--sessions", "0"]).code, 2);
}
