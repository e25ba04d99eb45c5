//! Streams of our own writing of OpenAI's responses, Gemini and Ollama, after their published formats
//! (<https://platform.openai.com/docs/api-reference/responses-streaming>, <https://ai.google.dev/api/generate-content>,
//! <https://github.com/ollama/ollama/blob/main/docs/api.md>), and one conversation as each kind's request.

#![allow(clippy::unwrap_used)]

#[path = "support/events.rs"]
mod events;

use std::sync::Arc;

use events::{calls, failure, opaque, read, report, stop, text, thinking};
use serde_json::Value;
use skein_worker::providers::event::{Event, Stop};
use skein_worker::providers::failure::Class;
use skein_worker::providers::prompt::{CallResult, Entry, Image, Piece, Preamble, Prompt, Resume, ToolDefinition};
use skein_worker::providers::{Kind, anthropic, gemini, ollama, openai, responses};

fn sse(kind: Kind, chunks: &[&str]) -> Vec<Event> {
    let text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    read(kind, &text)
}

fn lines(lines: &[&str]) -> Vec<Event> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    read(Kind::Ollama, &text)
}

// --- OpenAI's responses -------------------------------------------------------------------------------------------

const CREATED: &str = r#"{"type":"response.created","response":{"id":"r","status":"in_progress"}}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"status":"completed","output":[],"usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":60,"cache_write_tokens":10},"output_tokens":50,"output_tokens_details":{"reasoning_tokens":20},"total_tokens":150}}}"#;

#[test]
fn items_are_told_apart_by_output_index_while_their_ids_rotate() {
    let events = sse(
        Kind::Responses,
        &[
            CREATED,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"a"}}"#,
            r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"item_id":"b","summary_index":0,"delta":"First."}"#,
            r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"item_id":"c","summary_index":1,"delta":"Then."}"#,
            r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"d","summary":[{"type":"summary_text","text":"First."},{"type":"summary_text","text":"Then."}],"encrypted_content":"SECRET="}}"#,
            r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","id":"e","call_id":"c1","name":"f","arguments":""}}"#,
            r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","id":"f","call_id":"c2","name":"g","arguments":""}}"#,
            r#"{"type":"response.function_call_arguments.delta","output_index":2,"item_id":"g","delta":"{\"y\""}"#,
            r#"{"type":"response.function_call_arguments.delta","output_index":1,"item_id":"h","delta":"{\"x\":1.0}"}"#,
            r#"{"type":"response.function_call_arguments.delta","output_index":2,"item_id":"i","delta":":2}"}"#,
            r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","call_id":"c1","name":"f","arguments":"{\"x\":1.0}","status":"completed"}}"#,
            r#"{"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","call_id":"c2","name":"g","arguments":"{\"y\":2}","status":"completed"}}"#,
            COMPLETED,
        ],
    );
    assert_eq!(thinking(&events), "First.\n\nThen.");
    assert!(opaque(&events).concat().contains("SECRET="));
    assert_eq!(
        calls(&events),
        [("f".into(), Some("{\"x\":1.0}".to_owned())), ("g".into(), Some("{\"y\":2}".to_owned()))]
    );
    let usage = report(&events).usage;
    assert_eq!((usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning), (30, 60, 10, 30, 20));
    assert_eq!(stop(&events).unwrap().0, Stop::End);
}

#[test]
fn an_incomplete_response_leaves_its_call_cut_and_says_why() {
    let events = sse(
        Kind::Responses,
        &[
            CREATED,
            r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"so far"}"#,
            r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","call_id":"c","name":"f","arguments":""}}"#,
            r#"{"type":"response.function_call_arguments.delta","output_index":1,"delta":"{}"}"#,
            r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","call_id":"c","name":"f","arguments":"{}","status":"incomplete"}}"#,
            r#"{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}}"#,
        ],
    );
    assert_eq!((text(&events).as_str(), calls(&events)), ("so far", vec![("f".into(), None)]));
    assert_eq!(stop(&events), Some((Stop::Length, Some("max_output_tokens".into()))));
    let filtered = sse(
        Kind::Responses,
        &[CREATED, r#"{"type":"response.incomplete","response":{"incomplete_details":{"reason":"content_filter"}}}"#],
    );
    assert_eq!(stop(&filtered).unwrap().0, Stop::ContentFilter);
}

#[test]
fn errors_refusals_and_what_is_unknown_in_a_response() {
    let spent = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"insufficient_quota","message":"You exceeded your current quota"}}}"#;
    let events = sse(Kind::Responses, &[CREATED, spent]);
    assert_eq!(failure(&events).unwrap().0, Class::Quota);
    let refused = sse(
        Kind::Responses,
        &[
            CREATED,
            r#"{"type":"response.refusal.delta","output_index":0,"delta":"I won't."}"#,
            r#"{"type":"response.surprise","output_index":7,"delta":{"not":"text"}}"#,
            r#"{"type":"response.output_item.done","output_index":3,"item":{"type":"hologram_call","id":"z","n":1}}"#,
            COMPLETED,
        ],
    );
    assert!(
        matches!(refused.last(), Some(Event::Stopped { class: Stop::Refusal, explanation: Some(why), .. }) if why == "I won't.")
    );
    assert!(refused.iter().any(|event| matches!(event, Event::Other { summary, .. } if summary == "hologram call")));
    let cut = sse(Kind::Responses, &[CREATED, r#"{"type":"response.output_text.delta","delta":"half"}"#]);
    assert_eq!((text(&cut).as_str(), failure(&cut).unwrap().0), ("half", Class::Cut));
}

// --- Gemini -------------------------------------------------------------------------------------------------------

fn parts(parts: &str, finish: &str) -> String {
    let finish = if finish.is_empty() { String::new() } else { format!(",\"finishReason\":\"{finish}\"") };
    format!("{{\"candidates\":[{{\"content\":{{\"role\":\"model\",\"parts\":{parts}}}{finish}}}]}}")
}

#[test]
fn gemini_goes_on_after_a_stop_and_keeps_signatures_wherever_they_stand() {
    let events = sse(
        Kind::Gemini,
        &[
            &parts(r#"[{"text":"hm","thought":true}]"#, "STOP"),
            &parts(r#"[{"text":"one "}]"#, "STOP"),
            &parts(r#"[{"functionCall":{"name":"f","args":{"x":1}},"thoughtSignature":"S1="}]"#, ""),
            &parts(r#"[{"text":"two"},{"text":"","thoughtSignature":"S2="},{"hologram":{"n":1}}]"#, "STOP"),
            r#"{"usageMetadata":{"promptTokenCount":100,"cachedContentTokenCount":60,"toolUsePromptTokenCount":5,"candidatesTokenCount":7,"thoughtsTokenCount":3,"totalTokenCount":115}}"#,
        ],
    );
    assert_eq!((text(&events).as_str(), thinking(&events).as_str()), ("one two", "hm"));
    assert_eq!(calls(&events), [("f".into(), Some("{\"x\":1}".to_owned()))]);
    let kept = opaque(&events);
    for data in ["S1=", "S2=", "hologram"] {
        assert!(kept.iter().any(|one| one.contains(data)), "{kept:?}");
    }
    let usage = report(&events).usage;
    assert_eq!((usage.input, usage.cache_read, usage.output, usage.reasoning), (45, 60, 7, 3));
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Stopped { .. })).count(), 1);
}

#[test]
fn gemini_blocks_cuts_and_fails_in_its_own_ways() {
    let blocked = sse(Kind::Gemini, &[r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#]);
    assert!(
        matches!(blocked.last(), Some(Event::Stopped { class: Stop::ContentFilter, explanation: Some(_), .. })),
        "{blocked:?}"
    );
    for (word, class) in [
        ("RECITATION", Stop::ContentFilter),
        ("PROHIBITED_CONTENT", Stop::ContentFilter),
        ("MAX_TOKENS", Stop::Length),
        ("MALFORMED_FUNCTION_CALL", Stop::Interrupted),
        ("WHATEVER", Stop::Other),
    ] {
        assert_eq!(stop(&sse(Kind::Gemini, &[&parts("[]", word)])), Some((class, Some(word.into()))));
    }
    let call = r#"[{"functionCall":{"name":"f","args":{}}},{"functionCall":{"name":"g","args":{}}}]"#;
    let cut = calls(&sse(Kind::Gemini, &[&parts(call, "MAX_TOKENS")]));
    assert!(cut[0].1.is_some() && cut[1].1.is_none(), "{cut:?}");
    let said = parts(r#"[{"text":"so far"}]"#, "STOP");
    let bare = "{\n  \"error\": {\n    \"code\": 503,\n    \"message\": \"overloaded\",\n    \"status\": \"UNAVAILABLE\"\n  }\n}\n";
    let events = read(Kind::Gemini, &format!("data: {said}\r\n\r\n{bare}"));
    assert_eq!((text(&events).as_str(), failure(&events).unwrap().0.is_transient()), ("so far", true));
}

// --- Ollama -------------------------------------------------------------------------------------------------------

#[test]
fn ollama_thinks_calls_and_ends_in_lines() {
    let events = lines(&[
        r#"{"model":"m","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
        r#"{"message":{"content":"Größe "},"done":false,"surprise":1}"#,
        "not json",
        r#"{"message":{"content":"ok","tool_calls":[{"function":{"name":"f","arguments":{"x":1}}},{"function":{"name":"g","arguments":{}}}]},"done":false}"#,
        r#"{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":9,"eval_count":4}"#,
    ]);
    assert_eq!((text(&events).as_str(), thinking(&events).as_str()), ("Größe ok", "hm"));
    assert_eq!(calls(&events), [("f".into(), Some("{\"x\":1}".to_owned())), ("g".into(), Some("{}".to_owned()))]);
    assert_eq!((report(&events).usage.input, report(&events).usage.output), (9, 4));
    assert_eq!(stop(&events), Some((Stop::End, Some("stop".into()))));
}

#[test]
fn a_line_without_an_end_an_error_and_a_limit_of_ollama() {
    let said = r#"{"message":{"content":"so far"},"done":false}"#;
    let cut = lines(&[said]);
    assert_eq!((text(&cut).as_str(), failure(&cut).unwrap().0), ("so far", Class::Cut));
    let failed = lines(&[said, r#"{"error":"model runner has unexpectedly stopped"}"#]);
    assert_eq!(failure(&failed).unwrap().1, "model runner has unexpectedly stopped");
    let call = r#"{"message":{"tool_calls":[{"function":{"name":"f","arguments":{}}}]},"done":false}"#;
    let limited = lines(&[call, r#"{"message":{"content":""},"done":true,"done_reason":"length"}"#]);
    assert_eq!((calls(&limited)[0].1.as_deref(), stop(&limited).unwrap().0), (None, Stop::Length));
    // The last line needs no end of its own.
    let events = read(Kind::Ollama, &format!("{said}\n{}", r#"{"done":true,"done_reason":"stop"}"#));
    assert_eq!(stop(&events).unwrap().0, Stop::End);
}

// --- One conversation, as each kind's request ---------------------------------------------------------------------

fn picture() -> Image {
    Image { mime: "image/png".into(), bytes: Arc::from(&b"png"[..]) }
}

fn conversation() -> Prompt {
    Prompt {
        model: "m".into(),
        preamble: Preamble {
            system: "Be brief.".into(),
            tools: vec![ToolDefinition {
                name: "f".into(),
                description: "Does f.".into(),
                schema: r##"{"type":"object","properties":{"n":{"$ref":"#/$defs/n"}},"$defs":{"n":{"const":1.50}}}"##
                    .into(),
            }],
            ..Preamble::default()
        },
        entries: vec![
            Entry::User { text: "hi".into(), images: vec![picture()] },
            Entry::Assistant {
                pieces: vec![
                    Piece::Thinking { text: "another's".into(), data: None },
                    Piece::Call { id: "c1".into(), name: "f".into(), input: "{\"x\": 1.0}".into(), data: None },
                    Piece::Call { id: "c2".into(), name: "f".into(), input: "{}".into(), data: None },
                ],
            },
            Entry::Results {
                results: vec![
                    CallResult { id: "c1".into(), content: "seen".into(), is_error: false, images: vec![picture()] },
                    CallResult { id: "c2".into(), content: "no".into(), is_error: true, images: Vec::new() },
                ],
            },
            Entry::Assistant { pieces: vec![Piece::Text { text: "so far ".into(), data: None }] },
        ],
        resume: None,
    }
}

/// Every kind's request, with where its conversation stands.
fn requests(prompt: &Prompt) -> [(&'static str, Vec<u8>); 5] {
    [
        ("messages", anthropic::request(prompt)),
        ("messages", openai::request(prompt, openai::Dialect::default())),
        ("input", responses::request(prompt, true)),
        ("contents", gemini::request(prompt)),
        ("messages", ollama::request(prompt)),
    ]
}

#[test]
fn every_request_holds_calls_results_and_pictures_and_none_of_anothers_thinking() {
    for (key, bytes) in requests(&conversation()) {
        let text = String::from_utf8(bytes).unwrap();
        let body: Value = serde_json::from_str(&text).unwrap();
        assert!(body[key].as_array().unwrap().len() >= 4, "{text}");
        assert_eq!(text.matches("cG5n").count(), 2, "{text}");
        for what in ["seen", "so far", "Be brief.", "1.50", "1.0"] {
            assert!(text.contains(what), "{what}: {text}");
        }
        assert!(!text.contains("another's"), "{text}");
    }
}

#[test]
fn a_longer_conversations_request_begins_with_a_shorter_ones_bytes() {
    let mut prompt = conversation();
    prompt.preamble.thinking = Some(4_000);
    prompt.preamble.temperature = Some(0.5);
    let shorter = requests(&prompt);
    prompt.entries.push(Entry::User { text: "and?".into(), images: vec![picture()] });
    prompt.entries.push(Entry::Assistant { pieces: vec![Piece::Text { text: "done".into(), data: None }] });
    for ((_, before), (_, after)) in shorter.iter().zip(requests(&prompt)) {
        assert!(after.starts_with(before.strip_suffix(b"]}").unwrap()), "{}", String::from_utf8_lossy(&after));
    }
}

#[test]
fn a_cut_answer_is_quoted_in_every_kind() {
    let prompt = Prompt { resume: Some(Resume::Quote), ..conversation() };
    for (key, bytes) in requests(&prompt) {
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        let last = body[key].as_array().unwrap().last().unwrap();
        assert!(last["role"] == "user" && last.to_string().contains("Your answer was interrupted"), "{last}");
    }
}

#[test]
fn thinking_and_temperature_are_said_in_each_kinds_own_words() {
    let mut prompt = conversation();
    prompt.preamble.thinking = Some(10_000);
    prompt.preamble.temperature = Some(0.5);
    let bodies = |prompt: &Prompt| requests(prompt).map(|(_, bytes)| serde_json::from_slice::<Value>(&bytes).unwrap());
    let [a, c, r, g, o] = bodies(&prompt);
    assert_eq!(a["thinking"]["budget_tokens"], 10_000);
    assert!(a["max_tokens"].as_u64().unwrap() > 10_000 && a.get("temperature").is_none());
    assert!(c["reasoning_effort"] == "medium" && c.get("temperature").is_none());
    assert!(r["reasoning"]["effort"] == "medium" && r["store"] == false && r.get("temperature").is_none());
    assert_eq!(r["include"][0], "reasoning.encrypted_content");
    assert_eq!(g["generationConfig"]["thinkingConfig"]["thinkingBudget"], 10_000);
    assert!(g["generationConfig"]["temperature"] == 0.5 && o["options"]["temperature"] == 0.5 && o["think"] == true);
    prompt.preamble.thinking = Some(0);
    let [a, c, _, g, o] = bodies(&prompt);
    assert!(a.get("thinking").is_none() && a["temperature"] == 0.5 && c["temperature"] == 0.5);
    assert!(g["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 0 && o["think"] == false);
}
