//! The demo's tools: dice that are pretend, and a message that is never sent.

use std::sync::Arc;

use serde_json::Value;

use super::{Outcome, Output, Policy, Running, Tool, Toolbox};
use crate::providers::prompt::ToolDefinition;

/// All of them.
pub fn toolbox() -> Toolbox {
    let mut tools = Toolbox::default();
    tools.add(Arc::new(Dice), None);
    tools.add(Arc::new(PretendSend), None);
    tools
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

    fn is_read_only(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, input: &'a str, _output: &'a Output) -> Running<'a> {
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
            Outcome::ok(content)
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
        Policy::Once
    }

    fn run<'a>(&'a self, _input: &'a str, _output: &'a Output) -> Running<'a> {
        Box::pin(async { Outcome::ok("Nothing was sent: this is a demonstration of a tool that asks.") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_demos_tools_do_nothing_to_the_world() {
        let (tools, output) = (toolbox(), Output::default());
        let dice = tools.get("demo_dice").unwrap();
        assert_eq!(dice.policy(), Policy::Allow);
        let rolled = dice.run(r#"{"dice":2,"sides":6}"#, &output).await;
        assert!(!rolled.is_error && rolled == dice.run(r#"{"dice":2,"sides":6}"#, &output).await);
        assert!(dice.run("{", &output).await.is_error);
        let send = tools.get("demo_send").unwrap();
        assert_eq!(send.policy(), Policy::Once);
        assert!(send.run("{}", &output).await.content.contains("Nothing was sent"));
        assert!(tools.get("rm").is_none());
    }

    #[test]
    fn schemas_are_json_objects() {
        for tool in toolbox().definitions() {
            assert!(crate::providers::json::is_object(&tool.schema), "{}", tool.name);
        }
    }
}
