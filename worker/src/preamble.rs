//! What stands before the conversation in a request: instructions, tools, settings. It holds still from run to run, so
//! that a request begins with the bytes that the provider has cached.
//!
//! A run takes its predecessor's preamble, byte for byte, unless the agent was changed in what a model is told, or a tool
//! of it is gone. What tool servers offer anew, or describe otherwise, joins once the cache has lapsed anyway.

use std::collections::BTreeMap;

use skein_engine::ids::Timestamp;
use skein_engine::session::model::Run;

use crate::link::Link;
use crate::providers::prompt::{Preamble, ToolDefinition};

/// The preamble of a run that comes after `before`, of the same agent; `fresh` is what would be sent if nothing had been.
pub async fn of(link: &Link, before: Option<&Run>, fresh: Preamble, now: Timestamp) -> Preamble {
    let Some(before) = before else { return fresh };
    let Some(hash) = before.preamble.as_ref() else { return fresh };
    if fresh.to_blob().0 == *hash {
        return fresh;
    }
    let cached = before.cached_until.is_some_and(|until| now < until);
    match link.get_blob(hash).await.and_then(|bytes| Preamble::of_blob(&bytes)) {
        Some(kept) => choose(kept, fresh, cached),
        None => fresh,
    }
}

fn choose(kept: Preamble, fresh: Preamble, cached: bool) -> Preamble {
    let same_agent = Preamble { tools: Vec::new(), ..kept.clone() } == Preamble { tools: Vec::new(), ..fresh.clone() };
    let by_name = |tools: &[ToolDefinition]| -> BTreeMap<String, ToolDefinition> {
        tools.iter().map(|tool| (tool.name.clone(), tool.clone())).collect()
    };
    let (known, offered) = (by_name(&kept.tools), by_name(&fresh.tools));
    let all_there = known.keys().all(|name| offered.contains_key(name));
    // Another order alone is never a reason.
    if same_agent && all_there && (cached || known == offered) { kept } else { fresh }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, description: &str) -> ToolDefinition {
        ToolDefinition { name: name.into(), description: description.into(), schema: "{}".into() }
    }

    fn preamble(system: &str, tools: &[ToolDefinition]) -> Preamble {
        Preamble { system: system.into(), tools: tools.to_vec(), ..Preamble::default() }
    }

    #[test]
    fn it_holds_still_while_it_is_cached_unless_the_agent_changed_or_a_tool_is_gone() {
        let (a, b) = (tool("a", "A."), tool("b", "B."));
        let kept = preamble("s", &[a.clone(), b.clone()]);
        let reordered = preamble("s", &[b.clone(), a.clone()]);
        let described = preamble("s", &[tool("a", "Otherwise."), b.clone()]);
        let more = preamble("s", &[a.clone(), b.clone(), tool("c", "C.")]);
        for fresh in [&reordered, &described, &more] {
            assert_eq!(choose(kept.clone(), fresh.clone(), true), kept);
        }
        assert_eq!(choose(kept.clone(), reordered, false), kept, "an order is no reason");
        for fresh in [described, more] {
            assert_eq!(choose(kept.clone(), fresh.clone(), false), fresh, "once the cache has lapsed");
        }
        let gone = preamble("s", std::slice::from_ref(&a));
        let told = preamble("t", &[a.clone(), b.clone()]);
        let thinks = Preamble { thinking: Some(2_000), ..kept.clone() };
        let listed = Preamble { listed: vec!["a".into()], ..kept.clone() };
        for fresh in [gone, told, thinks, listed] {
            assert_eq!(choose(kept.clone(), fresh.clone(), true), fresh);
        }
    }
}
