//! `plan`: the model's list of what there is to do. The last call is the plan: it stands in the session's document, and
//! nothing else keeps it.

use serde_json::Value;

use super::input::Input;
use super::{Outcome, Output, Policy, Running, Tool};
use crate::providers::prompt::ToolDefinition;

/// The most items of a plan, and characters of one.
const ITEMS: usize = 100;
const CHARACTERS: usize = 500;

/// See the module.
#[derive(Debug)]
pub struct Plan;

impl Tool for Plan {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: "plan".into(),
            description: "Writes down the plan for work of several steps, and how far it has come. Give all items each \
                time: the list replaces the one before. Keep at most one item in the state \"doing\"."
                .into(),
            schema: r#"{"type":"object","properties":{"items":{"type":"array","minItems":1,"maxItems":100,"items":{"type":"object","properties":{"text":{"type":"string","description":"What is to be done"},"state":{"type":"string","enum":["todo","doing","done"]}},"required":["text","state"],"additionalProperties":false}}},"required":["items"],"additionalProperties":false}"#.into(),
        }
    }

    fn policy(&self) -> Policy {
        Policy::Allow
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, input: &'a str, _output: &'a Output) -> Running<'a> {
        Box::pin(async move { shown(input).map_or_else(Outcome::error, Outcome::ok) })
    }
}

/// The plan as text.
fn shown(input: &str) -> Result<String, String> {
    let input = Input::read(input, &["items"])?;
    let items = match input.get("items") {
        Some(Value::Array(items)) if (1..=ITEMS).contains(&items.len()) => items,
        _ => return Err(format!("\"items\" must be a list of 1 to {ITEMS} items.")),
    };
    let lines = items.iter().enumerate().map(|(index, item)| {
        let wrong = |what: &str| format!("Item {}: {what}", index + 1);
        let item = Input::read(&item.to_string(), &["text", "state"]).map_err(|why| wrong(&why))?;
        let text = item.needed("text").map_err(|why| wrong(&why))?.trim();
        if text.is_empty() || text.contains('\n') || text.chars().count() > CHARACTERS {
            return Err(wrong(&format!("\"text\" must be one line of 1 to {CHARACTERS} characters.")));
        }
        let mark = match item.needed("state").map_err(|why| wrong(&why))? {
            "todo" => ' ',
            "doing" => '>',
            "done" => 'x',
            _ => return Err(wrong("\"state\" must be todo, doing or done.")),
        };
        Ok(format!("[{mark}] {text}"))
    });
    Ok(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_shown_as_a_list_and_a_bad_item_is_named() {
        let plan = r#"{"items":[{"text":"Read","state":"done"},{"text":"Write","state":"doing"},{"text":"Rest","state":"todo"}]}"#;
        assert_eq!(shown(plan).unwrap(), "[x] Read\n[>] Write\n[ ] Rest");
        for (input, words) in [
            ("{}", "1 to 100 items"),
            (r#"{"items":[]}"#, "1 to 100 items"),
            (r#"{"items":[{"text":"a","state":"done"},{"text":"b"}]}"#, "Item 2: \"state\" is missing"),
            (r#"{"items":[{"text":" ","state":"done"}]}"#, "Item 1: \"text\" must be one line"),
            (r#"{"items":[{"text":"a","state":"later"}]}"#, "todo, doing or done"),
            (r#"{"items":["a"]}"#, "Item 1: The input must be a JSON object"),
        ] {
            assert!(shown(input).unwrap_err().contains(words), "{input}: {:?}", shown(input));
        }
    }
}
