//! Prompt → the body of a chat request.

use crate::providers::json::{Object, array, is_object, quoted};
use crate::providers::prompt::{Entry, Image, Piece, Prompt, Resume, in_turn_with_calls};

/// The request's body. Messages come last, so that a longer conversation's request begins with a shorter one's bytes. A
/// last message of the assistant's is gone on with.
pub fn request(prompt: &Prompt) -> Vec<u8> {
    let preamble = &prompt.preamble;
    let options = Object::default()
        .raw_if("num_predict", preamble.max_tokens.map(|limit| limit.to_string()))
        .raw_if("temperature", preamble.temperature.map(|degree| degree.to_string()));
    let mut body = Object::default().text("model", &prompt.model).raw("stream", "true");
    body = body.raw_if("think", preamble.thinking.map(|tokens| (tokens > 0).to_string()));
    if !options.is_empty() {
        body = body.raw("options", &options.end());
    }
    if !preamble.tools.is_empty() {
        let tools = preamble.tools.iter().map(|tool| {
            let function = Object::default()
                .text("name", &tool.name)
                .text("description", &tool.description)
                .raw("parameters", &tool.schema)
                .end();
            Object::default().text("type", "function").raw("function", &function).end()
        });
        body = body.raw("tools", &array(&tools.collect::<Vec<_>>()));
    }
    let mut messages = Vec::new();
    if !preamble.system.trim().is_empty() {
        messages.push(message("system", &preamble.system).end());
    }
    let mut names = Vec::new();
    for (index, entry) in prompt.entries.iter().enumerate() {
        write_entry(entry, in_turn_with_calls(&prompt.entries, index), &mut names, &mut messages);
    }
    if prompt.resume == Some(Resume::Quote)
        && let Some(quote) = prompt.quote()
    {
        messages.push(message("user", &quote).end());
    }
    body.raw("messages", &array(&messages)).end().into_bytes()
}

fn message(role: &str, content: &str) -> Object {
    Object::default().text("role", role).text("content", content)
}

fn with_images(message: Object, images: &[Image]) -> String {
    match images.is_empty() {
        true => message.end(),
        false => {
            let images: Vec<String> = images.iter().map(|image| quoted(&image.base64())).collect();
            message.raw("images", &array(&images)).end()
        }
    }
}

fn write_entry<'a>(
    entry: &'a Entry,
    with_reasoning: bool,
    names: &mut Vec<(&'a str, &'a str)>,
    messages: &mut Vec<String>,
) {
    match entry {
        Entry::User { text, images } => messages.push(with_images(message("user", text), images)),
        Entry::Results { results } => messages.extend(results.iter().map(|result| {
            let name = names.iter().rev().find(|(id, _)| *id == result.id).map_or("", |(_, name)| name);
            with_images(message("tool", &result.content).text("tool_name", name), &result.images)
        })),
        Entry::Assistant { pieces } => {
            let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
            for piece in pieces {
                match piece {
                    Piece::Text { text: words, .. } => text.push_str(words),
                    Piece::Thinking { text: words, data: Some(_) } => thinking.push_str(words),
                    Piece::Call { id, name, input, .. } => {
                        names.push((id, name));
                        let arguments = match is_object(input) {
                            true => input.clone(),
                            false => Object::default().text("input", input).end(),
                        };
                        let function = Object::default().text("name", name).raw("arguments", &arguments).end();
                        calls.push(Object::default().raw("function", &function).end());
                    }
                    Piece::Thinking { data: None, .. } | Piece::Other { .. } => {}
                }
            }
            if text.trim().is_empty() && calls.is_empty() {
                return;
            }
            let mut said = message("assistant", &text);
            if with_reasoning && !thinking.is_empty() {
                said = said.text("thinking", &thinking);
            }
            if !calls.is_empty() {
                said = said.raw("tool_calls", &array(&calls));
            }
            messages.push(said.end());
        }
    }
}
