//! Stream of chunks → events.

use serde_json::{Map, Value};
use skein_engine::session::model::Usage;

use crate::providers::event::{Event, Report, Stop};
use crate::providers::failure::{Class, Failure};
use crate::providers::sse::Frame;

/// Events of one answer.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    open: Option<Open>,
    calls: usize,
    /// The last call: whole, unless the answer was cut just there.
    last_call: Option<(usize, String)>,
    usage: Option<Report>,
    stop: Option<String>,
    explanation: Option<String>,
    finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
}

impl Reader {
    /// Never: more may follow a finish reason.
    pub fn over(&self) -> bool {
        false
    }

    /// Never, for the same reason.
    pub fn stopped(&self) -> bool {
        false
    }

    /// Takes one event of the stream; an answer that doesn't stream is an array of them.
    pub fn frame(&mut self, frame: &Frame, out: &mut Vec<Event>) {
        match serde_json::from_str::<Value>(&frame.data) {
            Ok(Value::Array(chunks)) => chunks.iter().for_each(|chunk| self.chunk(chunk, out)),
            Ok(chunk) => self.chunk(&chunk, out),
            Err(_) => {}
        }
    }

    /// The connection has ended.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if !self.started {
            out.push(Event::Failed(Failure::new(Class::BadAnswer, "The model's server sent an empty answer.")));
            return;
        }
        self.close(out);
        if self.stop.as_deref().is_some_and(|word| class_of(word).completes_calls()) {
            self.end_call(out);
        }
        out.extend(self.usage.take().map(Event::Usage));
        match self.end() {
            Some(stopped) => out.push(stopped),
            None => out.push(Event::Failed(Failure::new(Class::Cut, "the stream ended before the model was done"))),
        }
    }

    fn end(&mut self) -> Option<Event> {
        let word = self.stop.take()?;
        Some(Event::Stopped { class: class_of(&word), word: Some(word), explanation: self.explanation.take() })
    }

    fn chunk(&mut self, chunk: &Value, out: &mut Vec<Event>) {
        if chunk.get("error").is_some_and(|error| !error.is_null()) {
            self.close(out);
            out.extend(self.end());
            out.push(Event::Failed(Failure::of_body(None, chunk)));
            return;
        }
        // Some gateways wrap a chunk.
        let chunk = chunk.get("response").filter(|inner| inner.get("candidates").is_some()).unwrap_or(chunk);
        if let Some(usage) = chunk.get("usageMetadata").and_then(report) {
            self.usage = Some(usage);
        }
        let known = ["candidates", "promptFeedback", "usageMetadata", "responseId", "modelVersion"];
        if known.iter().any(|key| chunk.get(key).is_some()) && !std::mem::replace(&mut self.started, true) {
            out.push(Event::Started);
        }
        let feedback = chunk.get("promptFeedback");
        if let Some(reason) = feedback.and_then(|feedback| feedback.get("blockReason")).and_then(Value::as_str) {
            let message = feedback.and_then(|feedback| feedback.get("blockReasonMessage")).and_then(Value::as_str);
            self.explanation = Some(message.unwrap_or("The prompt was blocked.").to_owned());
            self.stop = Some(reason.to_owned());
        }
        let candidate = chunk.get("candidates").and_then(Value::as_array).and_then(|all| all.first());
        let Some(candidate) = candidate else { return };
        let parts = candidate.get("content").and_then(|content| content.get("parts")).and_then(Value::as_array);
        for part in parts.into_iter().flatten().filter_map(Value::as_object) {
            self.part(part, out);
        }
        if let Some(word) = candidate.get("finishReason").and_then(Value::as_str).filter(|word| !word.is_empty()) {
            self.stop = Some(word.to_owned());
            let message = candidate.get("finishMessage").and_then(Value::as_str);
            self.explanation = message.filter(|_| class_of(word) != Stop::End).map(str::to_owned);
        }
    }

    fn part(&mut self, part: &Map<String, Value>, out: &mut Vec<Event>) {
        self.end_call(out);
        let signature = part.get("thoughtSignature").or(part.get("thought_signature")).and_then(Value::as_str);
        if let Some(call) = part.get("functionCall").and_then(Value::as_object) {
            return self.call(call, signature, out);
        }
        let Some(text) = part.get("text").and_then(Value::as_str) else {
            let kind = part.keys().find(|key| !matches!(key.as_str(), "thoughtSignature" | "thought"));
            if let Some(kind) = kind {
                self.close(out);
                let summary = words(kind);
                out.push(Event::Other { summary, data: Value::Object(part.clone()).to_string() });
            }
            return;
        };
        let thought = part.get("thought").and_then(Value::as_bool).unwrap_or_default();
        let what = if thought { Open::Thinking } else { Open::Text };
        if text.is_empty() {
            // A signature by itself is a part by itself: it goes back on empty text.
            if signature.is_some() {
                self.close(out);
            }
        } else {
            if self.open != Some(what) {
                self.close(out);
                self.open = Some(what);
            }
            out.push(match what {
                Open::Text => Event::Text(text.to_owned()),
                Open::Thinking => Event::Thinking(text.to_owned()),
            });
        }
        if let Some(signature) = signature {
            let mut data = Map::new();
            if thought {
                data.insert("thought".into(), true.into());
            }
            data.insert("thoughtSignature".into(), signature.into());
            self.open = None;
            out.push(Event::Opaque { call: None, data: Value::Object(data).to_string() });
            out.push(Event::PartDone);
        }
    }

    /// Calls come whole.
    fn call(&mut self, call: &Map<String, Value>, signature: Option<&str>, out: &mut Vec<Event>) {
        self.close(out);
        let index = self.calls;
        self.calls += 1;
        let word = |key: &str| call.get(key).and_then(Value::as_str).filter(|word| !word.is_empty()).map(str::to_owned);
        out.push(Event::CallStarted { index, provider_id: word("id"), name: word("name").unwrap_or_default() });
        let input = match call.get("args") {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(args) => args.to_string(),
        };
        out.push(Event::CallInput { index, fragment: input.clone() });
        if let Some(signature) = signature {
            let data = Map::from_iter([("thoughtSignature".to_owned(), Value::from(signature))]);
            out.push(Event::Opaque { call: Some(index), data: Value::Object(data).to_string() });
        }
        self.last_call = Some((index, input));
    }

    /// What follows a call says that it was whole.
    fn end_call(&mut self, out: &mut Vec<Event>) {
        out.extend(self.last_call.take().map(|(index, input)| Event::CallDone { index, input }));
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        if self.open.take().is_some() {
            out.push(Event::PartDone);
        }
    }
}

/// `executableCode` → `executable code`.
fn words(key: &str) -> String {
    let mut words = String::new();
    for letter in key.chars() {
        if letter.is_uppercase() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

fn class_of(word: &str) -> Stop {
    match word {
        "STOP" => Stop::End,
        "MAX_TOKENS" => Stop::Length,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY" | "LANGUAGE" => {
            Stop::ContentFilter
        }
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" => Stop::Interrupted,
        _ => Stop::Other,
    }
}

fn report(usage: &Value) -> Option<Report> {
    let number = |key: &str| usage.get(key).and_then(Value::as_u64);
    let (prompt, candidates) = (number("promptTokenCount"), number("candidatesTokenCount"));
    let total = number("totalTokenCount");
    if prompt.is_none() && candidates.is_none() && total.is_none() {
        return None;
    }
    let prompt = prompt.unwrap_or(0);
    let cache_read = number("cachedContentTokenCount").unwrap_or(0).min(prompt);
    Some(Report {
        usage: Usage {
            input: (prompt - cache_read).saturating_add(number("toolUsePromptTokenCount").unwrap_or(0)),
            output: candidates.unwrap_or(0),
            reasoning: number("thoughtsTokenCount").unwrap_or(0),
            cache_read,
            ..Usage::default()
        },
        total,
        ..Report::default()
    })
}
