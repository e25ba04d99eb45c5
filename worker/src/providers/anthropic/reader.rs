//! Stream of events → events of ours.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use skein_engine::session::model::Usage;

use super::block::{Block, BlockKind, raw, text};
use crate::providers::event::{Event, Report, Stop};
use crate::providers::failure::{Class, Failure};
use crate::providers::json::{self, array, fields};
use crate::providers::sse::Frame;

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
