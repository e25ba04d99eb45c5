//! Messages, calls, runs and costs asked of a real server, and two sessions compared.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Home, Run, Served};

fn done(run: Run) -> Run {
    assert_eq!(run.code, 0, "{run:?}");
    run
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn session(served: &Served<'_>, message: &str) -> String {
    let id = text(&done(served.run(&["session", "new", "--message", message, "--json"])).json()["id"]);
    done(served.run(&["session", "wait", &id, "--timeout", "30"]));
    id
}

/// Asks until there are so many rows: they come at most about a second after what they tell.
fn rows(served: &Served<'_>, arguments: &[&str], count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    for _ in 0..60 {
        let answer = done(served.run(&[&["query"], arguments, &["--json"]].concat())).json();
        found = answer["rows"].as_array().unwrap().clone();
        if found.len() == count {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{arguments:?} never gave {count} rows: {found:#?}");
}

#[test]
fn everything_is_found_by_what_it_is_and_what_it_says() {
    let home = Home::new();
    let served = home.serve();
    let tool = session(&served, "please use a tool, señor Łukasz");
    let chinese = session(&served, "今日は東京の天気を教えて TODO: don't");
    rows(&served, &["messages", "--session", &tool], 2);
    rows(&served, &["messages", "--session", &chinese, "--role", "user"], 1);
    // The words of people in any script, without accents, by their beginnings, and nothing is an operator.
    for (words, of) in
        [("senor", &tool), ("SEÑOR luk", &tool), ("東京", &chinese), ("天気を", &chinese), ("todo: don't", &chinese)]
    {
        let found = rows(&served, &["messages", "--role", "user", "--text", words], 1);
        assert_eq!(found[0]["session"], of.as_str(), "{words}");
        assert!(found[0]["snippet"].is_string(), "{found:?}");
    }
    rows(&served, &["messages", "--text", "京東"], 0);
    rows(&served, &["messages", "--text", "enor"], 0);

    let calls = rows(&served, &["tools", "--tool", "demo_dice"], 1);
    assert_eq!((&calls[0]["status"], &calls[0]["session"]), (&json!("done"), &json!(tool)), "{calls:?}");
    assert!(text(&calls[0]["result"]).contains("pretend dice") && text(&calls[0]["input"]).starts_with('{'));
    rows(&served, &["tools", "--text", "pretend"], 1);
    rows(&served, &["messages", "--tool", "demo_dice"], 1);
    let runs = rows(&served, &["runs", "--session", &tool, "--status", "completed", "--agent", "Assistant"], 2);
    assert!(runs.iter().all(|run| run["model"] == "demo/demo" && run["costMicros"].is_u64()), "{runs:?}");

    // Pages follow one another without gap or repetition.
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut arguments = vec!["query", "messages", "--limit", "1", "--json"];
        if let Some(after) = &after {
            arguments.extend(["--after", after]);
        }
        let page = done(served.run(&arguments)).json();
        seen.extend(page["rows"].as_array().unwrap().iter().map(|row| text(&row["id"])));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    let all: Vec<String> = rows(&served, &["messages"], 4).iter().map(|row| text(&row["id"])).collect();
    assert_eq!(seen, all);

    // Reports are the sums of what sessions say; a purged one still counts, and isn't found.
    let cost = |by: &str| {
        let report = done(served.run(&["query", "cost", "--by", by, "--tz", "Pacific/Auckland", "--json"])).json();
        report.as_array().unwrap().iter().map(|row| row["costMicros"].as_u64().unwrap()).sum::<u64>()
    };
    let shown = |id: &str| done(served.run(&["session", "show", id, "--json"])).json()["costMicros"].as_u64().unwrap();
    let sum = shown(&tool) + shown(&chinese);
    for by in ["agent", "model", "day", "task", "action"] {
        assert_eq!(cost(by), sum, "{by}");
    }
    done(served.run(&["session", "delete", &chinese]));
    rows(&served, &["messages", "--session", &chinese], 0);
    done(served.run(&["session", "purge", &chinese]));
    rows(&served, &["runs", "--session", &chinese], 0);
    assert_eq!(cost("agent"), sum);

    for wrong in [
        &["query", "messages", "--text", "!!"][..],
        &["query", "messages", "--limit", "501"],
        &["query", "messages", "--after", "x' OR 1"],
        &["query", "cost", "--by", "day", "--tz", "Nowhere/Land"],
        &["query", "runs", "--text", "x"],
    ] {
        let run = served.run(wrong);
        assert_eq!((run.code, run.stderr.lines().count()), (1, 1), "{run:?}");
    }

    // Made anew from documents, they say the same.
    let before = rows(&served, &["messages"], 2);
    let home = served.stop();
    let rebuilt = done(home.run(&["admin", "rebuild-queries", "--data", "data", "--json"])).json();
    assert_eq!(rebuilt["sessions"], 1);
    std::fs::write(home.path("data/queries/broken"), "").unwrap();
    let served = home.serve();
    assert_eq!(rows(&served, &["messages"], 2), before);
    let report = done(served.run(&["query", "cost", "--by", "day", "--json"])).json();
    assert_eq!(report[0]["costMicros"].as_u64(), Some(sum));
}

#[test]
fn a_broken_file_is_made_anew_and_another_workspace_sees_nothing() {
    let home = Home::new();
    let served = home.serve();
    session(&served, "hello there");
    let found = rows(&served, &["messages"], 2);
    let made = done(served.run(&["workspace", "create", "Other", "--json"])).json();
    let token = text(&made["token"]);
    let other = served.run_as(&token, "other", &["query", "messages", "--text", "hello", "--json"]);
    assert_eq!(done(other).json(), json!({"rows": [], "next": null}));
    let home = served.stop();
    for file in std::fs::read_dir(home.path("data/queries")).unwrap() {
        std::fs::write(file.unwrap().path(), "no database at all, whatever its name says").unwrap();
    }
    let served = home.serve();
    assert_eq!(rows(&served, &["messages"], 2), found);
}

#[test]
fn a_copy_is_set_beside_what_it_was_copied_from() {
    let home = Home::new();
    let served = home.serve();
    let parent = session(&served, "hello");
    let copy = text(&done(served.run(&["session", "duplicate", &parent, "--json"])).json()["id"]);
    done(served.run(&["session", "send", &copy, "and another"]));
    done(served.run(&["session", "wait", &copy, "--timeout", "30"]));
    let compared = done(served.run(&["compare", &parent, &copy, "--json"])).json();
    assert_eq!(compared["common"], 2);
    assert_eq!(compared["sides"][0]["after"], json!([]));
    assert_eq!(compared["sides"][1]["after"][0], json!({"role": "user", "text": "and another"}));
    assert!(compared["sides"][1]["costMicros"].as_u64() > compared["sides"][0]["costMicros"].as_u64());
    let shown = done(served.run(&["compare", &parent, &copy])).stdout;
    assert!(shown.contains("Both begin with 2 messages") && shown.contains("person: and another"), "{shown}");
}
