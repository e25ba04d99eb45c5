//! Streams of our own writing, after the providers' published formats and the ways in which compatible servers differ.
//! Each is read whole, byte by byte and in uneven pieces, and must read alike.

#![allow(clippy::unwrap_used)]

#[path = "support/events.rs"]
mod events;

use events::{calls, failure, opaque, read, read_in, report, stop, text, thinking};
use skein_worker::providers::event::{Event, Stop};
use skein_worker::providers::failure::Class;
use skein_worker::providers::prompt::{CallResult, Entry, Piece, Preamble, Prompt, Resume, ToolDefinition};
use skein_worker::providers::{Kind, anthropic, openai};

/// A stream of chat completion chunks.
fn chat(chunks: &[&str]) -> Vec<Event> {
    let text: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    read(Kind::OpenAi, &text)
}

/// A stream of Anthropic's events.
fn claude(events: &[&str]) -> Vec<Event> {
    let text: String = events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect();
    read(Kind::Anthropic, &text)
}

fn delta(delta: &str) -> String {
    format!("{{\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}")
}

fn finish(word: &str) -> String {
    format!("{{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{word}\"}}]}}")
}

// --- How a stream ends --------------------------------------------------------------------------------------------

#[test]
fn done_without_a_reason_and_a_reason_without_done_are_both_ends_and_neither_is_a_cut() {
    let said = delta(r#"{"content":"hi"}"#);
    assert_eq!(stop(&chat(&[&said, "[DONE]"])), Some((Stop::End, None)));
    assert_eq!(stop(&chat(&[&said, &finish("stop")])), Some((Stop::End, Some("stop".into()))));
    let cut = chat(&[&said]);
    assert_eq!(stop(&cut), None);
    assert_eq!(failure(&cut).unwrap().0, Class::Cut);
    assert_eq!(text(&cut), "hi");
}

#[test]
fn text_after_a_finish_reason_counts() {
    let events = chat(&[&delta(r#"{"content":"a"}"#), &finish("stop"), &delta(r#"{"content":"b"}"#), &finish("stop")]);
    assert_eq!(text(&events), "ab");
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Stopped { .. })).count(), 1);
}

#[test]
fn an_unknown_stop_word_is_kept_and_taken_as_an_end() {
    assert_eq!(stop(&chat(&[&finish("tired")])), Some((Stop::Other, Some("tired".into()))));
    assert_eq!(stop(&chat(&[&finish("content_filter")])).unwrap().0, Stop::ContentFilter);
    assert_eq!(stop(&chat(&[&finish("insufficient_system_resource")])).unwrap().0, Stop::Interrupted);
}

#[test]
fn an_error_in_mid_stream_keeps_what_came_wherever_it_stands() {
    let said = delta(r#"{"content":"so far"}"#);
    for error in [
        "data: {\"error\":{\"message\":\"boom\",\"code\":502}}\n\n",
        "event: error\ndata: {\"message\":\"boom\"}\n\n",
        "{\"error\":{\"message\":\"boom\"}}\n",
        "data: {\"error\":\"boom\"}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\",\"error\":{\"message\":\"boom\"}}]}\n\n",
    ] {
        let events = read(Kind::OpenAi, &format!("data: {said}\n\n{error}"));
        assert_eq!(text(&events), "so far", "{error}");
        let (class, message) = failure(&events).unwrap();
        assert_eq!((message.as_str(), class.is_transient()), ("boom", true), "{error}");
        assert_eq!(stop(&events), None);
    }
}

#[test]
fn an_answer_that_does_not_stream_is_read_too() {
    let whole = r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"all at once"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}"#;
    let events = read(Kind::OpenAi, whole);
    assert_eq!((text(&events).as_str(), report(&events).usage.output), ("all at once", 3));
    assert_eq!(stop(&events).unwrap().0, Stop::End);
    let message = r#"{"type":"message","content":[{"type":"text","text":"all"},{"type":"tool_use","id":"a","name":"f","input":{"x": 1}}],"stop_reason":"tool_use","usage":{"input_tokens":2,"output_tokens":3}}"#;
    let events = read(Kind::Anthropic, message);
    assert_eq!((text(&events).as_str(), calls(&events)), ("all", vec![("f".into(), Some("{\"x\": 1}".into()))]));
}

#[test]
fn what_is_no_answer_fails_and_says_what_it_was() {
    for kind in [Kind::OpenAi, Kind::Anthropic] {
        let (class, message) = failure(&read(kind, "<html>Sign in</html>\n")).unwrap();
        assert_eq!(class, Class::BadAnswer);
        assert!(message.contains("Sign in"), "{message}");
        assert_eq!(failure(&read(kind, "")).unwrap().0, Class::BadAnswer);
    }
}

#[test]
fn garbage_between_events_ends_nothing() {
    let said = delta(r#"{"content":"a"}"#);
    let stream = format!(
        ": ping\n\ndata: not json\n\ndata: [1,2]\n\ndata: null\n\nid: 3\nretry: 5\n\ndata: {said}\n\ndata: [DONE]\n\n"
    );
    let events = read(Kind::OpenAi, &stream);
    assert_eq!((text(&events).as_str(), failure(&events)), ("a", None));
}

#[test]
fn what_stands_beside_or_after_deltas_is_not_said_twice() {
    let together = r#"{"choices":[{"index":0,"text":"a","delta":{"role":"assistant","content":"a"}}]}"#;
    let minimax =
        r#"{"choices":[{"index":0,"finish_reason":"stop","message":{"content":"ab"}}],"object":"chat.completion"}"#;
    let events = chat(&[together, &delta(r#"{"content":"b"}"#), minimax]);
    assert_eq!((text(&events).as_str(), stop(&events).unwrap().0), ("ab", Stop::End));
}

#[test]
fn an_answer_spread_over_two_choices_of_one_index_is_one_answer() {
    let both = r#"{"choices":[{"index":0,"delta":{"content":"a"}},{"index":0,"delta":{"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}]}},{"index":1,"delta":{"content":"other"}}]}"#;
    let events = chat(&[both, &finish("tool_calls")]);
    assert_eq!((text(&events).as_str(), calls(&events).len()), ("a", 1));
}

// --- OpenAI: calls ------------------------------------------------------------------------------------------------

#[test]
fn calls_are_told_apart_by_index_by_id_or_by_being_whole() {
    let whole = |events: &[Event]| -> Vec<String> {
        calls(events).into_iter().map(|(name, input)| name + &input.unwrap()).collect()
    };
    let by_index = chat(&[
        &delta(
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}},{"index":1,"id":"b","function":{"name":"g","arguments":"{\"y\""}}]}"#,
        ),
        &delta(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":1}"}}]}"#),
        &delta(r#"{"tool_calls":[{"index":1,"id":"","function":{"arguments":":2}"}}]}"#),
        &finish("tool_calls"),
    ]);
    assert_eq!(whole(&by_index), ["f{\"x\":1}", "g{\"y\":2}"]);
    let without_index = chat(&[
        &delta(r#"{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"x\""}}]}"#),
        &delta(r#"{"tool_calls":[{"function":{"arguments":":1}"}}]}"#),
        &delta(r#"{"tool_calls":[{"id":"b","function":{"name":"f","arguments":"{}"}}]}"#),
        "[DONE]",
    ]);
    assert_eq!(whole(&without_index), ["f{\"x\":1}", "f{}"]);
    let all_zero = chat(&[
        &delta(r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}]}"#),
        &delta(r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"{\"x\":2}"}}]}"#),
        &finish("stop"),
    ]);
    assert_eq!(whole(&all_zero), ["f{\"x\":1}", "f{\"x\":2}"]);
    let rotating = chat(&[
        &delta(r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\""}}]}"#),
        &delta(r#"{"tool_calls":[{"index":0,"id":"z","function":{"name":"f","arguments":":1}"}}]}"#),
        &finish("tool_calls"),
    ]);
    assert_eq!(whole(&rotating), ["f{\"x\":1}"]);
}

#[test]
fn a_call_that_was_cut_is_never_whole_however_complete_it_looks() {
    let call = delta(r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}]}"#);
    let other = delta(r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{\"y\":"}}]}"#);
    assert_eq!(calls(&chat(&[&call, &finish("length")]))[0].1, None);
    assert_eq!(calls(&chat(&[&call]))[0].1, None);
    assert_eq!(calls(&chat(&[&call, &finish("content_filter")]))[0].1, None);
    // The one before it was whole before the cut.
    let both = calls(&chat(&[&call, &other, &finish("length")]));
    assert_eq!((both[0].1.as_deref(), both[1].1.as_deref()), (Some("{\"x\":1}"), None));
    assert_eq!(calls(&chat(&[&other, &finish("tool_calls")]))[0].1, None);
}

#[test]
fn a_call_without_input_has_an_empty_object_and_a_null_where_calls_belong_is_none() {
    let call = delta(r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}"#);
    assert_eq!(calls(&chat(&[&call, &finish("tool_calls")])), [("f".to_owned(), Some("{}".to_owned()))]);
    let none = chat(&[&delta(r#"{"content":"a","tool_calls":null}"#), &delta(r#"{"tool_calls":[]}"#), "[DONE]"]);
    assert!(calls(&none).is_empty());
    let object = delta(r#"{"tool_calls":[{"id":"a","function":{"name":"f","arguments":{"x":1}}}]}"#);
    assert_eq!(calls(&chat(&[&object, "[DONE]"]))[0].1.as_deref(), Some("{\"x\":1}"));
}

// --- OpenAI: words, reasoning, usage ------------------------------------------------------------------------------

#[test]
fn reasoning_is_found_under_every_name_and_only_once() {
    for said in [
        r#"{"reasoning_content":"hm"}"#,
        r#"{"reasoning":"hm"}"#,
        r#"{"reasoning":"hm","reasoning_content":"hm"}"#,
        r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}"#,
        r#"{"reasoning_details":[{"type":"reasoning.text","text":"hm","index":0}]}"#,
    ] {
        let events = chat(&[&delta(said), &delta(r#"{"content":"ok"}"#), "[DONE]"]);
        assert_eq!((thinking(&events).as_str(), text(&events).as_str()), ("hm", "ok"), "{said}");
    }
}

#[test]
fn reasoning_details_are_merged_by_type_and_index() {
    let events = chat(&[
        &delta(r#"{"reasoning_details":[{"type":"reasoning.text","index":0,"text":"a","format":"f"}]}"#),
        &delta(r#"{"reasoning_details":[{"type":"reasoning.text","index":0,"text":"b","signature":null}]}"#),
        &delta(r#"{"reasoning_details":[{"type":"reasoning.encrypted","index":1,"data":"E"}]}"#),
        &delta(r#"{"content":"","reasoning_details":[{"type":"reasoning.text","index":0,"signature":"S"}]}"#),
        &delta(r#"{"content":"ok"}"#),
        &finish("stop"),
    ]);
    assert_eq!(
        opaque(&events),
        [
            r#"{"reasoning_details":[{"type":"reasoning.text","index":0,"text":"ab","format":"f","signature":"S"},{"type":"reasoning.encrypted","index":1,"data":"E"}]}"#
        ]
    );
}

#[test]
fn a_refusal_is_the_explanation_and_not_the_text() {
    let events = chat(&[&delta(r#"{"refusal":"I can"}"#), &delta(r#"{"refusal":"'t."}"#), &finish("stop")]);
    let Some(Event::Stopped { class, word, explanation }) = events.last() else { panic!("{events:?}") };
    assert_eq!((*class, word.as_deref(), explanation.as_deref()), (Stop::Refusal, Some("stop"), Some("I can't.")));
    assert_eq!(text(&events), "");
}

#[test]
fn usage_is_disjoint_wherever_and_however_it_comes() {
    let usage = |json: &str| {
        let report = report(&chat(&[&delta(r#"{"content":"a"}"#), &finish("stop"), json]));
        let usage = report.usage;
        (usage.input, usage.output, usage.reasoning, usage.cache_read, usage.cache_write)
    };
    let own = r#"{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":30,"cache_write_tokens":10},"completion_tokens_details":{"reasoning_tokens":20}}}"#;
    assert_eq!(usage(own), (60, 30, 20, 30, 10));
    let beside = r#"{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":50,"total_tokens":170,"completion_tokens_details":{"reasoning_tokens":20}}}"#;
    assert_eq!(usage(beside), (100, 50, 20, 0, 0));
    let more_than_there_is = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":30},"completion_tokens_details":{"reasoning_tokens":20}}}"#;
    assert_eq!(usage(more_than_there_is), (0, 0, 5, 10, 0));
    let deepseek = r#"{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}}"#;
    assert_eq!(usage(deepseek), (36, 5, 0, 64, 0));
    let groq = r#"{"choices":[],"x_groq":{"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}}"#;
    assert_eq!(usage(groq), (7, 2, 0, 0, 0));
    let nulls = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":null,"prompt_tokens_details":null,"completion_tokens_details":null}}"#;
    assert_eq!(usage(nulls), (7, 0, 0, 0, 0));
    let last = chat(&[
        r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}"#,
        r#"{"choices":[],"usage":null}"#,
    ]);
    assert_eq!((report(&last).usage.output, report(&last).total), (9, Some(16)));
}

#[test]
fn a_reported_cost_is_read_in_every_unit() {
    let cost = |usage: &str| {
        let chunk = format!("{{\"choices\":[],\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":1,{usage}}}}}");
        report(&chat(&[&finish("stop"), &chunk])).cost_micros
    };
    assert_eq!(cost(r#""cost":0.0012"#), Some(1200));
    assert_eq!(cost(r#""cost":{"total_cost":0.00501}"#), Some(5010));
    assert_eq!(cost(r#""cost_in_usd_ticks":1330500"#), Some(133));
    assert_eq!(cost(r#""cost":0.0001,"is_byok":true,"cost_details":{"upstream_inference_cost":0.002}"#), Some(2100));
    assert_eq!(cost(r#""cost":null"#), None);
    assert_eq!(cost(r#""cost":-1"#), None);
}

// --- Anthropic ----------------------------------------------------------------------------------------------------

const START: &str = r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1,"cache_creation_input_tokens":30,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20}}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

fn ended(reason: &str) -> String {
    format!(
        "{{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{reason}\"}},\"usage\":{{\"output_tokens\":7}}}}"
    )
}

fn block(index: u32, start: &str, deltas: &[&str]) -> Vec<String> {
    let mut events = vec![format!("{{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{start}}}")];
    for delta in deltas {
        events.push(format!("{{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{delta}}}"));
    }
    events.push(format!("{{\"type\":\"content_block_stop\",\"index\":{index}}}"));
    events
}

fn message(blocks: &[Vec<String>], reason: &str) -> Vec<Event> {
    let end = ended(reason);
    let mut events = vec![START];
    events.extend(blocks.iter().flatten().map(String::as_str));
    events.extend([end.as_str(), STOP]);
    claude(&events)
}

fn said(index: u32, words: &str) -> Vec<String> {
    block(index, r#"{"type":"text","text":""}"#, &[&format!("{{\"type\":\"text_delta\",\"text\":\"{words}\"}}")])
}

fn called(index: u32, fragments: &[&str]) -> Vec<String> {
    let deltas: Vec<String> = fragments
        .iter()
        .map(|fragment| {
            let fragment = serde_json::Value::from(*fragment);
            format!("{{\"type\":\"input_json_delta\",\"partial_json\":{fragment}}}")
        })
        .collect();
    let deltas: Vec<&str> = deltas.iter().map(String::as_str).collect();
    block(index, r#"{"type":"tool_use","id":"toolu_1","name":"f","input":{},"caller":{"type":"direct"}}"#, &deltas)
}

#[test]
fn the_last_message_delta_wins_field_by_field_and_nulls_say_nothing() {
    let events = claude(&[
        START,
        r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"input_tokens":31772,"cache_read_input_tokens":null,"output_tokens":5}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9,"output_tokens_details":{"thinking_tokens":4}}}"#,
        STOP,
    ]);
    let usage = report(&events).usage;
    assert_eq!((usage.input, usage.output, usage.reasoning), (31772, 5, 4));
    assert_eq!((usage.cache_write, usage.cache_write_long, usage.cache_read), (10, 20, 0));
    assert!(!report(&events).more);
    let more = claude(&[
        START,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9,"iterations":[{"type":"compaction","input_tokens":5},{"type":"message","input_tokens":5}]}}"#,
        STOP,
    ]);
    assert!(report(&more).more);
}

#[test]
fn a_call_is_whole_by_what_follows_it() {
    let input = ["{\"x\":", " 1}"];
    assert_eq!(calls(&message(&[called(0, &input)], "tool_use"))[0].1.as_deref(), Some("{\"x\": 1}"));
    assert_eq!(calls(&message(&[called(0, &[])], "tool_use"))[0].1.as_deref(), Some("{}"));
    assert_eq!(calls(&message(&[called(0, &input)], "max_tokens"))[0].1, None);
    assert_eq!(calls(&message(&[called(0, &input[..1])], "tool_use"))[0].1, None);
    let two = calls(&message(&[called(0, &input), called(1, &input)], "max_tokens"));
    assert!(two[0].1.is_some() && two[1].1.is_none());
    // A lost link right after the block's end.
    let mut cut = vec![START.to_owned()];
    cut.extend(called(0, &input));
    let cut: Vec<&str> = cut.iter().map(String::as_str).collect();
    assert_eq!(calls(&claude(&cut))[0].1, None);
}

#[test]
fn a_block_whose_end_was_lost_ends_where_the_next_begins() {
    let mut events = vec![START.to_owned()];
    let mut first = said(0, "a");
    first.pop();
    events.extend(first);
    events.extend(said(1, "b"));
    events.extend([ended("end_turn"), STOP.into()]);
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let events = claude(&events);
    let spoken: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::Text(_) | Event::PartDone)).collect();
    assert_eq!(spoken, [&Event::Text("a".into()), &Event::PartDone, &Event::Text("b".into()), &Event::PartDone]);
}

#[test]
fn unknown_events_blocks_deltas_and_fields_end_nothing_and_go_back() {
    let strange = block(
        1,
        r#"{"type":"weather_report","temperature":1.50,"note":"a"}"#,
        &[r#"{"type":"weather_delta","note":"b","wind":[3]}"#],
    );
    let mut events = vec![START.to_owned(), r#"{"type":"something_new","x":1}"#.into()];
    events.extend(said(0, "hello"));
    events.extend(strange);
    events.extend([ended("end_turn"), STOP.into()]);
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let events = claude(&events);
    assert_eq!((text(&events).as_str(), failure(&events)), ("hello", None));
    assert_eq!(opaque(&events), [r#"{"type":"weather_report","temperature":1.50,"note":"ab","wind":[3]}"#]);
}

#[test]
fn signatures_citations_and_redacted_blocks_are_kept_as_they_came() {
    let events = message(
        &[
            block(
                0,
                r#"{"type":"thinking","thinking":"","signature":""}"#,
                &[r#"{"type":"thinking_delta","thinking":"hm"}"#, r#"{"type":"signature_delta","signature":"SIG="}"#],
            ),
            block(1, r#"{"type":"redacted_thinking","data":"RED="}"#, &[]),
            block(
                2,
                r#"{"type":"text","text":"","citations":[]}"#,
                &[r#"{"type":"citations_delta","citation":{"url":"u"}}"#, r#"{"type":"text_delta","text":"cited"}"#],
            ),
        ],
        "end_turn",
    );
    assert_eq!(
        opaque(&events),
        [r#"{"signature":"SIG="}"#, r#"{"type":"redacted_thinking","data":"RED="}"#, r#"{"citations":[{"url":"u"}]}"#]
    );
    // Thinking that was cut has no signature that counts.
    let cut = claude(&[
        START,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"half"}}"#,
    ]);
    assert_eq!((thinking(&cut).as_str(), opaque(&cut)), ("hm", vec![]));
}

#[test]
fn stop_reasons_have_their_class_and_a_refusal_its_explanation() {
    for (word, class) in [
        ("end_turn", Stop::End),
        ("stop_sequence", Stop::End),
        ("tool_use", Stop::ToolUse),
        ("max_tokens", Stop::Length),
        ("model_context_window_exceeded", Stop::Length),
        ("pause_turn", Stop::PauseTurn),
        ("refusal", Stop::Refusal),
        ("mood", Stop::Other),
    ] {
        assert_eq!(stop(&message(&[], word)), Some((class, Some(word.into()))));
    }
    let refused = r#"{"type":"message_delta","delta":{"stop_reason":"refusal","stop_details":{"explanation":"No."}}}"#;
    let events = claude(&[START, refused, STOP]);
    assert!(matches!(events.last(), Some(Event::Stopped { explanation: Some(why), .. }) if why == "No."));
}

#[test]
fn a_second_beginning_begins_the_message_anew() {
    let mut events = vec![START.to_owned()];
    events.extend(said(0, "void"));
    events.push(START.to_owned());
    events.extend(said(0, "hello"));
    events.extend([ended("end_turn"), STOP.into()]);
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let events = claude(&events);
    let last = events.iter().rposition(|event| *event == Event::Started).unwrap();
    assert_eq!(text(&events[last..]), "hello");
    assert_eq!(claude(&[START, START, &ended("end_turn"), STOP]).iter().filter(|e| **e == Event::Started).count(), 1);
}

#[test]
fn an_overload_in_mid_stream_is_transient_and_a_wrong_key_is_not() {
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    assert_eq!(failure(&claude(&[START, overloaded])), Some((Class::Overload, "Overloaded".into())));
    let key = r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#;
    assert_eq!(failure(&claude(&[key])).unwrap().0, Class::Key);
}

// --- Requests -----------------------------------------------------------------------------------------------------

fn conversation() -> Prompt {
    Prompt {
        model: "m".into(),
        preamble: Preamble {
            system: "Be brief.".into(),
            tools: vec![ToolDefinition {
                name: "f".into(),
                description: "Does f.".into(),
                schema: r#"{"type":"object","properties":{"n":{"const":1.50}}}"#.into(),
            }],
            ..Preamble::default()
        },
        entries: vec![
            Entry::User { text: "hi".into(), images: Vec::new() },
            Entry::Assistant {
                pieces: vec![
                    Piece::Thinking { text: "hm".into(), data: Some(r#"{"signature":"S="}"#.into()) },
                    Piece::Call { id: "c1".into(), name: "f".into(), input: "{\"x\": 1.0}".into(), data: None },
                ],
            },
            Entry::Results {
                results: vec![CallResult { id: "c1".into(), content: "no".into(), is_error: true, images: Vec::new() }],
            },
            Entry::Assistant { pieces: vec![Piece::Text { text: "so far ".into(), data: None }] },
        ],
        resume: None,
    }
}

fn json(bytes: Vec<u8>) -> serde_json::Value {
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_request_is_json_and_keeps_inputs_and_schemas_as_they_came() {
    for bytes in [anthropic::request(&conversation()), openai::request(&conversation(), openai::Dialect::default())] {
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains("1.50") && text.contains("1.0}"), "{text}");
        json(bytes);
    }
    let body = json(anthropic::request(&conversation()));
    assert_eq!(body["messages"][1]["content"][0]["signature"], "S=");
    assert_eq!(body["messages"][2]["content"][0]["is_error"], true);
    let body = json(openai::request(&conversation(), openai::Dialect::default()));
    assert_eq!(body["messages"][2]["tool_calls"][0]["function"]["arguments"], "{\"x\": 1.0}");
    assert_eq!(body["messages"][3]["tool_call_id"], "c1");
}

#[test]
fn a_cut_answer_is_prefilled_without_white_space_or_quoted() {
    let mut prompt = conversation();
    prompt.resume = Some(Resume::Prefill);
    let body = json(anthropic::request(&prompt));
    assert_eq!(body["messages"][3]["content"][0]["text"], "so far");
    prompt.resume = Some(Resume::Quote);
    for body in [json(anthropic::request(&prompt)), json(openai::request(&prompt, openai::Dialect::default()))] {
        let last = body["messages"].as_array().unwrap().last().unwrap();
        assert_eq!(last["role"], "user");
        assert!(last.to_string().contains("so far"));
    }
}

#[test]
fn an_answer_without_words_leaves_no_empty_message() {
    let prompt = Prompt {
        entries: vec![
            Entry::User { text: "hi".into(), images: Vec::new() },
            Entry::Assistant { pieces: vec![Piece::Thinking { text: "hm".into(), data: None }] },
            Entry::User { text: "still there?".into(), images: Vec::new() },
        ],
        ..conversation()
    };
    let body = json(openai::request(&prompt, openai::Dialect::default()));
    assert_eq!(body["messages"].as_array().unwrap().len(), 3);
}

#[test]
fn reasoning_goes_back_only_in_a_turn_with_calls() {
    let reasoned = |call: bool| {
        let mut pieces =
            vec![Piece::Thinking { text: "hm".into(), data: Some(r#"{"field":"reasoning_content"}"#.into()) }];
        if call {
            pieces.push(Piece::Call { id: "c".into(), name: "f".into(), input: "{}".into(), data: None });
        } else {
            pieces.push(Piece::Text { text: "ok".into(), data: None });
        }
        let prompt = Prompt {
            entries: vec![Entry::User { text: "hi".into(), images: Vec::new() }, Entry::Assistant { pieces }],
            ..conversation()
        };
        json(openai::request(&prompt, openai::Dialect::default()))["messages"][2]["reasoning_content"].clone()
    };
    assert_eq!(reasoned(true), "hm");
    assert_eq!(reasoned(false), serde_json::Value::Null);
}

#[test]
fn random_bytes_never_panic() {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    let mut stream: Vec<u8> = [START.to_owned()]
        .into_iter()
        .chain(said(0, "hello"))
        .chain(called(1, &["{}"]))
        .chain([
            delta(r#"{"content":"a","tool_calls":[{"index":0,"id":"a","function":{"name":"f"}}]}"#),
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"f"}}"#
                .into(),
            r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{}"}"#.into(),
            r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}},{"text":"a"}]}}]}"#.into(),
            r#"{"message":{"content":"a","thinking":"b","tool_calls":[{"function":{"name":"f"}}]},"done":false}"#
                .into(),
        ])
        .flat_map(|event| format!("data: {event}\n\n").into_bytes())
        .collect();
    for _ in 0..3000 {
        let at = random() % stream.len();
        let before = stream[at];
        stream[at] = b"{}[]\":,\n\r0\xff null"[random() % 16];
        for kind in [Kind::OpenAi, Kind::Anthropic, Kind::Responses, Kind::Gemini, Kind::Ollama] {
            read_in(kind, &stream, 1 + random() % 50);
        }
        if random() % 3 > 0 {
            stream[at] = before;
        }
    }
}
