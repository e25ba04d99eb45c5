//! Tools that a model may call. Each says how it looks to the model and whether a person must be asked; a worker runs
//! one only after the document says so.
//!
//! Built in are those of the demo; tools that write, execute or reach out belong here too, and stay off unless
//! `skein.toml` lists them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use crate::providers::prompt::ToolDefinition;

/// Whether a call needs a person's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It runs.
    Allow,
    /// It waits for an approval.
    Ask,
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the model reads.
    pub content: String,
    /// A failure.
    pub is_error: bool,
}

impl Outcome {
    /// A failure, in words for the model.
    pub fn error(content: impl Into<String>) -> Self {
        Self { content: content.into(), is_error: true }
    }
}

/// A call under way. Dropping it stops it.
pub type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// Something that a model may call.
pub trait Tool: Send + Sync {
    /// Its name, what it does, and the schema of its input.
    fn definition(&self) -> ToolDefinition;

    /// The operator's floor: documents may only tighten it.
    fn policy(&self) -> Policy;

    /// Runs it. `input` is JSON text as the model wrote it, not checked against the schema.
    fn run<'a>(&'a self, input: &'a str) -> Running<'a>;
}

/// A set of tools, in the order in which they are offered.
#[derive(Clone, Default)]
pub struct Toolbox(Vec<Arc<dyn Tool>>);

impl std::fmt::Debug for Toolbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|tool| tool.definition().name)).finish()
    }
}

impl Toolbox {
    /// The demo's tools.
    pub fn demo() -> Self {
        Self(vec![Arc::new(Dice), Arc::new(PretendSend)])
    }

    /// As models see them.
    pub fn definitions(&self) -> Vec<ToolDefinition> {
        self.0.iter().map(|tool| tool.definition()).collect()
    }

    /// The tool of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.0.iter().find(|tool| tool.definition().name == name)
    }
}

/// Rolls pretend dice: the same input gives the same dice.
struct Dice;

impl Tool for Dice {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: "demo_dice".into(),
            description: "Rolls pretend dice. A harmless demonstration: it runs without asking.".into(),
            schema: r#"{"type":"object","properties":{"dice":{"type":"integer","minimum":1,"maximum":20000},"sides":{"type":"integer","minimum":2,"maximum":100},"seconds":{"type":"integer","minimum":0,"maximum":30}},"required":["dice","sides"]}"#.into(),
        }
    }

    fn policy(&self) -> Policy {
        Policy::Allow
    }

    fn run<'a>(&'a self, input: &'a str) -> Running<'a> {
        Box::pin(async move {
            let input: Value = serde_json::from_str(input).unwrap_or_default();
            let number =
                |key: &str, most: u64| input.get(key).and_then(Value::as_u64).filter(|n| (1..=most).contains(n));
            let (Some(dice), Some(sides)) = (number("dice", 20_000), number("sides", 100)) else {
                return Outcome::error("demo_dice needs \"dice\" from 1 to 20,000 and \"sides\" from 2 to 100.");
            };
            let seconds = input.get("seconds").and_then(Value::as_u64).unwrap_or(0).min(30);
            tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
            // Deterministic, as everything of the demo is: steps of a linear congruential generator.
            let mut state = dice * 1000 + sides;
            let rolled: Vec<u64> = (0..dice)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) % sides + 1
                })
                .collect();
            let words: Vec<String> = rolled.iter().map(u64::to_string).collect();
            let content = format!("{} (pretend dice, {} in total)", words.join(" and "), rolled.iter().sum::<u64>());
            Outcome { content, is_error: false }
        })
    }
}

/// Sends nothing.
struct PretendSend;

impl Tool for PretendSend {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: "demo_send".into(),
            description: "Pretends to send a message. It asks first, and even then sends nothing.".into(),
            schema: r#"{"type":"object","properties":{"to":{"type":"string"},"text":{"type":"string"}},"required":["to","text"]}"#.into(),
        }
    }

    fn policy(&self) -> Policy {
        Policy::Ask
    }

    fn run<'a>(&'a self, _input: &'a str) -> Running<'a> {
        Box::pin(async {
            Outcome {
                content: "Nothing was sent: this is a demonstration of a tool that asks.".into(),
                is_error: false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_demos_tools_do_nothing_to_the_world() {
        let tools = Toolbox::demo();
        let dice = tools.get("demo_dice").unwrap();
        assert_eq!(dice.policy(), Policy::Allow);
        let rolled = dice.run(r#"{"dice":2,"sides":6}"#).await;
        assert!(!rolled.is_error && rolled == dice.run(r#"{"dice":2,"sides":6}"#).await);
        assert!(dice.run("{").await.is_error);
        let send = tools.get("demo_send").unwrap();
        assert_eq!(send.policy(), Policy::Ask);
        assert!(send.run("{}").await.content.contains("Nothing was sent"));
        assert!(tools.get("rm").is_none());
    }

    #[test]
    fn schemas_are_json_objects() {
        for tool in Toolbox::demo().definitions() {
            assert!(crate::providers::json::is_object(&tool.schema), "{}", tool.name);
        }
    }
}
