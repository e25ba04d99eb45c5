//! Lines of JSON → events.

use serde_json::Value;
use skein_engine::session::model::Usage;

use crate::providers::event::{Event, Report, Stop};
use crate::providers::failure::{Class, Failure};
use crate::providers::json::Object;
use crate::providers::sse::Frame;

/// Events of one answer.
#[derive(Debug, Default)]
pub struct Reader {
    started: bool,
    open: Option<Open>,
    calls: usize,
    /// The last call: whole, unless the answer was cut just there.
    last_call: Option<(usize, String)>,
    stop: Option<String>,
    finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
}

impl Reader {
    /// Whether `done` has come.
    pub fn over(&self) -> bool {
        self.stop.is_some()
    }

    /// The same.
    pub fn stopped(&self) -> bool {
        self.over()
    }

    /// Takes one line.
    pub fn frame(&mut self, frame: &Frame, out: &mut Vec<Event>) {
        let Ok(line) = serde_json::from_str::<Value>(&frame.data) else { return };
        if line.get("error").is_some_and(|error| !error.is_null()) {
            self.close(out);
            out.push(Event::Failed(Failure::of_body(None, &line)));
            return;
        }
        if !std::mem::replace(&mut self.started, true) {
            out.push(Event::Started);
        }
        let message = line.get("message");
        let words = |key: &str| message.and_then(|message| message.get(key)).and_then(Value::as_str);
        self.say(Open::Thinking, words("thinking").unwrap_or_default(), out);
        let text = words("content").or(line.get("response").and_then(Value::as_str));
        self.say(Open::Text, text.unwrap_or_default(), out);
        let calls = message.and_then(|message| message.get("tool_calls")).and_then(Value::as_array);
        calls.into_iter().flatten().for_each(|call| self.call(call, out));
        if line.get("done").and_then(Value::as_bool) == Some(true) {
            out.extend(report(&line).map(Event::Usage));
            let word = line.get("done_reason").and_then(Value::as_str).unwrap_or("stop");
            self.stop = Some(word.to_owned());
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
        match self.stop.take() {
            Some(word) => {
                let class = match word.as_str() {
                    "length" => Stop::Length,
                    "stop" => Stop::End,
                    _ => Stop::Other,
                };
                if class.completes_calls() {
                    self.end_call(out);
                }
                out.push(Event::Stopped { class, word: Some(word), explanation: None });
            }
            None => out.push(Event::Failed(Failure::new(Class::Cut, "the stream ended before the model was done"))),
        }
    }

    /// Calls come whole.
    fn call(&mut self, call: &Value, out: &mut Vec<Event>) {
        self.end_call(out);
        self.close(out);
        let function = call.get("function");
        let index = self.calls;
        self.calls += 1;
        let word = |holder: Option<&Value>, key: &str| {
            let word = holder.and_then(|holder| holder.get(key)).and_then(Value::as_str);
            word.filter(|word| !word.is_empty()).map(str::to_owned)
        };
        let name = word(function, "name").unwrap_or_default();
        out.push(Event::CallStarted { index, provider_id: word(Some(call), "id"), name });
        let input = match function.and_then(|function| function.get("arguments")) {
            None | Some(Value::Null) => "{}".to_owned(),
            Some(Value::String(text)) if text.trim().is_empty() => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(arguments) => arguments.to_string(),
        };
        out.push(Event::CallInput { index, fragment: input.clone() });
        self.last_call = Some((index, input));
    }

    /// What follows a call says that it was whole.
    fn end_call(&mut self, out: &mut Vec<Event>) {
        if let Some((index, input)) = self.last_call.take() {
            // Some models write arguments that are no JSON.
            if serde_json::from_str::<serde::de::IgnoredAny>(&input).is_ok() {
                out.push(Event::CallDone { index, input });
            }
        }
    }

    fn say(&mut self, what: Open, words: &str, out: &mut Vec<Event>) {
        if words.is_empty() {
            return;
        }
        self.end_call(out);
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
            // It goes back in a turn with calls.
            out.push(Event::Opaque { call: None, data: Object::default().text("field", "thinking").end() });
        }
        out.push(Event::PartDone);
    }
}

fn report(line: &Value) -> Option<Report> {
    let number = |key: &str| line.get(key).and_then(Value::as_u64);
    let (input, output) = (number("prompt_eval_count"), number("eval_count"));
    if input.is_none() && output.is_none() {
        return None;
    }
    let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
    Some(Report { usage: Usage { input, output, ..Usage::default() }, ..Report::default() })
}
