//! Prompt → the body of a messages request.

use crate::providers::json::{self, Object, array, fields};
use crate::providers::prompt::{Entry, Image, Piece, Prompt, Resume};

/// Anthropic wants a limit; newer models allow more, older ones refuse more than they have.
const MAX_TOKENS: u64 = 8192;
/// What is left for words beside the thinking.
const MIN_ANSWER: u64 = 4_096;

/// The request's body. Messages come last, so that a longer conversation's request begins with a shorter one's bytes.
pub fn request(prompt: &Prompt) -> Vec<u8> {
    // A budget is part of the limit, and has at least 1,024 tokens; with thinking the temperature can't be set
    // (https://docs.claude.com/en/docs/build-with-claude/extended-thinking).
    let thinking = prompt.preamble.thinking.filter(|tokens| *tokens > 0).map(|tokens| tokens.max(1_024));
    let limit = prompt.preamble.max_tokens.unwrap_or(MAX_TOKENS);
    let max_tokens = thinking.map_or(limit, |budget| limit.max(budget + MIN_ANSWER));
    let temperature = prompt.preamble.temperature.filter(|_| thinking.is_none());
    let mut body = Object::default()
        .text("model", &prompt.model)
        .raw("max_tokens", &max_tokens.to_string())
        .raw("stream", "true")
        .raw_if("temperature", temperature.map(|degree| degree.min(1.0).to_string()))
        .raw_if("thinking", thinking.map(|budget| format!(r#"{{"type":"enabled","budget_tokens":{budget}}}"#)))
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
        Entry::User { text: words, images } => {
            let mut blocks: Vec<String> = images.iter().map(image).collect();
            if !words.is_empty() {
                blocks.push(text(words));
            }
            ("user", blocks)
        }
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
                let block = Object::default().text("type", "tool_result").text("tool_use_id", &result.id);
                let block = match result.images.is_empty() {
                    true => block.text("content", &result.content),
                    false => {
                        let words = Some(&result.content).filter(|words| !words.is_empty()).map(|words| text(words));
                        let blocks: Vec<String> = words.into_iter().chain(result.images.iter().map(image)).collect();
                        block.raw("content", &array(&blocks))
                    }
                };
                if result.is_error { block.raw("is_error", "true").end() } else { block.end() }
            });
            ("user", blocks.collect())
        }
    };
    Object::default().text("role", role).raw("content", &array(&blocks)).end()
}

fn text(words: &str) -> String {
    Object::default().text("type", "text").text("text", words).end()
}

fn image(image: &Image) -> String {
    let source =
        Object::default().text("type", "base64").text("media_type", &image.mime).text("data", &image.base64()).end();
    Object::default().text("type", "image").raw("source", &source).end()
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
