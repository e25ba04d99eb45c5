//! A session that changes its provider and comes back: calls and results go along, what only one provider can read goes
//! back to that one alone, and every request is one that its provider takes.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use skein_engine::session::Command;
use skein_engine::session::conversation::{Conversation, TurnState};
use skein_worker::Settings;
use support::model::{ModelServer, Script, openai, stream};
use support::{Stage, answer};

fn settings(name: &str, kind: &str, model: &str, server: &ModelServer) -> Settings {
    Settings::from_toml(&format!(
        "[worker]\nmodel = \"{name}/{model}\"\n[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \
         \"http://{}/v1\"\n",
        server.address
    ))
    .unwrap()
}

fn claude(blocks: &[(&str, &[&str])], stop: &str) -> Script {
    let mut text = String::from("data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\n");
    for (index, (block, deltas)) in blocks.iter().enumerate() {
        text += &format!("data: {{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{block}}}\n\n");
        for delta in *deltas {
            text += &format!("data: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{delta}}}\n\n");
        }
        text += &format!("data: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n");
    }
    text += &format!(
        "data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{stop}\"}},\"usage\":{{\"output_tokens\":2}}}}\n\n"
    );
    text += "data: {\"type\":\"message_stop\"}\n\n";
    stream([text.as_bytes()])
}

fn says(words: &str) -> Script {
    claude(&[(&format!("{{\"type\":\"text\",\"text\":\"{words}\"}}"), &[])], "end_turn")
}

fn answered(turns: usize, words: &str) -> impl Fn(&Conversation) -> Option<()> {
    move |conversation| {
        let done = conversation.turns.len() == turns
            && conversation.turns.last().is_some_and(|turn| turn.state == TurnState::Completed);
        (done && answer(conversation).ends_with(words)).then_some(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_from_anthropic_to_openai_and_back() {
    let stage = Stage::new().await;
    let first = ModelServer::start(vec![
        claude(
            &[
                (
                    r#"{"type":"thinking","thinking":"","signature":""}"#,
                    &[
                        r#"{"type":"thinking_delta","thinking":"Deep thoughts"}"#,
                        r#"{"type":"signature_delta","signature":"SIG1="}"#,
                    ],
                ),
                (r#"{"type":"redacted_thinking","data":"RED1="}"#, &[]),
                (
                    r#"{"type":"tool_use","id":"toolu_1","name":"lookup","input":{}}"#,
                    &[r#"{"type":"input_json_delta","partial_json":"{\"x\": 1.0}"}"#],
                ),
            ],
            "tool_use",
        ),
        says("First."),
    ])
    .await;
    let worker = stage.worker(settings("claude", "anthropic", "claude-sonnet-4-5", &first));
    let session = stage.new_session("One").await;
    stage.command(session, Command::Rename { name: "Changing".into() }).await;
    stage.until(session, "the first answer", answered(1, "First.")).await;
    worker.stop().await;

    let called = concat!(
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"Other thoughts\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"function\":",
        "{\"name\":\"lookup\",\"arguments\":\"{\\\"y\\\": 2.0}\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n"
    );
    let second =
        ModelServer::start(vec![stream([called.as_bytes()]), stream([openai(&["Second."], Some("stop")).as_bytes()])])
            .await;
    let worker = stage.worker(settings("gpt", "openai", "gpt-5", &second));
    stage.send(session, "Two").await;
    stage.until(session, "the second answer", answered(2, "Second.")).await;
    worker.stop().await;
    for body in second.bodies() {
        let read: Value = serde_json::from_str(&body).unwrap();
        let messages = read["messages"].as_array().unwrap();
        for strange in ["SIG1=", "RED1=", "Deep thoughts", "toolu_1"] {
            assert!(!body.contains(strange), "{strange}: {body}");
        }
        let at = messages.iter().position(|message| message["tool_calls"].is_array()).unwrap();
        let call = &messages[at]["tool_calls"][0];
        assert_eq!(call["function"]["arguments"], "{\"x\": 1.0}");
        assert_eq!((&messages[at + 1]["role"], &messages[at + 1]["tool_call_id"]), (&Value::from("tool"), &call["id"]));
    }
    let own = &second.bodies()[1];
    assert!(own.contains("call_1") && own.contains("Other thoughts"), "{own}");

    let third = ModelServer::start(vec![says("Third.")]).await;
    let _worker = stage.worker(settings("claude", "anthropic", "claude-opus-4-1", &third));
    stage.send(session, "Three").await;
    stage.until(session, "the third answer", answered(3, "Third.")).await;
    let body = &third.bodies()[0];
    let read: Value = serde_json::from_str(body).unwrap();
    assert!(!body.contains("call_1") && !body.contains("Other thoughts"), "{body}");
    let messages = read["messages"].as_array().unwrap();
    let own = &messages[1]["content"];
    assert_eq!((&own[0]["thinking"], &own[0]["signature"]), (&Value::from("Deep thoughts"), &Value::from("SIG1=")));
    assert_eq!((&own[1]["data"], &own[2]["id"]), (&Value::from("RED1="), &Value::from("toolu_1")));
    // Roles alternate, and every call has its result in the message after it.
    for pair in messages.windows(2) {
        assert_ne!(pair[0]["role"], pair[1]["role"], "{body}");
        let calls = pair[0]["content"].as_array().unwrap().iter().filter(|block| block["type"] == "tool_use");
        for call in calls {
            let results = pair[1]["content"].as_array().unwrap();
            assert!(results.iter().any(|result| result["tool_use_id"] == call["id"]), "{body}");
        }
    }
    assert_eq!(messages.len(), 9, "{body}");
    // The first turn's messages are the bytes that its provider already had.
    let before = first.bodies()[1].split_once("\"messages\":").unwrap().1.to_owned();
    assert!(body.contains(before.strip_suffix("]}").unwrap()), "{before}\n{body}");
}
