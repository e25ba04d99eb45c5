//! What a model wrote as a tool's input, checked: it is told what is wrong in words that it can act on.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// The fields of an input.
#[derive(Debug)]
pub struct Input(Map<String, Value>);

impl Input {
    /// Reads JSON text. Nothing at all is an object without fields; one that isn't `known` is an error, since what it
    /// asked for would not be done.
    pub fn read(input: &str, known: &[&str]) -> Result<Self, String> {
        let input = if input.trim().is_empty() { "{}" } else { input };
        let value = serde_json::from_str(input).map_err(|error| format!("The input is not valid JSON: {error}."))?;
        let Value::Object(mut fields) = value else { return Err("The input must be a JSON object.".to_owned()) };
        fields.retain(|_, value| !value.is_null());
        match fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("There is no field \"{key}\"; known are {}.", known.join(", "))),
            None => Ok(Self(fields)),
        }
    }

    /// A field, as it is.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// A text, if it is there.
    pub fn text(&self, key: &str) -> Result<Option<&str>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("\"{key}\" must be a string.")),
        }
    }

    /// A text that must be there. May be empty.
    pub fn needed(&self, key: &str) -> Result<&str, String> {
        self.text(key)?.ok_or_else(|| format!("\"{key}\" is missing."))
    }

    /// A whole number within bounds, if it is there.
    pub fn number(&self, key: &str, within: RangeInclusive<u64>) -> Result<Option<u64>, String> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        match value.as_u64().filter(|number| within.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("\"{key}\" must be a whole number from {} to {}.", within.start(), within.end())),
        }
    }

    /// Whether something is on; off if it isn't there.
    pub fn flag(&self, key: &str) -> Result<bool, String> {
        match self.0.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(format!("\"{key}\" must be true or false.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let known = ["path", "limit", "all"];
        for (input, words) in [
            ("{\"path\":", "not valid JSON"),
            ("[1]", "must be a JSON object"),
            (r#"{"pth":"a"}"#, "no field \"pth\"; known are path, limit, all"),
        ] {
            assert!(Input::read(input, &known).unwrap_err().contains(words), "{input}");
        }
        let input = Input::read(r#"{"path":3,"limit":0,"all":"yes"}"#, &known).unwrap();
        assert_eq!(input.needed("path").unwrap_err(), "\"path\" must be a string.");
        assert_eq!(input.number("limit", 1..=9).unwrap_err(), "\"limit\" must be a whole number from 1 to 9.");
        assert_eq!(input.flag("all").unwrap_err(), "\"all\" must be true or false.");
        let empty = Input::read(" ", &known).unwrap();
        assert_eq!(empty.needed("path").unwrap_err(), "\"path\" is missing.");
        assert_eq!(
            (empty.text("path"), empty.number("limit", 1..=9), empty.flag("all")),
            (Ok(None), Ok(None), Ok(false))
        );
        assert_eq!(Input::read(r#"{"path":null}"#, &known).unwrap().text("path"), Ok(None));
    }
}
