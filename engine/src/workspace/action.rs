//! An action: a message that is used again and again, with placeholders such as `{{topic}}` that are filled in each time.
//!
//! A placeholder's name has 1 to 60 letters, digits, `_` or `-`; spaces within the braces don't matter. Braces around
//! anything else are text, and so is a placeholder after a backslash. What is filled in is never looked at again.

use std::collections::BTreeMap;

use automerge::transaction::{Transactable, Transaction};
use automerge::{AutomergeError, ObjId, ObjType};
use serde::{Deserialize, Serialize};

use super::command::{WorkspaceError, checked_text};
use super::fields::{self, Reader, word};
use crate::session::command::checked_name;
use crate::session::tree::Slot;

/// Characters of a placeholder's name.
const MAX_PLACEHOLDER: usize = 60;
/// Bytes of a filled-in template, as of a message.
const MAX_RENDERED: usize = 1 << 20;

/// A message with placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// As shown.
    pub name: String,
    /// The message.
    pub template: String,
    /// What is said of its placeholders, by their names. One that isn't in the template is kept, and without effect.
    pub params: BTreeMap<String, Param>,
}

/// What is said of a placeholder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Param {
    /// For whoever fills it in.
    pub description: Option<String>,
    /// What stands for it when nothing is given; without one, something has to be given.
    pub default: Option<String>,
}

/// A change of one field. `None` takes it away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ActionField {
    /// 1 to 200 characters, no control characters.
    Name(String),
    /// 1 byte to 1 MiB.
    Template(String),
    /// Of a placeholder.
    Description(String, Option<String>),
    /// Of a placeholder.
    Default(String, Option<String>),
}

/// Why a template can't be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Nothing was given for these, and they have no default.
    #[error("nothing is given for {}", quoted(.0))]
    Missing(Vec<String>),
    /// The template has no such placeholders.
    #[error("the template has no placeholder {} (it has: {})", quoted(.given), if .known.is_empty() { "none".into() } else { .known.join(", ") })]
    Unknown {
        /// What was given.
        given: Vec<String>,
        /// The template's own.
        known: Vec<String>,
    },
    /// More than a message may hold.
    #[error("the message would be too long: at most 1 MiB")]
    TooLong,
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

impl Action {
    /// The placeholders of the template, each once, in order of appearance.
    pub fn placeholders(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for piece in pieces(&self.template) {
            if let Piece::Placeholder(name) = piece
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        names
    }

    /// The message, with every placeholder filled in from `values`, else from its default.
    pub fn render(&self, values: &BTreeMap<String, String>) -> Result<String, RenderError> {
        let known = self.placeholders();
        let unknown: Vec<String> = values.keys().filter(|name| !known.contains(&name.as_str())).cloned().collect();
        if !unknown.is_empty() {
            let known = known.into_iter().map(str::to_owned).collect();
            return Err(RenderError::Unknown { given: unknown, known });
        }
        let value = |name: &str| {
            let default = || self.params.get(name).and_then(|param| param.default.as_ref());
            values.get(name).or_else(default).map(String::as_str)
        };
        let missing: Vec<String> =
            known.iter().filter(|name| value(name).is_none()).map(|name| (*name).to_owned()).collect();
        if !missing.is_empty() {
            return Err(RenderError::Missing(missing));
        }
        let mut text = String::new();
        for piece in pieces(&self.template) {
            text.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Placeholder(name) => value(name).unwrap_or_default(),
            });
            if text.len() > MAX_RENDERED {
                return Err(RenderError::TooLong);
            }
        }
        Ok(text)
    }

    pub(super) fn read(fields: &mut Reader<'_, '_>) -> Self {
        let (name, template) = (fields.word("name").unwrap_or_default(), fields.word("template").unwrap_or_default());
        let mut params = BTreeMap::new();
        for (key, slot) in fields.slot.field("params").entries() {
            let text = |field: &str| slot.field(field).text().map(str::to_owned);
            if !slot.is_map() {
                fields.faults.note(|| format!("the placeholder {key:?} of the action {name:?} is not a map"));
            }
            params.insert(key.to_owned(), Param { description: text("description"), default: text("default") });
        }
        params.retain(|_, param| *param != Param::default());
        Self { name, template, params }
    }

    /// Writes what differs from `before`; all of it if there is none.
    pub(super) fn write(
        &self,
        tx: &mut Transaction<'_>,
        maps: &[ObjId],
        before: Option<&Self>,
    ) -> Result<(), AutomergeError> {
        let empty = Self::default();
        let was = before.unwrap_or(&empty);
        if self.name != was.name {
            fields::put(tx, maps, "name", Some(word(&self.name)))?;
        }
        if self.template != was.template {
            fields::put(tx, maps, "template", Some(word(&self.template)))?;
        }
        if before.is_none()
            && let Some(map) = maps.last()
        {
            tx.put_object(map, "params", ObjType::Map)?;
        }
        let absent = Param::default();
        for name in self.params.keys().chain(was.params.keys().filter(|name| !self.params.contains_key(*name))) {
            let (new, old) = (self.params.get(name).unwrap_or(&absent), was.params.get(name).unwrap_or(&absent));
            if new != old {
                let found = param_maps(tx, maps, name)?;
                new.write(tx, &found, old)?;
            }
        }
        Ok(())
    }
}

/// The maps of one placeholder, made where they are missing.
fn param_maps(tx: &mut Transaction<'_>, maps: &[ObjId], name: &str) -> Result<Vec<ObjId>, AutomergeError> {
    let mut all = fields::maps(tx, maps, "params")?;
    if all.is_empty()
        && let Some(map) = maps.last()
    {
        all.push(tx.put_object(map, "params", ObjType::Map)?);
    }
    let mut found = fields::maps(tx, &all, name)?;
    if found.is_empty()
        && let Some(last) = all.last()
    {
        found.push(tx.put_object(last, name, ObjType::Map)?);
    }
    Ok(found)
}

impl Param {
    fn write(&self, tx: &mut Transaction<'_>, maps: &[ObjId], was: &Self) -> Result<(), AutomergeError> {
        for (key, new, old) in
            [("description", &self.description, &was.description), ("default", &self.default, &was.default)]
        {
            if new != old {
                fields::put(tx, maps, key, new.as_deref().map(word))?;
            }
        }
        Ok(())
    }
}

impl ActionField {
    /// Checks the change, and makes it.
    pub(super) fn change(&self, action: &mut Action) -> Result<(), WorkspaceError> {
        match self {
            Self::Name(name) => action.name = checked_name(name)?.to_owned(),
            Self::Template(text) if text.trim().is_empty() => return Err(WorkspaceError::NoTemplate),
            Self::Template(text) => action.template = checked_text("the template", text)?.to_owned(),
            Self::Description(param, text) => {
                let text = text.as_deref().map(|text| checked_text("the description", text)).transpose()?;
                action.params.entry(checked_placeholder(param)?).or_default().description = text.map(str::to_owned);
            }
            Self::Default(param, text) => {
                let text = text.as_deref().map(|text| checked_text("the default", text)).transpose()?;
                action.params.entry(checked_placeholder(param)?).or_default().default = text.map(str::to_owned);
            }
        }
        Ok(())
    }

    /// The placeholder that it says something of.
    pub(super) fn param(&self) -> Option<&str> {
        match self {
            Self::Description(param, Some(_)) | Self::Default(param, Some(_)) => Some(param),
            _ => None,
        }
    }
}

fn checked_placeholder(name: &str) -> Result<String, WorkspaceError> {
    let fits = !name.is_empty() && name.chars().all(is_in_name) && name.chars().count() <= MAX_PLACEHOLDER;
    if fits { Ok(name.to_owned()) } else { Err(WorkspaceError::BadPlaceholder(name.chars().take(200).collect())) }
}

fn is_in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Cuts a template into text and placeholders, in time proportional to its length.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(open) = template[at..].find("{{").map(|found| at + found) {
        let Some((name, end)) = placeholder(template, open) else {
            at = open + 1;
            continue;
        };
        let escaped = template[from..open].ends_with('\\');
        let before = if escaped { open - 1 } else { open };
        if before > from {
            pieces.push(Piece::Text(&template[from..before]));
        }
        pieces.push(if escaped { Piece::Text(&template[open..end]) } else { Piece::Placeholder(name) });
        (from, at) = (end, end);
    }
    if from < template.len() {
        pieces.push(Piece::Text(&template[from..]));
    }
    pieces
}

/// The placeholder that begins at `open`: its name, and where it ends.
fn placeholder(template: &str, open: usize) -> Option<(&str, usize)> {
    let inner = template[open + 2..].trim_start_matches(' ');
    let name = &inner[..inner.find(|c| !is_in_name(c))?];
    let rest = inner[name.len()..].trim_start_matches(' ').strip_prefix("}}")?;
    (!name.is_empty() && name.chars().count() <= MAX_PLACEHOLDER).then_some((name, template.len() - rest.len()))
}

/// The values of a map of strings.
pub(super) fn texts_by_key(slot: Slot<'_>) -> BTreeMap<String, String> {
    let entries = slot.entries().into_iter();
    entries.filter_map(|(key, value)| Some((key.to_owned(), value.text()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(template: &str) -> Action {
        Action { name: "A".into(), template: template.into(), params: BTreeMap::new() }
    }

    fn values<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn placeholders_are_filled_in_wherever_they_stand() {
        let action = action("{{a}} and {{ b }}, {{a}}{{größe}}");
        assert_eq!(action.placeholders(), ["a", "b", "größe"]);
        let filled = action.render(&values([("a", "1"), ("b", "2"), ("größe", "3")]));
        assert_eq!(filled.as_deref(), Ok("1 and 2, 13"));
    }

    #[test]
    fn what_is_filled_in_is_not_filled_in_again() {
        let filled = action("{{a}} {{b}}").render(&values([("a", "{{b}}"), ("b", "x")]));
        assert_eq!(filled.as_deref(), Ok("{{b}} x"));
    }

    #[test]
    fn braces_around_anything_else_are_text() {
        for text in ["{{}}", "{{ }}", "{{a b}}", "{{a.b}}", "{{a", "a}}", "{ {a}}", "{{a}", "{{\na}}", "{{"] {
            assert_eq!(action(text).render(&BTreeMap::new()).as_deref(), Ok(text));
        }
        assert_eq!(action("{{{a}}}").render(&values([("a", "1")])).as_deref(), Ok("{1}"));
        assert_eq!(action(r"\{{a}} \x {{a}}").render(&values([("a", "1")])).as_deref(), Ok(r"{{a}} \x 1"));
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let mut action = action("{{a}} {{b}} {{c}}");
        action.params.insert("c".into(), Param { default: Some("3".into()), ..Param::default() });
        let error = action.render(&BTreeMap::new()).unwrap_err();
        assert_eq!(error, RenderError::Missing(vec!["a".into(), "b".into()]));
        let error = action.render(&values([("a", "1"), ("d", "4")])).unwrap_err().to_string();
        assert_eq!(error, "the template has no placeholder \"d\" (it has: a, b, c)");
        assert_eq!(action.render(&values([("a", "1"), ("b", "")])).as_deref(), Ok("1  3"));
    }

    #[test]
    fn a_megabyte_of_braces_is_read_in_one_pass() {
        let action = action(&"{{ a".repeat(1 << 18));
        assert_eq!(action.render(&BTreeMap::new()).map(|text| text.len()), Ok(1 << 20));
        let long = values([("a", "x".repeat(1 << 19).as_str())]);
        assert_eq!(self::action("{{a}}{{a}}{{a}}").render(&long), Err(RenderError::TooLong));
    }
}
