//! Prompt → the body of a chat completions request.

use serde_json::{Map, Value};

use super::details::Details;
use crate::providers::json::{Object, array, quoted};
use crate::providers::prompt::{Entry, Image, Piece, Prompt, Resume, effort, in_turn_with_calls};

/// The request's body. Messages come last, so that a longer conversation's request begins with a shorter one's bytes.
/// A provider of this kind has no prefill: a cut answer is always taken up by quoting it.
pub fn request(prompt: &Prompt, dialect: Dialect) -> Vec<u8> {
    let limit = if dialect.completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    let effort = prompt.preamble.thinking.filter(|_| dialect.effort).map(|tokens| quoted(effort(tokens)));
    // Models that reason have no temperature to set.
    let temperature = prompt.preamble.temperature.filter(|_| prompt.preamble.thinking.is_none_or(|tokens| tokens == 0));
    let mut body = Object::default()
        .text("model", &prompt.model)
        .raw("stream", "true")
        .raw_if("stream_options", dialect.usage.then(|| r#"{"include_usage":true}"#.to_owned()))
        .raw_if(limit, prompt.preamble.max_tokens.map(|limit| limit.to_string()))
        .raw_if("temperature", temperature.map(|degree| degree.to_string()))
        .raw_if("reasoning_effort", effort);
    if !prompt.preamble.tools.is_empty() {
        let tools: Vec<String> = prompt
            .preamble
            .tools
            .iter()
            .map(|tool| {
                let function = Object::default()
                    .text("name", &tool.name)
                    .text("description", &tool.description)
                    .raw("parameters", &tool.schema)
                    .end();
                Object::default().text("type", "function").raw("function", &function).end()
            })
            .collect();
        body = body.raw("tools", &array(&tools));
    }
    let mut messages = Vec::new();
    if !prompt.preamble.system.trim().is_empty() {
        messages.push(Object::default().text("role", "system").text("content", &prompt.preamble.system).end());
    }
    for (index, entry) in prompt.entries.iter().enumerate() {
        write_entry(entry, in_turn_with_calls(&prompt.entries, index), &mut messages);
    }
    if prompt.resume.is_some_and(|resume| matches!(resume, Resume::Quote | Resume::Prefill))
        && let Some(quote) = prompt.quote()
    {
        messages.push(Object::default().text("role", "user").text("content", &quote).end());
    }
    body.raw("messages", &array(&messages)).end().into_bytes()
}

/// What a compatible server is asked for beside an answer; some refuse the one or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Usage at the stream's end.
    pub usage: bool,
    /// The token limit under its newer name, which OpenAI's reasoning models insist on.
    pub completion_tokens: bool,
    /// How much to reason, where the agent says it; models that don't reason refuse it.
    pub effort: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { usage: true, completion_tokens: false, effort: true }
    }
}

fn user(text: &str, images: &[Image]) -> String {
    let message = Object::default().text("role", "user");
    if images.is_empty() {
        return message.text("content", text).end();
    }
    let mut parts: Vec<String> = images
        .iter()
        .map(|image| {
            let url = Object::default().text("url", &image.data_url()).end();
            Object::default().text("type", "image_url").raw("image_url", &url).end()
        })
        .collect();
    if !text.is_empty() {
        parts.push(Object::default().text("type", "text").text("text", text).end());
    }
    message.raw("content", &array(&parts)).end()
}

fn write_entry(entry: &Entry, with_reasoning: bool, messages: &mut Vec<String>) {
    match entry {
        Entry::User { text, images } => messages.push(user(text, images)),
        Entry::Results { results } => {
            messages.extend(results.iter().map(|result| {
                Object::default()
                    .text("role", "tool")
                    .text("tool_call_id", &result.id)
                    .text("content", &result.content)
                    .end()
            }));
            // A tool's message holds no pictures here: a person's message after it does.
            let images: Vec<Image> = results.iter().flat_map(|result| result.images.iter().cloned()).collect();
            if !images.is_empty() {
                messages.push(user("The pictures that the tool gave:", &images));
            }
        }
        Entry::Assistant { pieces } => {
            let mut text = String::new();
            let mut reasoning = String::new();
            let mut details = Details::default();
            let mut calls = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Text { text: words, .. } => text.push_str(words),
                    Piece::Thinking { text, data: Some(data) } => {
                        let data: Map<String, Value> = serde_json::from_str(data).unwrap_or_default();
                        if data.get("field").and_then(Value::as_str) == Some("reasoning_content") {
                            reasoning.push_str(text);
                        }
                        details.merge(data.get("reasoning_details"));
                    }
                    Piece::Call { id, name, input, data } => {
                        let function = Object::default().text("name", name).text("arguments", input).end();
                        let call = Object::default().text("id", id).text("type", "function").raw("function", &function);
                        calls.push(call.fields_of(data.as_deref().unwrap_or_default()).end());
                    }
                    Piece::Thinking { data: None, .. } | Piece::Other { .. } => {}
                }
            }
            if text.trim().is_empty() && calls.is_empty() {
                return;
            }
            let mut message = Object::default().text("role", "assistant");
            message = match text.is_empty() {
                true => message.raw("content", "null"),
                false => message.text("content", &text),
            };
            if with_reasoning && !reasoning.is_empty() {
                message = message.text("reasoning_content", &reasoning);
            }
            message = message.raw_if("reasoning_details", details.json());
            if !calls.is_empty() {
                message = message.raw("tool_calls", &array(&calls));
            }
            messages.push(message.end());
        }
    }
}
