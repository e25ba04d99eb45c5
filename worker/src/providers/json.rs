//! JSON written key by key, in the order of the calls: the bytes of a request are ours to hold still, and what came
//! from a provider as JSON text goes back as that text.

/// An object under construction.
#[derive(Debug)]
pub struct Object(String);

impl Default for Object {
    fn default() -> Self {
        Self("{".into())
    }
}

impl Object {
    /// Adds a string.
    pub fn text(self, key: &str, value: &str) -> Self {
        self.raw(key, &quoted(value))
    }

    /// Adds a value that is JSON text already.
    pub fn raw(mut self, key: &str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(key));
        self.0.push(':');
        self.0.push_str(json);
        self
    }

    /// Adds every field of an object in JSON text, as it stands there; anything else adds nothing.
    pub fn fields_of(mut self, json: &str) -> Self {
        for (key, value) in fields(json) {
            self = self.raw(&key, &value);
        }
        self
    }

    /// Adds a value if there is one.
    pub fn raw_if(self, key: &str, json: Option<String>) -> Self {
        match json {
            Some(json) => self.raw(key, &json),
            None => self,
        }
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 1
    }

    /// The JSON text.
    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// An array of values that are JSON text already.
pub fn array<S: AsRef<str>>(items: &[S]) -> String {
    let mut text = String::from("[");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(item.as_ref());
    }
    text.push(']');
    text
}

/// A string as JSON text.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The fields of an object, their values as the text that came, in order; empty for what is no object.
pub fn fields(json: &str) -> Vec<(String, String)> {
    struct Fields;
    impl<'de> serde::de::Visitor<'de> for Fields {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, Box<serde_json::value::RawValue>>()? {
                fields.push((key, value.get().to_owned()));
            }
            Ok(fields)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    serde::Deserializer::deserialize_map(&mut reader, Fields).unwrap_or_default()
}

/// Whether this is the text of a JSON object.
pub fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_the_text_in_which_they_came() {
        let json = r#"{"b": 1.0, "a": {"n": 123456789012345678901234567890}}"#;
        let written = Object::default().text("t", "é\n").fields_of(json).end();
        assert_eq!(written, r#"{"t":"é\n","b":1.0,"a":{"n": 123456789012345678901234567890}}"#);
        assert!(fields("[1]").is_empty() && fields("").is_empty());
    }
}
