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
/// What may be chosen for a placeholder.
const MAX_CHOICES: usize = 100;
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
    /// What it may be filled with.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Of a choice: one of these; none of them: anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
}

/// What a placeholder may be filled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Anything.
    #[default]
    Text,
    /// A number, as it is written in JSON or with leading zeros.
    Number,
    /// One of [`Param::choices`].
    Choice,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Choice => "choice",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Text, Self::Number, Self::Choice].into_iter().find(|kind| kind.word() == word)
    }
}

impl Param {
    /// Whether a value may stand for the placeholder `name`.
    fn check(&self, name: &str, value: &str) -> Result<(), RenderError> {
        let given = || value.chars().take(60).collect();
        match self.kind {
            Kind::Number if !value.trim().parse::<f64>().is_ok_and(f64::is_finite) => {
                Err(RenderError::NoNumber { name: name.to_owned(), given: given() })
            }
            Kind::Choice if !self.choices.is_empty() && !self.choices.iter().any(|choice| choice == value) => {
                let choices = self.choices.join(", ");
                Err(RenderError::NoChoice { name: name.to_owned(), given: given(), choices })
            }
            _ => Ok(()),
        }
    }
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
    /// Of a placeholder; with what may be chosen, if it is a choice.
    Type(String, Kind, Vec<String>),
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
    /// Something else than a number.
    #[error("\"{name}\" is a number, not \"{given}\"")]
    NoNumber {
        /// The placeholder.
        name: String,
        /// The beginning of what was given.
        given: String,
    },
    /// None of what may be chosen.
    #[error("\"{name}\" is one of {choices}, not \"{given}\"")]
    NoChoice {
        /// The placeholder.
        name: String,
        /// The beginning of what was given.
        given: String,
        /// What may be.
        choices: String,
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
        for name in &known {
            if let (Some(param), Some(value)) = (self.params.get(*name), value(name)) {
                param.check(name, value)?;
            }
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

    /// Whether each default may stand for its placeholder.
    pub(super) fn check_defaults(&self) -> Result<(), RenderError> {
        let mut defaults = self.params.iter().filter_map(|(name, param)| Some((name, param, param.default.as_ref()?)));
        defaults.try_for_each(|(name, param, default)| param.check(name, default))
    }

    pub(super) fn read(fields: &mut Reader<'_, '_>) -> Self {
        let (name, template) = (fields.word("name").unwrap_or_default(), fields.word("template").unwrap_or_default());
        let mut params = BTreeMap::new();
        for (key, slot) in fields.slot.field("params").entries() {
            let text = |field: &str| slot.field(field).text().map(str::to_owned);
            if !slot.is_map() {
                fields.faults.note(|| format!("the placeholder {key:?} of the action {name:?} is not a map"));
            }
            let kind = text("type").and_then(|word| Kind::of(&word)).unwrap_or_default();
            let choices = slot.field("choices").texts().unwrap_or_default();
            let param = Param { description: text("description"), default: text("default"), kind, choices };
            params.insert(key.to_owned(), param);
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
        if self.kind != was.kind {
            fields::put(tx, maps, "type", (self.kind != Kind::Text).then(|| word(self.kind.word())))?;
        }
        if self.choices != was.choices {
            fields::put_names(tx, maps, "choices", &self.choices)?;
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
            Self::Type(param, kind, choices) => {
                let mut fitting = choices.iter().map(|choice| checked_text("a choice", choice).map(str::to_owned));
                let choices = fitting.by_ref().take(MAX_CHOICES).collect::<Result<Vec<_>, _>>()?;
                if fitting.next().is_some() {
                    return Err(WorkspaceError::TooLong("the list of choices"));
                }
                let entry = action.params.entry(checked_placeholder(param)?).or_default();
                entry.kind = *kind;
                entry.choices = if *kind == Kind::Choice { choices } else { Vec::new() };
            }
        }
        Ok(())
    }

    /// The placeholder that it says something of.
    pub(super) fn param(&self) -> Option<&str> {
        match self {
            Self::Type(param, kind, _) if *kind != Kind::Text => Some(param),
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
    fn a_value_of_another_type_is_refused_with_what_may_be() {
        let mut action = action("{{words}} {{tone}}");
        action.params.insert("words".into(), Param { kind: Kind::Number, ..Param::default() });
        let choices = vec!["dry".into(), "warm".into()];
        let tone = Param { kind: Kind::Choice, choices, default: Some("dry".into()), ..Param::default() };
        action.params.insert("tone".into(), tone);
        let said = |pairs: &[(&str, &str)]| {
            let given = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            action.render(&given).map_err(|error| error.to_string())
        };
        assert_eq!(said(&[("words", "-1.5e3")]).as_deref(), Ok("-1.5e3 dry"));
        for wrong in ["many", "", "1,5", "NaN", "inf"] {
            assert_eq!(said(&[("words", wrong)]), Err(format!("\"words\" is a number, not \"{wrong}\"")));
        }
        let wrong = said(&[("words", "1"), ("tone", "Warm")]);
        assert_eq!(wrong, Err("\"tone\" is one of dry, warm, not \"Warm\"".into()));
    }

    #[test]
    fn a_megabyte_of_braces_is_read_in_one_pass() {
        let action = action(&"{{ a".repeat(1 << 18));
        assert_eq!(action.render(&BTreeMap::new()).map(|text| text.len()), Ok(1 << 20));
        let long = values([("a", "x".repeat(1 << 19).as_str())]);
        assert_eq!(self::action("{{a}}{{a}}{{a}}").render(&long), Err(RenderError::TooLong));
    }
}
