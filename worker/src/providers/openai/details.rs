//! Reasoning that must go back unchanged, as it comes in pieces.

use serde_json::{Map, Value};

/// OpenRouter's `reasoning_details`, merged by type and index as they stream.
#[derive(Debug, Default)]
pub(super) struct Details(Vec<Map<String, Value>>);

impl Details {
    /// Takes the items of one delta.
    pub(super) fn merge(&mut self, items: Option<&Value>) {
        for item in items.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
            let same = |one: &&mut Map<String, Value>| {
                one.get("type") == item.get("type") && one.get("index") == item.get("index")
            };
            let Some(one) = self.0.iter_mut().find(same) else {
                self.0.push(item.clone());
                continue;
            };
            for (key, value) in item {
                match (one.get_mut(key), value) {
                    (_, Value::Null) => {}
                    (Some(Value::String(before)), Value::String(more))
                        if matches!(key.as_str(), "text" | "summary" | "data") =>
                    {
                        before.push_str(more);
                    }
                    _ => {
                        one.insert(key.clone(), value.clone());
                    }
                }
            }
        }
    }

    /// The readable part of some items.
    pub(super) fn words(items: Option<&Value>) -> String {
        let items = items.and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| item.get("text").or(item.get("summary"))?.as_str()).collect()
    }

    /// All of them, as they go back; `None` if there are none.
    pub(super) fn json(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| serde_json::to_string(&self.0).expect("values are always JSON"))
    }
}
