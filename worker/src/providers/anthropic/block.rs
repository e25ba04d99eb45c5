//! One content block, kept as the JSON that came.

use serde_json::{Map, Value};

use crate::providers::event::Event;
use crate::providers::failure::first_words;
use crate::providers::json::{self, Object, array};

/// A block under way: its fields as the JSON that came.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: BlockKind,
    pub(super) fields: Vec<(String, String)>,
    pub(super) input: String,
    pub(super) citations: Vec<String>,
    pub(super) said: bool,
}

/// What a block becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    Text,
    Thinking,
    Redacted,
    Call(usize),
    Other,
}

/// The text of a field, unless it is null.
pub(super) fn raw<'a>(fields: &'a [(String, String)], key: &str) -> Option<&'a str> {
    fields.iter().find(|(k, v)| k == key && v != "null").map(|(_, v)| v.as_str())
}

/// A field that is a string.
pub(super) fn text(fields: &[(String, String)], key: &str) -> Option<String> {
    serde_json::from_str(raw(fields, key)?).ok()
}

impl Block {
    pub(super) fn say(&mut self, words: Option<String>, event: fn(String) -> Event, out: &mut Vec<Event>) {
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            self.said = true;
            out.push(event(words));
        }
    }

    pub(super) fn set(&mut self, key: &str, value: String) {
        match self.fields.iter_mut().find(|(k, _)| k == key) {
            Some(field) => field.1 = value,
            None => self.fields.push((key.to_owned(), value)),
        }
    }

    pub(super) fn end_part(&self, data: Option<String>, out: &mut Vec<Event>) {
        let some = data.is_some();
        out.extend(data.map(|data| Event::Opaque { call: None, data }));
        if self.said || some {
            out.push(Event::PartDone);
        }
    }

    /// What the block holds beside the fields named, if anything but empty values.
    pub(super) fn extras(&self, without: &[&str], with: &[(&str, Option<String>)]) -> Option<String> {
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

    pub(super) fn citations_json(&self) -> Option<String> {
        (!self.citations.is_empty()).then(|| array(&self.citations))
    }

    /// The input as it came; `{}` where nothing came; `None` if it is no JSON.
    pub(super) fn whole_input(&self) -> Option<String> {
        let at_start = raw(&self.fields, "input").filter(|input| json::is_object(input)).unwrap_or("{}");
        let input = if self.input.trim().is_empty() { at_start } else { &self.input };
        serde_json::from_str::<serde::de::IgnoredAny>(input).is_ok().then(|| input.to_owned())
    }

    pub(super) fn json(&self) -> String {
        self.fields.iter().fold(Object::default(), |object, (key, value)| object.raw(key, value)).end()
    }

    pub(super) fn summary(&self) -> String {
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
