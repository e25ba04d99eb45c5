//! Recorded streams of real providers, read as their recorders expect, however the bytes are cut. The recordings are
//! not part of the project: the folder is named by `SKEIN_RECORDINGS`, else `../shared/recordings` beside the
//! repository, and without it the test says so.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use skein_worker::providers::event::{Event, Report};
use skein_worker::providers::failure::{Class, Failure};
use skein_worker::providers::{Answer, Kind};

/// What an answer comes down to, in the recordings' words.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    text: String,
    thinking: String,
    opaque: String,
    tools: Vec<(Option<String>, String, Option<Value>)>,
    stop: Option<String>,
    refusal: String,
    report: Option<Report>,
    error: Option<String>,
}

impl Reading {
    fn of(events: Vec<Event>) -> Self {
        let mut reading = Self::default();
        for event in events {
            match event {
                Event::Started => reading = Self::default(),
                Event::Text(text) => reading.text += &text,
                Event::Thinking(text) => reading.thinking += &text,
                Event::CallStarted { provider_id, name, .. } => reading.tools.push((provider_id, name, None)),
                Event::CallDone { index, input } => reading.tools[index].2 = serde_json::from_str(&input).ok(),
                Event::Opaque { data, .. } | Event::Other { data, .. } => reading.opaque += &data,
                Event::Usage(report) => reading.report = Some(report),
                Event::Stopped { word, explanation, .. } => {
                    reading.stop = word;
                    reading.refusal = explanation.unwrap_or_default();
                }
                Event::Failed(failure) if failure.class != Class::Cut => reading.error = Some(failure.message),
                Event::CallInput { .. } | Event::PartDone | Event::Failed(_) => {}
            }
        }
        reading
    }
}

fn read(kind: Kind, status: u16, cuts: &[&[u8]]) -> Reading {
    if status >= 300 {
        return Reading::of(vec![Event::Failed(Failure::of_response(status, None, &cuts.concat()))]);
    }
    let mut answer = Answer::new(kind);
    let mut events = Vec::new();
    for bytes in cuts {
        answer.feed(bytes, &mut events);
    }
    answer.finish(&mut events);
    Reading::of(events)
}

/// What differs, in words.
fn differences(reading: &Reading, expected: &Map<String, Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut same = |what: &str, got: Value, want: &Value| {
        if got != *want {
            wrong.push(format!("{what}: {got} instead of {want}"));
        }
    };
    same("text", json!(reading.text), &expected["text"]);
    same("thinking", json!(reading.thinking), &expected["thinking"]);
    same("stop", json!(reading.stop), &expected["stop"]);
    same("refusal", json!(reading.refusal), &expected["refusal"]);
    same("error", json!(reading.error), &expected["error"]);
    let tools: Vec<Value> =
        reading.tools.iter().map(|(id, name, input)| json!({"id": id, "name": name, "input": input})).collect();
    let want: Vec<Value> = expected["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| json!({"id": tool["id"], "name": tool["name"], "input": tool["input"]}))
        .collect();
    same("tools", json!(tools), &json!(want));
    same("usage", json!(reading.report.map(|report| report.usage)), &expected["usage"]);
    let report = reading.report.unwrap_or_default();
    same("total", json!(report.total), &expected["total"]);
    let more = match &expected["more"] {
        Value::Bool(more) => *more,
        other => other.as_u64().unwrap_or(0) > 0,
    };
    same("more", json!(report.more), &json!(more));
    for forms in expected["signatures"].as_array().unwrap() {
        let forms = forms.as_array().unwrap();
        let kept = |form: &Value| {
            let quoted = form.to_string();
            reading.opaque.contains(form.as_str().unwrap_or(&quoted))
                || reading.opaque.contains(quoted.trim_matches('"'))
        };
        if !forms.iter().any(kept) {
            wrong.push(format!("a signature is lost: {}", forms[0]));
        }
    }
    wrong
}

#[test]
fn recorded_streams_read_as_expected_however_they_are_cut() {
    let folder = std::env::var_os("SKEIN_RECORDINGS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/recordings"));
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("recorded streams: skipped, no folder");
        return;
    };
    let mut ran = 0;
    let mut wrong = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let recording: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let kind = match recording["kind"].as_str() {
            Some("openai") => Kind::OpenAi,
            Some("anthropic") => Kind::Anthropic,
            Some("openai-responses") => Kind::Responses,
            Some("gemini") => Kind::Gemini,
            Some("ollama") => Kind::Ollama,
            _ => continue,
        };
        for (number, step) in recording["steps"].as_array().unwrap().iter().enumerate() {
            let status = u16::try_from(step["status"].as_u64().unwrap()).unwrap();
            let pieces: Vec<&[u8]> =
                step["pieces"].as_array().unwrap().iter().map(|piece| piece.as_str().unwrap().as_bytes()).collect();
            let whole = pieces.concat();
            let bytes: Vec<&[u8]> = whole.chunks(1).collect();
            // Cut inside every character that has more than one byte.
            let mut inside = Vec::new();
            let mut from = 0;
            for at in (1..whole.len()).filter(|at| whole[*at] & 0xC0 == 0x80) {
                inside.push(&whole[from..at]);
                from = at;
            }
            inside.push(&whole[from..]);
            let uneven: Vec<&[u8]> = whole.chunks(7).collect();
            for (how, cuts) in [
                ("whole", vec![whole.as_slice()]),
                ("event by event", pieces),
                ("byte by byte", bytes),
                ("inside characters", inside),
                ("seven bytes at a time", uneven),
            ] {
                let reading = read(kind, status, &cuts);
                for what in differences(&reading, step["expected"].as_object().unwrap()) {
                    wrong.push(format!("{} step {number}, fed {how}: {what}", recording["name"]));
                }
            }
        }
        ran += 1;
    }
    println!("recorded streams: {ran} ran");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran > 0, "{} holds no recordings", folder.display());
}
