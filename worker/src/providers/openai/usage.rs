//! What a chunk says of usage and cost, wherever servers put it.

use serde_json::{Map, Value};
use skein_engine::session::model::Usage;

use crate::providers::event::Report;

/// Usage in disjoint classes. Reasoning lies within the completion, unless the total says that it stands beside it.
pub(super) fn report(usage: &Value) -> Option<Report> {
    let usage = usage.as_object().filter(|usage| !usage.is_empty())?;
    let number = |key: &str| usage.get(key).and_then(Value::as_u64);
    let inner = |key: &str, field: &str| usage.get(key).and_then(|inner| inner.get(field)).and_then(Value::as_u64);
    let total = number("total_tokens");
    let (prompt, completion) = (number("prompt_tokens"), number("completion_tokens"));
    if prompt.is_none() && completion.is_none() && total.is_none() {
        return None;
    }
    let (prompt, completion) = (prompt.unwrap_or(0), completion.unwrap_or(0));
    let cached = inner("prompt_tokens_details", "cached_tokens")
        .or(number("prompt_cache_hit_tokens"))
        .or(number("cached_tokens"))
        .unwrap_or(0)
        .min(prompt);
    let written = inner("prompt_tokens_details", "cache_write_tokens")
        .or(inner("prompt_tokens_details", "cache_creation_tokens"))
        .or(number("cache_creation_input_tokens"))
        .unwrap_or(0)
        .min(prompt - cached);
    let reasoning = inner("completion_tokens_details", "reasoning_tokens").or(number("reasoning_tokens")).unwrap_or(0);
    let within = prompt.saturating_add(completion);
    let (output, reasoning) = if reasoning > 0 && total == within.checked_add(reasoning) {
        (completion, reasoning)
    } else {
        let reasoning = reasoning.min(completion);
        (completion - reasoning, reasoning)
    };
    Some(Report {
        usage: Usage {
            input: prompt - cached - written,
            output,
            reasoning,
            cache_read: cached,
            cache_write: written,
            cache_write_long: 0,
        },
        total,
        more: false,
        cost_micros: reported_cost(usage),
    })
}

/// What the provider says it cost: OpenRouter's `cost` in dollars (with the upstream's where the key is the user's
/// own), Perplexity's `cost.total_cost`, xAI's ticks of 10⁻¹⁰ dollars.
fn reported_cost(usage: &Map<String, Value>) -> Option<u64> {
    let dollars = match usage.get("cost") {
        Some(Value::Object(cost)) => cost.get("total_cost").and_then(Value::as_f64),
        Some(cost) => cost.as_f64().map(|cost| {
            let upstream = usage.get("cost_details").and_then(|details| details.get("upstream_inference_cost"));
            let own_key = usage.get("is_byok").and_then(Value::as_bool) == Some(true);
            cost + upstream.and_then(Value::as_f64).filter(|_| own_key).unwrap_or(0.0)
        }),
        None => usage.get("cost_in_usd_ticks").and_then(Value::as_f64).map(|ticks| ticks / 1e10),
    }?;
    (0.0..1e9).contains(&dollars).then(|| (dollars * 1e6).round() as u64)
}
