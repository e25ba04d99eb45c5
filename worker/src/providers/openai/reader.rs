//! Stream of chunks → events.

use serde_json::{Map, Value};

use super::details::Details;
use super::usage::report;
use crate::providers::event::{Event, Stop};
use crate::providers::failure::{Class, Failure};
use crate::providers::json::Object;
use crate::providers::sse::Frame;

/// Fields of a delta, and of a chunk, that are read, or say nothing worth keeping.
const DELTA_KNOWN: [&str; 12] = [
    "role",
    "content",
    "refusal",
    "tool_calls",
    "function_call",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "channel",
    "id",
    "name",
    "tool_call_id",
];
const CHUNK_KEPT: [&str; 3] = ["citations", "search_results", "images"];

/// Events of one answer.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    /// Deltas have come.
    streamed: bool,
    open: Option<Open>,
    reasoning_field: Option<&'static str>,
    details: Details,
    calls: Vec<Call>,
    refusal: String,
    kept: Map<String, Value>,
    stop: Option<String>,
    done: bool,
    finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
}

#[derive(Debug)]
struct Call {
    index: Option<u64>,
    id: Option<String>,
    name: String,
    input: String,
    extras: Map<String, Value>,
}

impl Reader {
    /// Whether `[DONE]` has come.
    pub fn over(&self) -> bool {
        self.done
    }

    /// Whether a finish reason has come.
    pub fn stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Takes one event of the stream.
    pub fn frame(&mut self, frame: &Frame, out: &mut Vec<Event>) {
        if frame.data.trim() == "[DONE]" {
            self.begin(out);
            self.done = true;
            return;
        }
        let Ok(chunk) = serde_json::from_str::<Value>(&frame.data) else {
            if frame.name == "error" {
                out.push(Event::Failed(Failure::of_body(None, &Value::String(frame.data.clone()))));
            }
            return;
        };
        // One answer was asked for: some servers spread it over several choices of the same index.
        let choices = chunk.get("choices").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let first = choices.first().and_then(|choice| choice.get("index"));
        for choice in choices.iter().filter(|choice| choice.get("index") == first) {
            self.begin(out);
            self.choice(choice, out);
        }
        let choice = choices.first();
        let usage = [
            chunk.get("usage"),
            chunk.get("x_groq").and_then(|groq| groq.get("usage")),
            choice.and_then(|choice| choice.get("usage")),
        ];
        if let Some(usage) = usage.into_iter().flatten().find_map(report) {
            self.begin(out);
            out.push(Event::Usage(usage));
        }
        for key in CHUNK_KEPT {
            if let Some(value) = chunk.get(key) {
                self.keep(key, value);
            }
        }
        let error = [Some(&chunk), choice].into_iter().flatten().find(|holder| is_error(holder.get("error")));
        let complaint = chunk
            .get("base_resp")
            .filter(|one| one.get("status_code").and_then(Value::as_i64).is_some_and(|code| code != 0));
        if let Some(holder) = error.or(complaint) {
            out.push(Event::Failed(Failure::of_body(None, holder)));
        } else if choice.is_none() && !self.is_harmless(&chunk, &frame.name) {
            out.push(Event::Failed(Failure::of_body(None, &chunk)));
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
        if let Some(details) = self.details.json() {
            let data = Object::default().raw("reasoning_details", &details).end();
            out.push(Event::Opaque { call: None, data });
            out.push(Event::PartDone);
            self.details = Details::default();
        }
        let complete = self.done || self.stop.is_some();
        let mut class = self.stop.as_deref().map_or(Stop::End, class_of);
        let last = self.calls.len().saturating_sub(1);
        for (index, call) in self.calls.iter().enumerate() {
            if !call.extras.is_empty() {
                let data = serde_json::to_string(&call.extras).expect("values are always JSON");
                out.push(Event::Opaque { call: Some(index), data });
            }
            let whole = index < last || (complete && class.completes_calls());
            if whole && let Some(input) = call.whole_input() {
                out.push(Event::CallDone { index, input });
            }
        }
        for (key, value) in std::mem::take(&mut self.kept) {
            let summary = match value.as_array() {
                Some(items) => format!("{}: {}", key.replace('_', " "), items.len()),
                None => key.replace('_', " "),
            };
            let value = Map::from_iter([(key, value)]);
            let data = serde_json::to_string(&value).expect("values are always JSON");
            out.push(Event::Other { summary, data });
        }
        if !complete {
            out.push(Event::Failed(Failure::new(Class::Cut, "the stream ended before the model was done")));
            return;
        }
        let explanation = Some(std::mem::take(&mut self.refusal)).filter(|refusal| !refusal.is_empty());
        if explanation.is_some() && class == Stop::End {
            class = Stop::Refusal;
        }
        out.push(Event::Stopped { class, word: self.stop.take(), explanation });
    }

    fn begin(&mut self, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            out.push(Event::Started);
        }
    }

    /// Whether a chunk without choices may be passed over: usage, a keep-alive, moderation results.
    fn is_harmless(&self, chunk: &Value, name: &str) -> bool {
        let says_error = chunk.get("object").and_then(Value::as_str) == Some("error")
            || chunk.get("type").and_then(Value::as_str) == Some("error")
            || name == "error";
        let bare_complaint = !self.started && chunk.get("choices").is_none() && {
            let body = chunk.as_array().and_then(|items| items.first()).unwrap_or(chunk);
            ["error", "detail"].iter().any(|key| body.get(key).is_some())
                || body.get("message").is_some_and(Value::is_string)
        };
        !says_error && !bare_complaint
    }

    fn choice(&mut self, choice: &Value, out: &mut Vec<Event>) {
        // `message` stands alone in an answer that doesn't stream; beside or after deltas it repeats them.
        let delta = choice.get("delta").filter(|delta| delta.is_object());
        match delta {
            Some(delta) => {
                self.streamed = true;
                self.delta(delta, out);
            }
            None if self.streamed => {}
            None => match choice.get("message").filter(|message| message.is_object()) {
                Some(message) => self.delta(message, out),
                None => self.say(Open::Text, choice.get("text").and_then(Value::as_str).unwrap_or_default(), out),
            },
        }
        if let Some(word) = choice.get("finish_reason").and_then(Value::as_str).filter(|word| !word.is_empty()) {
            self.stop = Some(word.to_owned());
        }
    }

    fn delta(&mut self, delta: &Value, out: &mut Vec<Event>) {
        for field in ["reasoning_content", "reasoning"] {
            // Some servers send the same words under both names.
            if let Some(words) = delta.get(field).and_then(Value::as_str).filter(|words| !words.is_empty()) {
                self.say(Open::Thinking, words, out);
                self.reasoning_field = Some(field);
                break;
            }
        }
        let details = delta.get("reasoning_details");
        let without_words = ["reasoning_content", "reasoning"]
            .iter()
            .all(|field| delta.get(field).and_then(Value::as_str).is_none_or(str::is_empty));
        if without_words {
            let words = Details::words(details);
            self.say(Open::Thinking, &words, out);
        }
        self.details.merge(details);
        match delta.get("content") {
            Some(Value::String(text)) => self.say(Open::Text, text, out),
            Some(Value::Array(items)) => {
                for item in items {
                    self.content_item(item, out);
                }
            }
            _ => {}
        }
        if let Some(refusal) = delta.get("refusal").and_then(Value::as_str) {
            self.refusal.push_str(refusal);
        }
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.call(call, call.get("function"), out);
        }
        if let Some(function) = delta.get("function_call").filter(|function| function.is_object()) {
            self.call(&Value::Null, Some(function), out);
        }
        for (key, value) in delta.as_object().into_iter().flatten() {
            if !DELTA_KNOWN.contains(&key.as_str()) {
                self.keep(key, value);
            }
        }
    }

    fn content_item(&mut self, item: &Value, out: &mut Vec<Event>) {
        let words = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => {
                items.iter().filter_map(|item| item.get("text").and_then(Value::as_str)).collect()
            }
            _ => String::new(),
        };
        match item.get("type").and_then(Value::as_str) {
            Some("thinking" | "reasoning") => {
                let said = words(item.get("thinking").or(item.get("text")));
                self.say(Open::Thinking, &said, out);
            }
            Some("refusal") => self.refusal.push_str(&words(item.get("refusal"))),
            Some("text" | "output_text") | None => {
                let said = match item {
                    Value::String(text) => text.clone(),
                    _ => words(item.get("text")),
                };
                self.say(Open::Text, &said, out);
            }
            Some(kind) => self.keep(kind, item),
        }
    }

    fn say(&mut self, what: Open, words: &str, out: &mut Vec<Event>) {
        if words.is_empty() {
            return;
        }
        if self.open != Some(what) {
            self.close(out);
            self.open = Some(what);
        }
        out.push(match what {
            Open::Text => Event::Text(words.to_owned()),
            Open::Thinking => Event::Thinking(words.to_owned()),
        });
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        let Some(open) = self.open.take() else { return };
        if open == Open::Thinking {
            let mut data = Object::default();
            if let Some(field) = self.reasoning_field.take() {
                data = data.text("field", field);
            }
            data = data.raw_if("reasoning_details", std::mem::take(&mut self.details).json());
            if !data.is_empty() {
                out.push(Event::Opaque { call: None, data: data.end() });
            }
        }
        out.push(Event::PartDone);
    }

    fn call(&mut self, call: &Value, function: Option<&Value>, out: &mut Vec<Event>) {
        let index = call.get("index").and_then(Value::as_u64);
        let id = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let field = |name: &str| function.and_then(|function| function.get(name));
        let name = field("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let fragment = match field("arguments") {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Object(_) | Value::Array(_))) => value.to_string(),
            _ => String::new(),
        };
        let at = match self.position(index, id, name) {
            Some(at) => at,
            None => {
                if id.is_none() && name.is_none() && fragment.is_empty() {
                    return;
                }
                self.close(out);
                self.calls.push(Call {
                    index,
                    id: id.map(str::to_owned),
                    name: name.unwrap_or_default().to_owned(),
                    input: String::new(),
                    extras: Map::new(),
                });
                out.push(Event::CallStarted {
                    index: self.calls.len() - 1,
                    provider_id: id.map(str::to_owned),
                    name: name.unwrap_or_default().to_owned(),
                });
                self.calls.len() - 1
            }
        };
        let one = &mut self.calls[at];
        one.input.push_str(&fragment);
        for (key, value) in call.as_object().into_iter().flatten() {
            if !matches!(key.as_str(), "index" | "id" | "type" | "function") && !value.is_null() {
                one.extras.insert(key.clone(), value.clone());
            }
        }
        if !fragment.is_empty() {
            out.push(Event::CallInput { index: at, fragment });
        }
    }

    /// The call that a fragment belongs to: by index, by id, or the last one. A new id and name where the call before
    /// is whole begin a new call even under the same index (some servers number every call 0), while an id that
    /// changes in the middle of an input is only an id that rotates.
    fn position(&self, index: Option<u64>, id: Option<&str>, name: Option<&str>) -> Option<usize> {
        let at = match (index, id) {
            (Some(index), _) => self.calls.iter().rposition(|call| call.index == Some(index))?,
            (None, Some(id)) => return self.calls.iter().rposition(|call| call.id.as_deref() == Some(id)),
            (None, None) if name.is_some() => return None,
            (None, None) => self.calls.len().checked_sub(1)?,
        };
        let call = &self.calls[at];
        let renamed = name.is_some_and(|name| name != call.name);
        let another = id.is_some() && call.id.is_some() && id != call.id.as_deref() && name.is_some();
        let whole = !call.input.trim().is_empty() && call.whole_input().is_some();
        if another && (renamed || whole) { None } else { Some(at) }
    }

    fn keep(&mut self, key: &str, value: &Value) {
        let empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if empty {
            return;
        }
        match (self.kept.get_mut(key), value) {
            (Some(Value::Array(before)), Value::Array(more)) if before != more && key == "annotations" => {
                before.extend(more.iter().cloned());
            }
            _ => {
                self.kept.insert(key.to_owned(), value.clone());
            }
        }
    }
}

impl Call {
    /// The input as it came; `{}` where nothing came; `None` if it is no JSON.
    fn whole_input(&self) -> Option<String> {
        if self.input.trim().is_empty() {
            return Some("{}".into());
        }
        serde_json::from_str::<serde::de::IgnoredAny>(&self.input).is_ok().then(|| self.input.clone())
    }
}

fn is_error(error: Option<&Value>) -> bool {
    match error {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    }
}

fn class_of(word: &str) -> Stop {
    match word {
        "stop" | "end_turn" | "eos" | "stop_sequence" | "eos_token" => Stop::End,
        "tool_calls" | "function_call" | "tool_use" => Stop::ToolUse,
        "length" | "max_tokens" | "model_length" => Stop::Length,
        "content_filter" | "sensitive" | "safety" | "SAFETY" | "RECITATION" => Stop::ContentFilter,
        "refusal" => Stop::Refusal,
        "insufficient_system_resource" | "network_error" | "abort" | "cancelled" | "error" => Stop::Interrupted,
        _ => Stop::Other,
    }
}
