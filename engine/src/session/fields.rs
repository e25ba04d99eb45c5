//! Values to be written, whole: maps, lists and scalars as the design's "Documents" has them. A map that is written in
//! one piece costs two insertions into the document, whatever it holds; field by field it would cost one for each.
//!
//! Integers are `Int` and strings scalar; an absent value is an absent key.

use std::collections::HashMap;

use automerge::ScalarValue;
use automerge::hydrate::Value;

/// A map.
#[derive(Default)]
pub(crate) struct Fields(HashMap<&'static str, Value>);

impl Fields {
    /// A string; absent if `None`.
    pub(crate) fn word(self, key: &'static str, word: Option<&str>) -> Self {
        match word {
            Some(word) => self.value(key, text(word)),
            None => self,
        }
    }

    /// A whole number; absent if `None`.
    pub(crate) fn int(self, key: &'static str, n: Option<u64>) -> Self {
        match n {
            Some(n) => self.value(key, int(n)),
            None => self,
        }
    }

    /// True or false.
    pub(crate) fn bool(self, key: &'static str, yes: bool) -> Self {
        self.value(key, ScalarValue::Boolean(yes))
    }

    /// A list of strings.
    pub(crate) fn texts<T: AsRef<str>>(self, key: &'static str, texts: impl IntoIterator<Item = T>) -> Self {
        self.list(key, texts.into_iter().map(|item| text(item.as_ref()).into()).collect())
    }

    /// A list.
    pub(crate) fn list(self, key: &'static str, items: Vec<Value>) -> Self {
        self.value(key, items)
    }

    /// A map; absent if `None`.
    pub(crate) fn map(self, key: &'static str, fields: Option<Fields>) -> Self {
        match fields {
            Some(fields) => self.value(key, fields),
            None => self,
        }
    }

    fn value(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.insert(key, value.into());
        self
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        fields.0.into()
    }
}

pub(crate) fn text(text: &str) -> ScalarValue {
    ScalarValue::Str(text.into())
}

pub(crate) fn int(n: u64) -> ScalarValue {
    ScalarValue::Int(i64::try_from(n).unwrap_or(i64::MAX))
}
