//! Prompt → the body of a messages request.

use crate::providers::json::{self, Object, array, fields};
use crate::providers::prompt::{Entry, Piece, Prompt, Resume};

/// Anthropic wants a limit; newer models allow more, older ones refuse more than they have.
const MAX_TOKENS: u64 = 8192;

/// The request's body. Messages come last, so that a longer conversation's request begins with a shorter one's bytes.
pub fn request(prompt: &Prompt) -> Vec<u8> {
    let mut body = Object::default()
        .text("model", &prompt.model)
        .raw("max_tokens", &prompt.preamble.max_tokens.unwrap_or(MAX_TOKENS).to_string())
        .raw("stream", "true")
        // The provider moves the cache's mark along by itself; a mark on a message would change that message's bytes.
        .raw("cache_control", r#"{"type":"ephemeral"}"#);
    if !prompt.preamble.system.trim().is_empty() {
        body = body.text("system", &prompt.preamble.system);
    }
    if !prompt.preamble.tools.is_empty() {
        let tools: Vec<String> = prompt
            .preamble
            .tools
            .iter()
            .map(|tool| {
                Object::default()
                    .text("name", &tool.name)
                    .text("description", &tool.description)
                    .raw("input_schema", &tool.schema)
                    .end()
            })
            .collect();
        body = body.raw("tools", &array(&tools));
    }
    let last = prompt.entries.len().saturating_sub(1);
    let mut messages: Vec<String> = prompt
        .entries
        .iter()
        .enumerate()
        .map(|(index, entry)| message(entry, index == last && prompt.resume == Some(Resume::Prefill)))
        .collect();
    if prompt.resume == Some(Resume::Quote)
        && let Some(quote) = prompt.quote()
    {
        messages.push(message(&Entry::User { text: quote, images: Vec::new() }, false));
    }
    body.raw("messages", &array(&messages)).end().into_bytes()
}

fn message(entry: &Entry, prefill: bool) -> String {
    let (role, blocks): (_, Vec<String>) = match entry {
        Entry::User { text, .. } => ("user", vec![Object::default().text("type", "text").text("text", text).end()]),
        Entry::Assistant { pieces } => {
            let last = pieces.len().saturating_sub(1);
            let blocks = pieces.iter().enumerate().filter_map(|(index, piece)| match piece {
                // A prefill must not end with white space.
                Piece::Text { text, .. } if prefill && index == last => {
                    block(&Piece::Text { text: text.trim_end().to_owned(), data: None })
                }
                piece => block(piece),
            });
            ("assistant", blocks.collect())
        }
        Entry::Results { results } => {
            let blocks = results.iter().map(|result| {
                let block = Object::default()
                    .text("type", "tool_result")
                    .text("tool_use_id", &result.id)
                    .text("content", &result.content);
                if result.is_error { block.raw("is_error", "true").end() } else { block.end() }
            });
            ("user", blocks.collect())
        }
    };
    Object::default().text("role", role).raw("content", &array(&blocks)).end()
}

fn block(piece: &Piece) -> Option<String> {
    match piece {
        Piece::Text { text, .. } if text.trim().is_empty() => None,
        Piece::Text { text, data } => {
            let block = Object::default().text("type", "text").text("text", text);
            Some(block.fields_of(data.as_deref().unwrap_or_default()).end())
        }
        Piece::Thinking { text, data } => {
            let data = data.as_deref()?;
            // A whole block (redacted thinking) names its type.
            if fields(data).iter().any(|(key, _)| key == "type") {
                return Some(data.to_owned());
            }
            Some(Object::default().text("type", "thinking").text("thinking", text).fields_of(data).end())
        }
        Piece::Call { id, name, input, data } => {
            // Anything but an object would be refused, with the whole conversation.
            let input = match json::is_object(input) {
                true => input.clone(),
                false => Object::default().text("input", input).end(),
            };
            let call =
                Object::default().text("type", "tool_use").text("id", id).text("name", name).raw("input", &input);
            Some(call.fields_of(data.as_deref().unwrap_or_default()).end())
        }
        Piece::Other { data } => json::is_object(data).then(|| data.clone()),
    }
}
