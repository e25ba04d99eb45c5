//! Anthropic's messages: prompt → request, stream → events.
//!
//! Every block is kept as the JSON that came (signatures, citations, server tools), and goes back so. A call's input is
//! called whole only when something follows its block, or when the model says that it stopped for another reason than
//! its token limit: a block's own end also stands behind an input that was cut.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use skein_engine::session::model::Usage;

use super::event::{Event, Report, Stop};
use super::failure::{Class, Failure, first_words};
use super::json::{self, Object, array, fields};
use super::prompt::{Entry, Piece, Prompt, Resume};
use super::sse::Frame;

/// Path below the base URL.
pub const PATH: &str = "messages";
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
        messages.push(message(&Entry::User { text: quote }, false));
    }
    body.raw("messages", &array(&messages)).end().into_bytes()
}

fn message(entry: &Entry, prefill: bool) -> String {
    let (role, blocks): (_, Vec<String>) = match entry {
        Entry::User { text } => ("user", vec![Object::default().text("type", "text").text("text", text).end()]),
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

/// Events of one answer.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    said_something: bool,
    blocks: BTreeMap<u64, Block>,
    calls: usize,
    /// The last call, its block ended: whole unless the answer was cut just there.
    ended_call: Option<(usize, String)>,
    usage: Map<String, Value>,
    stop: Option<(Stop, String)>,
    explanation: Option<String>,
    last_word: bool,
    finished: bool,
}

#[derive(Debug)]
struct Block {
    kind: BlockKind,
    fields: Vec<(String, String)>,
    input: String,
    citations: Vec<String>,
    said: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockKind {
    Text,
    Thinking,
    Redacted,
    Call(usize),
    Other,
}

fn raw<'a>(fields: &'a [(String, String)], key: &str) -> Option<&'a str> {
    fields.iter().find(|(k, v)| k == key && v != "null").map(|(_, v)| v.as_str())
}

fn text(fields: &[(String, String)], key: &str) -> Option<String> {
    serde_json::from_str(raw(fields, key)?).ok()
}

impl Reader {
    /// Whether the provider's own last event has come.
    pub fn over(&self) -> bool {
        self.last_word
    }

    /// Whether a stop reason has come.
    pub fn stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Takes one event of the stream.
    pub fn frame(&mut self, frame: &Frame, out: &mut Vec<Event>) {
        if frame.data.trim() == "[DONE]" {
            self.last_word = self.started;
            return;
        }
        let event = fields(&frame.data);
        let kind = text(&event, "type").unwrap_or_default();
        let index = raw(&event, "index").and_then(|index| index.parse().ok()).unwrap_or(0);
        match kind.as_str() {
            "message_start" => self.start(raw(&event, "message").unwrap_or("{}"), out),
            "content_block_start" => self.open(index, raw(&event, "content_block").unwrap_or("{}"), out),
            "content_block_delta" => self.delta(index, &fields(raw(&event, "delta").unwrap_or("{}")), out),
            "content_block_stop" => self.close(index, true, out),
            "message_delta" => {
                self.begin(out);
                self.stop_of(&fields(raw(&event, "delta").unwrap_or("{}")));
                self.count(raw(&event, "usage"), out);
            }
            "message_stop" => {
                self.begin(out);
                self.last_word = true;
            }
            "message" => self.whole_message(&event, &frame.data, out),
            "ping" => {}
            _ if raw(&event, "error").is_some() || kind == "error" || frame.name == "error" => {
                let body = serde_json::from_str(&frame.data).unwrap_or(Value::String(frame.data.clone()));
                out.push(Event::Failed(Failure::of_body(None, &body)));
            }
            _ => tracing::debug!(kind, "an event of a kind that isn't known was passed over"),
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
        let complete = self.last_word || self.stop.is_some();
        let class = self.stop.as_ref().map_or(Stop::End, |(class, _)| *class);
        for index in self.blocks.keys().copied().collect::<Vec<_>>() {
            self.close(index, complete && class.completes_calls(), out);
        }
        if let Some((index, input)) = self.ended_call.take()
            && complete
            && class.completes_calls()
        {
            out.push(Event::CallDone { index, input });
        }
        if complete {
            let word = self.stop.take().map(|(_, word)| word);
            out.push(Event::Stopped { class, word, explanation: self.explanation.take() });
        } else {
            out.push(Event::Failed(Failure::new(Class::Cut, "the stream ended before the model was done")));
        }
    }

    fn begin(&mut self, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            out.push(Event::Started);
        }
    }

    fn start(&mut self, message: &str, out: &mut Vec<Event>) {
        if !self.started || self.said_something {
            *self = Self { started: true, ..Self::default() };
            out.push(Event::Started);
        }
        self.usage = Map::new();
        self.count(raw(&fields(message), "usage"), out);
    }

    /// An answer that didn't stream: the whole message as one object.
    fn whole_message(&mut self, message: &[(String, String)], data: &str, out: &mut Vec<Event>) {
        self.start(data, out);
        let blocks: Vec<Box<serde_json::value::RawValue>> =
            raw(message, "content").and_then(|content| serde_json::from_str(content).ok()).unwrap_or_default();
        for (index, block) in blocks.iter().enumerate() {
            self.open(index as u64, block.get(), out);
            self.close(index as u64, true, out);
        }
        self.stop_of(message);
        self.last_word = true;
    }

    fn stop_of(&mut self, delta: &[(String, String)]) {
        if let Some(details) = raw(delta, "stop_details") {
            self.explanation = text(&fields(details), "explanation").or(self.explanation.take());
        }
        if let Some(word) = text(delta, "stop_reason") {
            let class = match word.as_str() {
                "end_turn" | "stop_sequence" => Stop::End,
                "tool_use" => Stop::ToolUse,
                "max_tokens" | "model_context_window_exceeded" => Stop::Length,
                "pause_turn" | "compaction" => Stop::PauseTurn,
                "refusal" => Stop::Refusal,
                _ => Stop::Other,
            };
            self.stop = Some((class, word));
        }
    }

    fn open(&mut self, index: u64, block: &str, out: &mut Vec<Event>) {
        self.begin(out);
        self.said_something = true;
        if let Some((index, input)) = self.ended_call.take() {
            out.push(Event::CallDone { index, input });
        }
        // Blocks come one after the other: what is open ends here, also where a gateway lost its end.
        for open in self.blocks.keys().copied().collect::<Vec<_>>() {
            self.close(open, true, out);
            if let Some((index, input)) = self.ended_call.take() {
                out.push(Event::CallDone { index, input });
            }
        }
        let fields = fields(block);
        let kind = match text(&fields, "type").unwrap_or_default().as_str() {
            "text" => BlockKind::Text,
            "thinking" => BlockKind::Thinking,
            "redacted_thinking" => BlockKind::Redacted,
            "tool_use" => {
                let index = self.calls;
                self.calls += 1;
                let provider_id = text(&fields, "id").filter(|id| !id.is_empty());
                let name = text(&fields, "name").unwrap_or_default();
                out.push(Event::CallStarted { index, provider_id, name });
                BlockKind::Call(index)
            }
            _ => BlockKind::Other,
        };
        let mut block = Block { kind, fields, input: String::new(), citations: Vec::new(), said: false };
        if let Some(citations) = raw(&block.fields, "citations") {
            let items: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(citations).unwrap_or_default();
            block.citations = items.iter().map(|item| item.get().to_owned()).collect();
        }
        match kind {
            BlockKind::Text => block.say(text(&block.fields, "text"), Event::Text, out),
            BlockKind::Thinking => block.say(text(&block.fields, "thinking"), Event::Thinking, out),
            _ => {}
        }
        self.blocks.insert(index, block);
    }

    fn delta(&mut self, index: u64, delta: &[(String, String)], out: &mut Vec<Event>) {
        let kind = text(delta, "type").unwrap_or_default();
        if !self.blocks.contains_key(&index) {
            // Some gateways leave the block's beginning out.
            let block = match kind.as_str() {
                "text_delta" => r#"{"type":"text"}"#,
                "thinking_delta" => r#"{"type":"thinking"}"#,
                _ => return,
            };
            self.open(index, block, out);
        }
        let Some(block) = self.blocks.get_mut(&index) else { return };
        match (kind.as_str(), block.kind) {
            ("text_delta", BlockKind::Text) => block.say(text(delta, "text"), Event::Text, out),
            ("thinking_delta", BlockKind::Thinking) => block.say(text(delta, "thinking"), Event::Thinking, out),
            ("input_json_delta", of) => {
                let fragment = text(delta, "partial_json").unwrap_or_default();
                block.input.push_str(&fragment);
                if let BlockKind::Call(index) = of
                    && !fragment.is_empty()
                {
                    out.push(Event::CallInput { index, fragment });
                }
            }
            ("citations_delta", _) => block.citations.extend(raw(delta, "citation").map(str::to_owned)),
            ("signature_delta", _) => {
                if let Some(signature) = raw(delta, "signature") {
                    block.set("signature", signature.to_owned());
                }
            }
            // Deltas of other blocks (compaction and what will come): strings grow, the rest is replaced.
            _ => {
                for (key, value) in delta.iter().filter(|(key, value)| key != "type" && value != "null") {
                    let grown = match (text(&block.fields, key), serde_json::from_str::<String>(value)) {
                        (Some(before), Ok(more)) => json::quoted(&(before + &more)),
                        _ => value.clone(),
                    };
                    block.set(key, grown);
                }
            }
        }
    }

    fn close(&mut self, index: u64, whole: bool, out: &mut Vec<Event>) {
        let Some(block) = self.blocks.remove(&index) else { return };
        match block.kind {
            BlockKind::Text => {
                let data = block.extras(&["type", "text", "citations"], &[("citations", block.citations_json())]);
                block.end_part(data, out);
            }
            BlockKind::Thinking => {
                // A signature covers the whole of it: without its end there is none that counts.
                let data = if whole { block.extras(&["type", "thinking"], &[]) } else { None };
                block.end_part(data, out);
            }
            BlockKind::Redacted => {
                if whole {
                    out.push(Event::Opaque { call: None, data: block.json() });
                    out.push(Event::PartDone);
                }
            }
            BlockKind::Call(call) => {
                if let Some(data) = block.extras(&["type", "id", "name", "input"], &[]) {
                    out.push(Event::Opaque { call: Some(call), data });
                }
                if let Some(input) = block.whole_input()
                    && whole
                {
                    self.ended_call = Some((call, input));
                }
            }
            BlockKind::Other => {
                if whole && let Some(input) = block.whole_input() {
                    let has_input = raw(&block.fields, "input").is_some();
                    let mut block = block;
                    if has_input {
                        block.set("input", input);
                    }
                    if !block.citations.is_empty() {
                        block.set("citations", array(&block.citations));
                    }
                    out.push(Event::Other { summary: block.summary(), data: block.json() });
                }
            }
        }
    }

    /// Usage of `message_start` and of each `message_delta`: later ones win field by field, nulls say nothing.
    fn count(&mut self, usage: Option<&str>, out: &mut Vec<Event>) {
        let Some(Ok(usage)) = usage.map(serde_json::from_str::<Map<String, Value>>) else { return };
        for (key, value) in usage {
            match (self.usage.get_mut(&key), value) {
                (_, Value::Null) => {}
                (Some(Value::Object(before)), Value::Object(after)) => {
                    before.extend(after.into_iter().filter(|(_, value)| !value.is_null()));
                }
                (_, value) => {
                    self.usage.insert(key, value);
                }
            }
        }
        let number = |value: Option<&Value>| value.and_then(Value::as_u64);
        let field = |key: &str| number(self.usage.get(key));
        let inner = |key: &str, field: &str| number(self.usage.get(key).and_then(|inner| inner.get(field)));
        let long = inner("cache_creation", "ephemeral_1h_input_tokens").unwrap_or(0);
        let short = inner("cache_creation", "ephemeral_5m_input_tokens").unwrap_or(0);
        let written = field("cache_creation_input_tokens").unwrap_or(long.saturating_add(short));
        let long = long.min(written);
        let output = field("output_tokens").unwrap_or(0);
        let reasoning = inner("output_tokens_details", "thinking_tokens").unwrap_or(0).min(output);
        let usage = Usage {
            input: field("input_tokens").unwrap_or(0),
            output: output - reasoning,
            reasoning,
            cache_read: field("cache_read_input_tokens").unwrap_or(0),
            cache_write: written - long,
            cache_write_long: long,
        };
        let more = self.usage.get("iterations").and_then(Value::as_array).is_some_and(|iterations| {
            iterations.iter().any(|one| one.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "message"))
        });
        out.push(Event::Usage(Report { usage, total: None, more, cost_micros: None }));
    }
}

impl Block {
    fn say(&mut self, words: Option<String>, event: fn(String) -> Event, out: &mut Vec<Event>) {
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            self.said = true;
            out.push(event(words));
        }
    }

    fn set(&mut self, key: &str, value: String) {
        match self.fields.iter_mut().find(|(k, _)| k == key) {
            Some(field) => field.1 = value,
            None => self.fields.push((key.to_owned(), value)),
        }
    }

    fn end_part(&self, data: Option<String>, out: &mut Vec<Event>) {
        let some = data.is_some();
        out.extend(data.map(|data| Event::Opaque { call: None, data }));
        if self.said || some {
            out.push(Event::PartDone);
        }
    }

    /// What the block holds beside the fields named, if anything but empty values.
    fn extras(&self, without: &[&str], with: &[(&str, Option<String>)]) -> Option<String> {
        let mut object = Object::default();
        for (key, value) in &self.fields {
            if !without.contains(&key.as_str()) && !matches!(value.as_str(), "null" | "\"\"" | "[]") {
                object = object.raw(key, value);
            }
        }
        for (key, value) in with {
            object = object.raw_if(key, value.clone());
        }
        (!object.is_empty()).then(|| object.end())
    }

    fn citations_json(&self) -> Option<String> {
        (!self.citations.is_empty()).then(|| array(&self.citations))
    }

    /// The input as it came; `{}` where nothing came; `None` if it is no JSON.
    fn whole_input(&self) -> Option<String> {
        let at_start = raw(&self.fields, "input").filter(|input| json::is_object(input)).unwrap_or("{}");
        let input = if self.input.trim().is_empty() { at_start } else { &self.input };
        serde_json::from_str::<serde::de::IgnoredAny>(input).is_ok().then(|| input.to_owned())
    }

    fn json(&self) -> String {
        self.fields.iter().fold(Object::default(), |object, (key, value)| object.raw(key, value)).end()
    }

    fn summary(&self) -> String {
        let kind = text(&self.fields, "type").unwrap_or_default();
        let title = match text(&self.fields, "name") {
            Some(name) => name,
            None => kind.replace('_', " "),
        };
        let detail = match raw(&self.fields, "content").map(serde_json::from_str::<Value>) {
            Some(Ok(Value::Array(items))) => format!("{} results", items.len()),
            Some(Ok(Value::String(text))) => text,
            _ => match raw(&self.fields, "input").map(serde_json::from_str::<Map<String, Value>>) {
                Some(Ok(input)) => input.values().find_map(Value::as_str).map(str::to_owned).unwrap_or_default(),
                _ => String::new(),
            },
        };
        let summary = if detail.is_empty() { title } else { format!("{title}: {detail}") };
        first_words(&summary)
    }
}
