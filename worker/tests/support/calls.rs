//! Models that call tools, agents that list them, and what the calls gave.

use serde_json::{Value, json};
use skein_engine::session::conversation::{Content, Conversation};
use skein_engine::workspace::WorkspaceCommand;

use super::model::{ModelServer, Script, openai, stream};
use super::{PATIENCE, Stage};

/// An answer that calls tools, one after the other.
pub fn calls(calls: &[(&str, Value)]) -> Script {
    let calls: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(index, (name, input))| {
            let function = json!({"name": name, "arguments": input.to_string()});
            json!({"index": index, "id": format!("call-{index}"), "type": "function", "function": function})
        })
        .collect();
    let delta = json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]});
    let stop = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]});
    stream([format!("data: {delta}\n\ndata: {stop}\n\ndata: [DONE]\n\n").as_bytes()])
}

/// An answer that says "done".
pub fn done() -> Script {
    stream([openai(&["done"], Some("stop")).as_bytes()])
}

/// A model that first calls these tools, and then says "done".
pub async fn model_that_calls(tools: &[(&str, Value)]) -> ModelServer {
    ModelServer::start(vec![calls(tools), done()]).await
}

/// Changes something of the workspace.
pub async fn change(stage: &Stage, command: Value) {
    let command: WorkspaceCommand = serde_json::from_value(command).unwrap();
    stage.person.act(|device, now| device.workspace_command(now, &command)).await.unwrap();
}

/// Sets fields of the default agent.
pub async fn set_agent(stage: &Stage, fields: Value) {
    let known = stage.person.until(PATIENCE, |device, _| {
        let document = device.identity()?.workspace_document;
        device.document(document).ok().map(|_| device.workspace().default_agent)
    });
    let agent = known.await.unwrap();
    change(stage, json!({"type": "set-agent", "agent": agent, "fields": fields})).await;
}

/// What calls gave, in order.
pub fn results(conversation: &Conversation) -> Vec<(String, bool)> {
    let parts = conversation.messages.iter().flat_map(|message| &message.parts);
    let results = parts.filter_map(|part| match &part.content {
        Content::ToolResult { content, is_error, .. } => Some((content.clone(), *is_error)),
        _ => None,
    });
    results.collect()
}
