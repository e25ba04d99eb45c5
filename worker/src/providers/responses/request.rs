//! Prompt → the body of a responses request.

use crate::providers::json::{Object, array, is_object};
use crate::providers::prompt::{Entry, Piece, Prompt, effort};

/// The request's body. The input comes last, so that a longer conversation's request begins with a shorter one's bytes.
/// `reasons`: whether encrypted reasoning is asked for, which models that don't reason refuse.
pub fn request(prompt: &Prompt, reasons: bool) -> Vec<u8> {
    let preamble = &prompt.preamble;
    // Models that reason have no temperature to set.
    let temperature = preamble.temperature.filter(|_| preamble.thinking.is_none_or(|tokens| tokens == 0));
    let mut body = Object::default().text("model", &prompt.model).raw("stream", "true").raw("store", "false");
    if reasons {
        body = body.raw("include", r#"["reasoning.encrypted_content"]"#);
    }
    body = body
        .raw_if("max_output_tokens", preamble.max_tokens.map(|limit| limit.to_string()))
        .raw_if("temperature", temperature.map(|degree| degree.to_string()));
    if let Some(tokens) = preamble.thinking.filter(|_| reasons) {
        let reasoning = Object::default().text("effort", effort(tokens));
        let reasoning = if tokens > 0 { reasoning.text("summary", "auto") } else { reasoning };
        body = body.raw("reasoning", &reasoning.end());
    }
    if !preamble.system.trim().is_empty() {
        body = body.text("instructions", &preamble.system);
    }
    if !preamble.tools.is_empty() {
        let tools = preamble.tools.iter().map(|tool| {
            Object::default()
                .text("type", "function")
                .text("name", &tool.name)
                .text("description", &tool.description)
                .raw("parameters", &tool.schema)
                .raw("strict", "false")
                .end()
        });
        body = body.raw("tools", &array(&tools.collect::<Vec<_>>()));
    }
    let mut input = Vec::new();
    prompt.entries.iter().for_each(|entry| write_entry(entry, &mut input));
    if prompt.resume.is_some()
        && let Some(quote) = prompt.quote()
    {
        input.push(message("user", &[text("input_text", &quote)]));
    }
    body.raw("input", &array(&input)).end().into_bytes()
}

fn message(role: &str, content: &[String]) -> String {
    Object::default().text("type", "message").text("role", role).raw("content", &array(content)).end()
}

fn text(kind: &str, text: &str) -> String {
    Object::default().text("type", kind).text("text", text).end()
}

fn image(image: &crate::providers::prompt::Image) -> String {
    Object::default().text("type", "input_image").text("image_url", &image.data_url()).end()
}

fn write_entry(entry: &Entry, input: &mut Vec<String>) {
    match entry {
        Entry::User { text: words, images } => {
            let mut content: Vec<String> = images.iter().map(image).collect();
            if !words.is_empty() {
                content.push(text("input_text", words));
            }
            input.push(message("user", &content));
        }
        Entry::Results { results } => input.extend(results.iter().map(|result| {
            let output = Object::default().text("type", "function_call_output").text("call_id", &result.id);
            match result.images.is_empty() {
                true => output.text("output", &result.content).end(),
                false => {
                    let words = [text("input_text", &result.content)].into_iter();
                    output
                        .raw("output", &array(&words.chain(result.images.iter().map(image)).collect::<Vec<_>>()))
                        .end()
                }
            }
        })),
        Entry::Assistant { pieces } => {
            for piece in pieces {
                match piece {
                    Piece::Text { text: words, .. } if words.trim().is_empty() => {}
                    Piece::Text { text: words, .. } => input.push(message("assistant", &[text("output_text", words)])),
                    Piece::Thinking { data: Some(data), .. } | Piece::Other { data } if is_object(data) => {
                        input.push(data.clone());
                    }
                    Piece::Call { id, name, input: arguments, .. } => input.push(
                        Object::default()
                            .text("type", "function_call")
                            .text("call_id", id)
                            .text("name", name)
                            .text("arguments", arguments)
                            .end(),
                    ),
                    Piece::Thinking { .. } | Piece::Other { .. } => {}
                }
            }
        }
    }
}
