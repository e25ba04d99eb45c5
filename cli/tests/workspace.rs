//! Agents, actions, integrations and tasks from the command line, with a relay and without.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Home, Run};

/// Runs all; each must end with code 0.
fn done(run: impl Fn(&[&str]) -> Run, commands: &[&[&str]]) {
    for arguments in commands {
        let run = run(arguments);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{arguments:?}: {run:?}");
    }
}

#[test]
fn what_a_day_may_cost_is_set_shown_and_lifted() {
    let home = Home::new();
    let served = home.serve();
    assert_eq!(served.run(&["workspace", "limit"]).stdout, "none\n");
    done(|arguments| served.run(arguments), &[&["workspace", "limit", "20.50"]]);
    assert_eq!(served.run_elsewhere(&["workspace", "limit"]).stdout, "$20.500000\n");
    let wrong = served.run(&["workspace", "limit", "a lot"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("dollars, such as 2.50"), "{wrong:?}");
    done(|arguments| served.run(arguments), &[&["workspace", "limit", "none"]]);
    assert_eq!(served.run(&["workspace", "limit"]).stdout, "none\n");
}

#[test]
fn agents_are_added_changed_and_removed_and_another_device_sees_it() {
    let home = Home::new();
    let served = home.serve();
    let add = ["agent", "add", "Writer", "--model", "demo/demo", "--tools", "plan,fetch", "--temperature", "0.7"];
    let id = served.run(&[&add[..], &["--spend-limit", "2.50", "--instructions", "Be brief.", "--json"]].concat());
    let id = id.json()["id"].as_str().unwrap().to_owned();
    let shown = served.run_elsewhere(&["agent", "show", "writer", "--json"]).json();
    let expected = json!({
        "id": id, "name": "Writer", "model": "demo/demo", "instructions": "Be brief.", "tools": ["plan", "fetch"],
        "integrations": [], "thinking": null, "temperature": 0.7, "stepLimit": null, "spendLimit": 2_500_000,
        "thread": 2, "default": false,
    });
    assert_eq!(shown, expected);

    done(
        |arguments| served.run(arguments),
        &[
            &["agent", "set", &id, "--model", "none", "--tools", "", "--step-limit", "9", "--name", "Author"],
            &["agent", "default", "Author"],
            &["agent", "remove", "Assistant"],
        ],
    );
    let listed = served.run_elsewhere(&["agent", "list", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let author = &listed[0];
    assert_eq!(
        (&author["name"], &author["default"], &author["stepLimit"]),
        (&"Author".into(), &true.into(), &9.into())
    );
    assert_eq!((&author["model"], &author["tools"]), (&Value::Null, &json!([])));
    assert!(served.run(&["agent", "list"]).stdout.starts_with("*  Author"));

    // A session goes on naming its agent, also when that was removed.
    let session = served.run(&["session", "new"]).stdout.trim().to_owned();
    done(
        |arguments| served.run(arguments),
        &[&["agent", "add", "Other", "--json"], &["agent", "default", "Other"], &["agent", "remove", "Author"]],
    );
    let shown = served.run(&["session", "show", &session]).stdout;
    assert!(shown.contains("agent Author (removed)"), "{shown}");
    done(|arguments| served.run(arguments), &[&["session", "agent", &session, "other"]]);
    assert!(served.run(&["session", "show", &session]).stdout.contains("agent Other"));
}

#[test]
fn an_action_is_filled_in_and_sent() {
    let home = Home::new();
    let served = home.serve();
    let add = ["action", "add", "Report", "--template", "Report on {{topic}} in {{words}} words"];
    let id = served.run(&[&add[..], &["--default", "words=100", "--describe", "topic=What it is about"]].concat());
    assert_eq!(id.stdout.trim().len(), 22, "{id:?}");
    let shown = served.run(&["action", "show", "Report"]).stdout;
    assert!(shown.contains("{{topic}}  What it is about") && shown.contains("[default: 100]"), "{shown}");
    assert_eq!(served.run(&["action", "list", "--json"]).json()[0]["placeholders"], json!(["topic", "words"]));

    done(|arguments| served.run(arguments), &[&["action", "set", "Report", "--type", "words=number"]]);
    let wrong = served.run(&["action", "run", "Report", "--set", "topic=x", "--set", "words=many"]);
    assert_eq!((wrong.code, wrong.stderr.trim()), (1, "\"words\" is a number, not \"many\""));
    let wrong = served.run(&["action", "set", "Report", "--type", "words=few|many"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("\"words\" is one of few, many, not \"100\""), "{wrong:?}");
    let missing = served.run(&["action", "run", "Report"]);
    assert_eq!((missing.code, missing.stderr.trim()), (1, "nothing is given for \"topic\""));
    let ran = served.run(&["action", "run", "report", "--set", "topic=a=b", "--json"]).json();
    let session = ran["session"].as_str().unwrap();
    assert_eq!(ran["message"], Value::Null);
    let first =
        |id: &str| served.run(&["session", "show", id, "--json"]).json()["messages"][0]["parts"][0]["text"].clone();
    assert_eq!(first(session), "Report on a=b in 100 words");
    let sent = served.run(&["action", "run", "Report", "--session", session, "--set", "topic=x"]);
    assert_eq!(sent.stdout.trim().len(), 22, "{sent:?}");

    let new = ["session", "new", "--action", "Report", "--set", "topic=rain", "--set", "words=3"];
    let session = served.run(&new).stdout.trim().to_owned();
    assert_eq!(first(&session), "Report on rain in 3 words");
    done(
        |arguments| served.run(arguments),
        &[
            &["action", "set", "Report", "--template", "Tell {{topic}}", "--name", "Tell"],
            &["action", "remove", "Tell"],
        ],
    );
    assert_eq!(served.run(&["action", "list", "--json"]).json(), json!([]));
}

#[test]
fn integrations_have_a_policy_for_each_tool() {
    let home = Home::new();
    let served = home.serve();
    done(
        |arguments| served.run(arguments),
        &[
            &["integration", "enable", "files"],
            &["integration", "policy", "files", "*", "ask"],
            &["integration", "policy", "files", "read_file", "allow"],
            &["integration", "policy", "files", "write_file", "deny"],
            &["integration", "policy", "files", "write_file", "none"],
            &["integration", "disable", "mail"],
        ],
    );
    let listed = served.run_elsewhere(&["integration", "list", "--json"]).json();
    assert_eq!((&listed[0]["name"], &listed[0]["enabled"]), (&json!("files"), &json!(true)));
    assert_eq!(listed[0]["policy"], json!({ "*": "ask", "read_file": "allow" }));
    assert_eq!((&listed[1]["name"], &listed[1]["enabled"]), (&json!("mail"), &json!(false)));
    let tools = served.run(&["integration", "tools", "files", "--json"]);
    let read = json!([{ "tool": "read_file", "policy": "ask" }]);
    assert_eq!(tools.json(), read, "members loosen nothing: without the operator's word it asks");
    assert_eq!(served.run(&["integration", "tools", "nothing"]).code, 1);
    assert_eq!(served.run(&["integration", "policy", "files", "x", "perhaps"]).code, 2);
}

#[test]
fn a_task_says_when_it_is_due() {
    let home = Home::new();
    let served = home.serve();
    let add = ["task", "add", "Morning", "--message", "Good morning", "--cron", "0 9 * * *", "--tz", "Europe/Berlin"];
    let id = served.run(&[&add[..], &["--timeout", "90", "--retries", "2", "--overlap", "queue"]].concat());
    let id = id.stdout.trim().to_owned();
    let mut shown = served.run_elsewhere(&["task", "show", "morning", "--json"]).json();
    let mut taken = |key: &str| shown.as_object_mut().unwrap().remove(key).and_then(|at| at.as_u64()).unwrap();
    assert!(taken("since") < taken("nextAt"));
    let expected = json!({
        "id": id, "name": "Morning", "agent": null, "message": "Good morning", "cron": "0 9 * * *",
        "tz": "Europe/Berlin", "overlap": "queue", "missed": "skip", "retries": 2, "timeout": 90_000,
        "spendLimit": null, "paused": false, "sessions": 0, "costMicros": 0, "incomplete": false,
    });
    assert_eq!(shown, expected);
    let next = served.run(&["task", "next", "Morning", "--count", "3", "--json"]).json();
    assert_eq!(next.as_array().unwrap().len(), 3);
    assert!(next[0]["local"].as_str().unwrap().contains("T09:00:00+0"), "{next}");
    assert!(next[0]["at"].as_u64().unwrap() < next[1]["at"].as_u64().unwrap());

    done(
        |arguments| served.run(arguments),
        &[
            &["task", "pause", "Morning"],
            &["action", "add", "Ask", "--template", "About {{topic}}"],
            &["task", "set", &id, "--action", "Ask", "--set", "topic=rain", "--cron", "none", "--agent", "Assistant"],
        ],
    );
    let shown = served.run(&["task", "show", &id]).stdout;
    assert!(shown.contains("by hand") && shown.contains("rain") && shown.contains("Assistant"), "{shown}");
    assert!(served.run(&["task", "list"]).stdout.contains("paused"));
    assert_eq!(served.run(&["task", "next", &id]).code, 1);
    let used = served.run(&["action", "remove", "Ask"]);
    assert!(used.code == 1 && used.stderr.contains("\"Morning\" uses this action"), "{used:?}");
    done(|arguments| served.run(arguments), &[&["task", "resume", &id], &["task", "remove", &id]]);
    assert_eq!(served.run(&["task", "list", "--json"]).json(), json!([]));
}

#[test]
fn a_task_runs_by_hand_and_by_a_token_and_its_runs_are_listed_with_what_they_cost() {
    let home = Home::new();
    let served = home.serve();
    done(
        |arguments| served.run(arguments),
        &[&["action", "add", "Ask", "--template", "About {{topic}}"], &["task", "add", "Plain", "--message", "Hello"]],
    );
    let add = served.run(&["task", "add", "Daily", "--action", "Ask", "--set", "topic=rain", "--cron", "0 9 * * *"]);
    let id = add.stdout.trim().to_owned();
    let begun = served.run(&["task", "run", "daily", "--set", "topic=snow", "--json"]).json();
    let (run, session) = (begun["run"].as_str().unwrap(), begun["session"].as_str().unwrap());
    assert_eq!(run.len(), 22);
    assert_eq!(served.run(&["session", "wait", session, "--timeout", "20"]).code, 0);
    let shown = served.run_elsewhere(&["session", "show", session, "--json"]).json();
    assert_eq!((&shown["task"], &shown["messages"][0]["parts"][0]["text"]), (&json!(id), &json!("About snow")));
    assert!(shown["name"].as_str().unwrap().starts_with("Daily, 20"), "{shown}");
    let runs = served.run_elsewhere(&["task", "runs", "Daily", "--json"]).json();
    let row = &runs[0];
    assert_eq!(runs.as_array().unwrap().len(), 1);
    assert_eq!((&row["run"], &row["session"]), (&begun["run"], &begun["session"]));
    assert_eq!((&row["status"], &row["error"]), (&json!("ACTIVE"), &Value::Null));
    assert_eq!(row["costMicros"], shown["costMicros"]);
    let task = served.run(&["task", "show", "Daily", "--json"]).json();
    assert_eq!((&task["sessions"], &task["costMicros"]), (&json!(1), &shown["costMicros"]));

    let wrong = served.run(&["task", "run", "Daily", "--set", "subject=x"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("no placeholder \"subject\""), "{wrong:?}");
    let wrong = served.run(&["task", "run", "Plain", "--set", "topic=x"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("no action"), "{wrong:?}");
    assert_eq!(served.run(&["task", "runs", "Plain", "--json"]).json(), json!([]));

    let token = served.run(&["task", "trigger", "Daily", "--json"]).json();
    assert!(token["url"].as_str().unwrap().ends_with(&format!("/tasks/{id}/trigger")), "{token}");
    let offline = served.run(&["task", "trigger", "Daily", "--offline"]);
    assert!(offline.code == 1 && offline.stderr.contains("only the relay"), "{offline:?}");
    // Offline the session is made here, and is sent with a later command.
    let begun = served.run(&["task", "run", "Plain", "--offline", "--json"]).json();
    assert_eq!(served.run(&["task", "runs", "Plain", "--json"]).json()[0]["run"], begun["run"]);
    // What a purged session cost stays the task's.
    done(|arguments| served.run(arguments), &[&["session", "delete", session], &["session", "purge", session]]);
    let left = served.run(&["task", "show", "Daily", "--json"]).json();
    assert_eq!((&left["sessions"], &left["costMicros"]), (&json!(1), &shown["costMicros"]));
    let row = &served.run(&["task", "runs", "Daily", "--json"]).json()[0];
    assert_eq!((&row["status"], &row["costMicros"]), (&json!("PURGED"), &shown["costMicros"]));
}

#[test]
fn what_was_changed_offline_reaches_the_relay_with_a_later_command() {
    let home = Home::new();
    let served = home.serve();
    assert_eq!(served.run(&["agent", "list"]).code, 0);
    let offline = served.run(&["agent", "add", "Far", "--offline"]);
    assert!(offline.code == 0 && offline.stderr.contains("offline"), "{offline:?}");
    assert_eq!(served.run_elsewhere(&["agent", "show", "Far"]).code, 1, "nobody else has it yet");
    assert_eq!(served.run(&["agent", "set", "Far", "--thinking", "100"]).code, 0);
    assert_eq!(served.run_elsewhere(&["agent", "show", "Far", "--json"]).json()["thinking"], 100);
}

#[test]
fn a_viewer_sees_agents_and_changes_none() {
    let home = Home::new();
    let served = home.serve();
    let token = served.run(&["member", "add", "Reader", "--role", "viewer", "--json"]).json()["token"].clone();
    let viewer = |arguments: &[&str]| served.run_as(token.as_str().unwrap(), "reader", arguments);
    assert_eq!(viewer(&["agent", "list", "--json"]).json()[0]["name"], "Assistant");
    for refused in [&["agent", "add", "Mine"][..], &["task", "add", "T", "--message", "x"], &["session", "new"]] {
        let run = viewer(refused);
        assert!(run.code == 1 && run.stderr.contains("may only read"), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
    assert_eq!(served.run(&["agent", "list", "--json"]).json().as_array().unwrap().len(), 1);
}

#[test]
fn nonsense_is_one_line_with_the_right_code() {
    let home = Home::new();
    let never_connected = home.run(&["agent", "add", "A"]);
    assert!(never_connected.code == 1 && never_connected.stderr.contains("connect it once"), "{never_connected:?}");
    assert_eq!(home.run(&["agent", "list", "--json"]).json(), json!([]));

    let served = home.serve();
    for (arguments, code, why) in [
        (&["agent"][..], 2, "requires a subcommand"),
        (&["agent", "add"], 2, "NAME"),
        (&["agent", "add", "Assistant"], 1, "already another agent"),
        (&["agent", "add", "A\nB"], 1, "control characters"),
        (&["agent", "add", "A", "--model", "claude"], 1, "PROVIDER/MODEL"),
        (&["agent", "add", "A", "--temperature", "hot"], 2, "--temperature"),
        (&["agent", "add", "A", "--temperature", "3"], 1, "0 to 2, not 3"),
        (&["agent", "add", "A", "--spend-limit", "1e3"], 2, "dollars"),
        (&["agent", "add", "A", "--spend-limit", "99999999"], 1, "$1000000"),
        (&["agent", "set", "nobody", "--name", "A"], 1, "no agent \"nobody\" (known: Assistant)"),
        (&["agent", "remove", "Assistant"], 1, "default agent"),
        (&["action", "add", "A"], 2, "--template"),
        (&["action", "add", "A", "--template", " "], 1, "empty"),
        (&["action", "add", "A", "--template", "x", "--default", "y=1"], 1, "{{y}}"),
        (&["action", "add", "A", "--template", "x", "--default", "y"], 2, "KEY=VALUE"),
        (&["action", "run", "nothing"], 1, "no action"),
        (&["session", "new", "--action", "A", "--message", "x"], 2, "cannot be used"),
        (&["session", "new", "--set", "a=b"], 2, "--action"),
        (&["session", "new", "--agent", "nobody"], 1, "no agent"),
        (&["task", "add", "T"], 1, "message or an action"),
        (&["task", "add", "T", "--message", "x", "--cron", "daily"], 1, "no schedule"),
        (&["task", "add", "T", "--message", "x", "--cron", "0 0 31 2 *"], 1, "never comes"),
        (&["task", "add", "T", "--message", "x", "--tz", "Mars/Olympus"], 1, "no time zone"),
        (&["task", "add", "T", "--message", "x", "--timeout", "-1"], 2, "'-1'"),
        (&["task", "add", "T", "--message", "x", "--timeout", "0.1"], 1, "1000 to"),
        (&["task", "add", "T", "--message", "x", "--overlap", "never"], 2, "skip"),
        (&["task", "next", "T", "--count", "0"], 2, "--count"),
    ] {
        let run = served.run(arguments);
        assert_eq!(run.code, code, "{arguments:?}: {run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "one line that says why: {arguments:?}: {run:?}");
        assert!(run.stderr.contains(why), "{arguments:?}: {run:?}");
    }
}
