//! Stream of typed events → events.

use std::collections::BTreeMap;

use serde_json::Value;
use skein_engine::session::model::Usage;

use crate::providers::event::{Event, Report, Stop};
use crate::providers::failure::{Class, Failure};
use crate::providers::sse::Frame;

/// Events of one answer.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    open: Option<Open>,
    /// By `output_index`.
    items: BTreeMap<u64, Item>,
    calls: usize,
    refusal: String,
    usage: Option<Report>,
    stop: Option<(Stop, String)>,
    failure: Option<Failure>,
    finished: bool,
}

/// The part that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text(u64),
    Thinking(u64),
}

/// What has come of an item.
#[derive(Debug, Default)]
struct Item {
    call: Option<usize>,
    input: String,
    /// Words have come, so that the item's own copy of them says nothing new.
    spoke: bool,
    /// The part of a summary or text that words belong to.
    part: Option<u64>,
    done: bool,
}

impl Reader {
    /// Whether the provider's own last event has come.
    pub fn over(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether an error has come: the event that ends the answer need not be waited for.
    pub fn stopped(&self) -> bool {
        self.stop.is_some() || self.failure.is_some()
    }

    /// Takes one event of the stream.
    pub fn frame(&mut self, frame: &Frame, out: &mut Vec<Event>) {
        if frame.data.trim() == "[DONE]" {
            return;
        }
        let Ok(event) = serde_json::from_str::<Value>(&frame.data) else {
            if frame.name == "error" {
                self.failure = Some(Failure::of_body(None, &Value::String(frame.data.clone())));
            }
            return;
        };
        let kind = event.get("type").and_then(Value::as_str).unwrap_or(&frame.name).to_owned();
        let index = event.get("output_index").and_then(Value::as_u64).unwrap_or_default();
        let delta = event.get("delta").and_then(Value::as_str).unwrap_or_default();
        match kind.as_str() {
            "response.created" | "response.in_progress" | "response.queued" => self.begin(out),
            "response.output_item.added" => self.added(index, event.get("item"), out),
            "response.output_item.done" => self.done(index, event.get("item"), out),
            "response.output_text.delta" => self.say(Open::Text(index), delta, out),
            "response.refusal.delta" => self.refusal.push_str(delta),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                let part = event.get("summary_index").or(event.get("content_index")).and_then(Value::as_u64);
                let before = std::mem::replace(&mut self.items.entry(index).or_default().part, part);
                // Parts of a summary are paragraphs.
                if before.is_some() && before != part {
                    self.say(Open::Thinking(index), "\n\n", out);
                }
                self.say(Open::Thinking(index), delta, out);
            }
            "response.function_call_arguments.delta" => self.input(index, delta, out),
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                self.ended(&kind, event.get("response").unwrap_or(&Value::Null), out);
            }
            "error" => self.failure = Some(Failure::of_body(None, &event)),
            // An answer that doesn't stream.
            _ if event.get("object").and_then(Value::as_str) == Some("response") => {
                let status = event.get("status").and_then(Value::as_str).unwrap_or("completed");
                self.ended(&format!("response.{status}"), &event, out);
            }
            _ if event.get("error").is_some_and(|error| !error.is_null()) => {
                self.failure = Some(Failure::of_body(None, &event));
            }
            _ if !self.started && event.get("detail").is_some() => {
                self.failure = Some(Failure::of_body(None, &event));
            }
            // Parts' own beginnings and ends, progress of the provider's tools, what is yet to be invented.
            _ => {}
        }
    }

    /// The connection has ended.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if !self.started && self.stop.is_none() && self.failure.is_none() {
            out.push(Event::Failed(Failure::new(Class::BadAnswer, "The model's server sent an empty answer.")));
            return;
        }
        self.close(out);
        if let Some(usage) = self.usage.take() {
            out.push(Event::Usage(usage));
        }
        let explanation = Some(std::mem::take(&mut self.refusal)).filter(|refusal| !refusal.is_empty());
        match self.stop.take() {
            Some((class, word)) => {
                let refused = explanation.is_some() && class == Stop::End;
                let class = if refused { Stop::Refusal } else { class };
                out.push(Event::Stopped { class, word: Some(word), explanation });
            }
            None if self.failure.is_none() => {
                out.push(Event::Failed(Failure::new(Class::Cut, "the stream ended before the model was done")));
            }
            None => {}
        }
        out.extend(self.failure.take().map(Event::Failed));
    }

    fn begin(&mut self, out: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.started, true) {
            out.push(Event::Started);
        }
    }

    fn added(&mut self, index: u64, item: Option<&Value>, out: &mut Vec<Event>) {
        self.begin(out);
        let Some(item) = item.filter(|item| kind_of(item) == "function_call") else { return };
        self.call(index, item, out);
        let begun = item.get("arguments").and_then(Value::as_str).unwrap_or_default();
        self.input(index, begun, out);
    }

    /// A call begins, unless it has.
    fn call(&mut self, index: u64, item: &Value, out: &mut Vec<Event>) -> usize {
        if let Some(call) = self.items.entry(index).or_default().call {
            return call;
        }
        self.close(out);
        let word = |key: &str| item.get(key).and_then(Value::as_str).filter(|word| !word.is_empty());
        let call = self.calls;
        self.calls += 1;
        let (provider_id, name) = (word("call_id").map(str::to_owned), word("name").unwrap_or_default().to_owned());
        out.push(Event::CallStarted { index: call, provider_id, name });
        self.items.entry(index).or_default().call = Some(call);
        call
    }

    fn input(&mut self, index: u64, fragment: &str, out: &mut Vec<Event>) {
        let item = self.items.entry(index).or_default();
        if let Some(call) = item.call.filter(|_| !fragment.is_empty()) {
            item.input.push_str(fragment);
            out.push(Event::CallInput { index: call, fragment: fragment.to_owned() });
        }
    }

    /// An item is complete: what of it was not streamed comes now.
    fn done(&mut self, index: u64, item: Option<&Value>, out: &mut Vec<Event>) {
        self.begin(out);
        let Some(item) = item else { return };
        if std::mem::replace(&mut self.items.entry(index).or_default().done, true) {
            return;
        }
        let spoke = self.items.entry(index).or_default().spoke;
        match kind_of(item) {
            "message" => {
                for part in item.get("content").and_then(Value::as_array).into_iter().flatten() {
                    let words = |key: &str| part.get(key).and_then(Value::as_str).unwrap_or_default();
                    if !spoke {
                        self.say(Open::Text(index), words("text"), out);
                    }
                    if self.refusal.is_empty() {
                        self.refusal.push_str(words("refusal"));
                    }
                }
                self.close(out);
            }
            "reasoning" => {
                if !spoke {
                    let lists = ["summary", "content"].into_iter().filter_map(|key| item.get(key)?.as_array());
                    let words: Vec<&str> =
                        lists.flatten().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
                    self.say(Open::Thinking(index), &words.join("\n\n"), out);
                }
                if self.open != Some(Open::Thinking(index)) {
                    self.close(out);
                }
                self.open = None;
                out.push(Event::Opaque { call: None, data: item.to_string() });
                out.push(Event::PartDone);
            }
            "function_call" => {
                let call = self.call(index, item, out);
                let known = self.items.get(&index).map(|item| item.input.clone()).unwrap_or_default();
                let whole = item.get("arguments").and_then(Value::as_str).filter(|whole| !whole.is_empty());
                let whole = whole.unwrap_or(&known).to_owned();
                if known.is_empty() {
                    self.input(index, &whole, out);
                }
                // The limit cut it, however complete it looks.
                let cut = item.get("status").and_then(Value::as_str) == Some("incomplete");
                let input = if whole.trim().is_empty() { "{}".to_owned() } else { whole };
                let reads = serde_json::from_str::<serde::de::IgnoredAny>(&input).is_ok();
                if !cut && reads {
                    out.push(Event::CallDone { index: call, input });
                }
            }
            kind => {
                self.close(out);
                out.push(Event::Other { summary: kind.replace('_', " "), data: item.to_string() });
            }
        }
    }

    fn ended(&mut self, kind: &str, response: &Value, out: &mut Vec<Event>) {
        self.begin(out);
        for (index, item) in response.get("output").and_then(Value::as_array).into_iter().flatten().enumerate() {
            // Some servers send items only here.
            let index = index as u64;
            if !self.items.get(&index).is_some_and(|item| item.done || item.call.is_some()) {
                self.done(index, Some(item), out);
            }
        }
        self.close(out);
        self.usage = response.get("usage").and_then(report).or(self.usage.take());
        let reason = response.get("incomplete_details").and_then(|details| details.get("reason"));
        let reason = reason.and_then(Value::as_str);
        self.stop = Some(match (kind, reason) {
            ("response.incomplete", Some(reason)) => (class_of(reason), reason.to_owned()),
            ("response.incomplete", None) => (Stop::Length, "incomplete".to_owned()),
            ("response.failed", _) => (Stop::Interrupted, "failed".to_owned()),
            ("response.cancelled", _) => (Stop::Interrupted, "cancelled".to_owned()),
            _ => (Stop::End, "completed".to_owned()),
        });
        if kind == "response.failed" && self.failure.is_none() {
            self.failure = Some(Failure::of_body(None, response));
        }
    }

    fn say(&mut self, what: Open, words: &str, out: &mut Vec<Event>) {
        if words.is_empty() {
            return;
        }
        self.begin(out);
        if self.open != Some(what) {
            self.close(out);
            self.open = Some(what);
        }
        let (Open::Text(index) | Open::Thinking(index)) = what;
        self.items.entry(index).or_default().spoke = true;
        out.push(match what {
            Open::Text(_) => Event::Text(words.to_owned()),
            Open::Thinking(_) => Event::Thinking(words.to_owned()),
        });
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        if self.open.take().is_some() {
            out.push(Event::PartDone);
        }
    }
}

fn kind_of(item: &Value) -> &str {
    item.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn class_of(reason: &str) -> Stop {
    match reason {
        "max_output_tokens" | "max_tokens" => Stop::Length,
        "content_filter" => Stop::ContentFilter,
        _ => Stop::Other,
    }
}

fn report(usage: &Value) -> Option<Report> {
    let number = |key: &str| usage.get(key).and_then(Value::as_u64);
    let inner = |key: &str, field: &str| usage.get(key).and_then(|inner| inner.get(field)).and_then(Value::as_u64);
    let (input, output) = (number("input_tokens"), number("output_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
    let cache_read = inner("input_tokens_details", "cached_tokens").unwrap_or(0).min(input);
    let cache_write = inner("input_tokens_details", "cache_write_tokens").unwrap_or(0).min(input - cache_read);
    let reasoning = inner("output_tokens_details", "reasoning_tokens").unwrap_or(0);
    let total = number("total_tokens");
    let within = input.saturating_add(output);
    let (output, reasoning) = match reasoning > 0 && total == within.checked_add(reasoning) {
        true => (output, reasoning),
        false => (output - reasoning.min(output), reasoning.min(output)),
    };
    let dollars = usage.get("cost").and_then(Value::as_f64).filter(|dollars| (0.0..1e9).contains(dollars));
    Some(Report {
        usage: Usage {
            input: input - cache_read - cache_write,
            output,
            reasoning,
            cache_read,
            cache_write,
            cache_write_long: 0,
        },
        total,
        more: false,
        cost_micros: dollars.map(|dollars| (dollars * 1e6).round() as u64),
    })
}
