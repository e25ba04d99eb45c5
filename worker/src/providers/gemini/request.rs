//! Prompt → the body of a generateContent request.

use std::collections::HashMap;

use crate::providers::json::{Object, array, is_object};
use crate::providers::prompt::{Entry, Image, Piece, Prompt};

/// The request's body. The contents come last, so that a longer conversation's request begins with a shorter one's
/// bytes.
pub fn request(prompt: &Prompt) -> Vec<u8> {
    let preamble = &prompt.preamble;
    let mut body = Object::default();
    if !preamble.system.trim().is_empty() {
        let system = Object::default().raw("parts", &array(&[text(&preamble.system)])).end();
        body = body.raw("systemInstruction", &system);
    }
    if !preamble.tools.is_empty() {
        let tools = preamble.tools.iter().map(|tool| {
            // JSON Schema as it is, `$ref` and all (https://ai.google.dev/api/caching#FunctionDeclaration).
            Object::default()
                .text("name", &tool.name)
                .text("description", &tool.description)
                .raw("parametersJsonSchema", &tool.schema)
                .end()
        });
        let declared = Object::default().raw("functionDeclarations", &array(&tools.collect::<Vec<_>>())).end();
        body = body.raw("tools", &array(&[declared]));
    }
    let thinking = preamble.thinking.map(|tokens| {
        let config = Object::default().raw("thinkingBudget", &tokens.to_string());
        if tokens > 0 { config.raw("includeThoughts", "true").end() } else { config.end() }
    });
    let config = Object::default()
        .raw_if("maxOutputTokens", preamble.max_tokens.map(|limit| limit.to_string()))
        .raw_if("temperature", preamble.temperature.map(|degree| degree.to_string()))
        .raw_if("thinkingConfig", thinking);
    if !config.is_empty() {
        body = body.raw("generationConfig", &config.end());
    }
    let mut names = HashMap::new();
    let mut contents: Vec<String> = prompt.entries.iter().map(|entry| content(entry, &mut names)).collect();
    if prompt.resume.is_some()
        && let Some(quote) = prompt.quote()
    {
        contents.push(of("user", &[text(&quote)]));
    }
    body.raw("contents", &array(&contents)).end().into_bytes()
}

fn of(role: &str, parts: &[String]) -> String {
    Object::default().text("role", role).raw("parts", &array(parts)).end()
}

fn text(text: &str) -> String {
    Object::default().text("text", text).end()
}

fn image(image: &Image) -> String {
    let data = Object::default().text("mimeType", &image.mime).text("data", &image.base64()).end();
    Object::default().raw("inlineData", &data).end()
}

/// One entry; `names` are those of the calls so far, by id.
fn content<'a>(entry: &'a Entry, names: &mut HashMap<&'a str, &'a str>) -> String {
    match entry {
        Entry::User { text: words, images } => {
            let mut parts: Vec<String> = images.iter().map(image).collect();
            if !words.is_empty() {
                parts.push(text(words));
            }
            of("user", &parts)
        }
        Entry::Results { results } => {
            let mut parts = Vec::new();
            for result in results {
                let key = if result.is_error { "error" } else { "result" };
                let response = Object::default().text(key, &result.content).end();
                let name = names.get(result.id.as_str()).copied().unwrap_or_default();
                let response = Object::default().text("name", name).raw("response", &response).end();
                parts.push(Object::default().raw("functionResponse", &response).end());
                parts.extend(result.images.iter().map(image));
            }
            of("user", &parts)
        }
        Entry::Assistant { pieces } => {
            let parts = pieces.iter().filter_map(|piece| match piece {
                Piece::Text { text: words, data: None } if words.is_empty() => None,
                Piece::Text { text: words, data } | Piece::Thinking { text: words, data: data @ Some(_) } => {
                    let part = Object::default().text("text", words);
                    Some(part.fields_of(data.as_deref().unwrap_or_default()).end())
                }
                Piece::Thinking { .. } => None,
                Piece::Call { id, name, input, data } => {
                    names.insert(id, name);
                    let args = match is_object(input) {
                        true => input.clone(),
                        false => Object::default().text("input", input).end(),
                    };
                    let call = Object::default().text("name", name).raw("args", &args).end();
                    let part = Object::default().raw("functionCall", &call);
                    Some(part.fields_of(data.as_deref().unwrap_or_default()).end())
                }
                Piece::Other { data } => is_object(data).then(|| data.clone()),
            });
            of("model", &parts.collect::<Vec<_>>())
        }
    }
}
