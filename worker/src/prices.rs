//! What models cost: the operator's `[[price]]`, else the bundled table of published prices, `data/genai-prices.json` (the
//! open data of the genai-prices project, MIT; `cargo xtask prices FILE` takes in a newer one).
//!
//! Invariant: a price is only known for the endpoint that it was published for. A compatible server at another address
//! has none, and neither has a model that the table doesn't name: unknown, never 0.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use skein_engine::ids::Timestamp;
use skein_engine::price::{Above, Rates};

/// One `[[price]]` of `skein.toml`: [`Rates`] and the model that they are of.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct Price {
    /// `PROVIDER/MODEL`.
    pub model: String,
    /// What it costs.
    pub rates: Rates,
}

impl TryFrom<toml::Table> for Price {
    type Error = String;

    /// Takes `model` out, so that what is left must be rates and nothing else.
    fn try_from(mut table: toml::Table) -> Result<Self, String> {
        let Some(toml::Value::String(model)) = table.remove("model") else {
            return Err("a [[price]] needs `model = \"PROVIDER/MODEL\"`".into());
        };
        let rates = table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        Ok(Self { model, rates })
    }
}

/// What the table says of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Published {
    /// What it costs.
    pub rates: Option<Rates>,
    /// The most tokens of a request and its answer together.
    pub context_window: Option<u64>,
}

/// The table, in the shape of genai-prices' `data_slim.json`, without what isn't used here.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Table {
    providers: Vec<Provider>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Provider {
    id: String,
    /// A regular expression; of the start of an endpoint's address.
    api_pattern: String,
    /// Whose models are served there too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fallback_model_providers: Vec<String>,
    models: Vec<Model>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Model {
    id: String,
    #[serde(rename = "match")]
    names: Names,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context_window: Option<u64>,
    prices: Prices,
}

/// Which names of models are meant.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Names {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Regex(String),
    Or(Vec<Names>),
    And(Vec<Names>),
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Prices {
    Always(Listed),
    /// The last one whose time it is.
    Dated(Vec<Dated>),
}

#[derive(Debug, Deserialize, Serialize)]
struct Dated {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    constraint: Option<When>,
    prices: Listed,
}

/// From a day on (`2026-03-13`), or within hours of each day (`00:30:00Z`), in UTC.
#[derive(Debug, Deserialize, Serialize)]
struct When {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_date: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_time: Option<String>,
}

/// Dollars per million tokens, or per thousand requests.
#[derive(Debug, Deserialize, Serialize)]
struct Listed {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_mtok: Option<Rate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_mtok: Option<Rate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_read_mtok: Option<Rate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_write_mtok: Option<Rate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_kcount: Option<f64>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Rate {
    Flat(f64),
    /// Another price for prompts of more than so many tokens.
    Tiered {
        base: f64,
        tiers: Vec<Tier>,
    },
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Tier {
    start: u64,
    price: f64,
}

static BUNDLED: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(include_bytes!("../data/genai-prices.json")).expect("a test reads the bundled table")
});

/// What the bundled table says of a model at an endpoint, at a time.
pub fn published(base_url: &str, model: &str, at: Timestamp) -> Published {
    BUNDLED.find(base_url, model, at)
}

impl Table {
    /// From its JSON.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// As it is bundled.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and finite numbers are always JSON")
    }

    /// What it says of a model at an endpoint, at a time.
    pub fn find(&self, base_url: &str, model: &str, at: Timestamp) -> Published {
        let model = model.to_lowercase();
        let here = |pattern: &str| {
            let found = Regex::new(pattern).ok().and_then(|pattern| pattern.find(base_url).map(|found| found.range()));
            // Only the host that the pattern names, not one that begins with it.
            found.is_some_and(|found| {
                found.start == 0 && (found.end == base_url.len() || base_url[found.end..].starts_with(['/', ':']))
            })
        };
        let Some(provider) = self.providers.iter().find(|provider| here(&provider.api_pattern)) else {
            return Published::default();
        };
        let beside = self.providers.iter().filter(|other| provider.fallback_model_providers.contains(&other.id));
        let mut models = std::iter::once(provider).chain(beside).flat_map(|provider| &provider.models);
        match models.find(|known| known.names.mean(&model)) {
            Some(known) => known.at(at),
            None => Published::default(),
        }
    }
}

impl Names {
    fn mean(&self, model: &str) -> bool {
        match self {
            Self::Equals(name) => model == name.to_lowercase(),
            Self::StartsWith(name) => model.starts_with(&name.to_lowercase()),
            Self::EndsWith(name) => model.ends_with(&name.to_lowercase()),
            Self::Contains(name) => model.contains(&name.to_lowercase()),
            Self::Regex(pattern) => Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(model)),
            Self::Or(any) => any.iter().any(|names| names.mean(model)),
            Self::And(all) => all.iter().all(|names| names.mean(model)),
        }
    }
}

impl Model {
    fn at(&self, at: Timestamp) -> Published {
        let listed = match &self.prices {
            Prices::Always(listed) => Some(listed),
            Prices::Dated(dated) => {
                let holds = |dated: &&Dated| dated.constraint.as_ref().is_none_or(|when| when.holds(at));
                dated.iter().rev().find(holds).map(|dated| &dated.prices)
            }
        };
        let claude = self.id.contains("claude");
        Published { rates: listed.and_then(|listed| listed.rates(claude)), context_window: self.context_window }
    }
}

impl When {
    fn holds(&self, at: Timestamp) -> bool {
        let (year, month, day) = at.date();
        let today = format!("{year:04}-{month:02}-{day:02}");
        let minutes = at.0 / 60_000 % (24 * 60);
        let time = format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let begun = self.start_date.as_ref().is_none_or(|start| *start <= today);
        let hours = match (&self.start_time, &self.end_time) {
            (Some(start), Some(end)) => **start <= *time && *time < **end,
            _ => true,
        };
        begun && hours
    }
}

impl Rate {
    fn base(&self) -> f64 {
        match self {
            Self::Flat(price) | Self::Tiered { base: price, .. } => *price,
        }
    }

    fn tier(&self) -> Option<Tier> {
        match self {
            Self::Flat(_) => None,
            Self::Tiered { tiers, .. } => tiers.first().copied(),
        }
    }
}

impl Listed {
    /// `None` unless both what is read and what is written has a price.
    fn rates(&self, claude: bool) -> Option<Rates> {
        let (input, output) = (self.input_mtok.as_ref()?, self.output_mtok.as_ref()?);
        let of = |rate: &Option<Rate>| rate.as_ref().map(Rate::base);
        // Anthropic's one-hour cache is written at twice the input's price, which the table doesn't list:
        // https://docs.claude.com/en/docs/build-with-claude/prompt-caching#pricing
        let long = |input: f64| claude.then_some(input * 2.0).filter(|_| self.cache_write_mtok.is_some());
        let tiers = [&self.input_mtok, &self.output_mtok, &self.cache_read_mtok, &self.cache_write_mtok];
        let start = tiers.into_iter().flatten().filter_map(Rate::tier).map(|tier| tier.start).min();
        let above = start.map(|tokens| {
            let above = |rate: &Rate| rate.tier().map_or(rate.base(), |tier| tier.price);
            Above {
                tokens,
                input: above(input),
                output: above(output),
                cache_read: self.cache_read_mtok.as_ref().map(above),
                cache_write: self.cache_write_mtok.as_ref().map(above),
                cache_write_long: long(above(input)),
            }
        });
        Some(Rates {
            input: input.base(),
            output: output.base(),
            cache_read: of(&self.cache_read_mtok),
            cache_write: of(&self.cache_write_mtok),
            cache_write_long: long(input.base()),
            per_request: self.requests_kcount.map(|thousand| thousand / 1000.0),
            above,
        })
    }
}

#[cfg(test)]
mod tests {
    use skein_engine::ids::Micros;
    use skein_engine::session::model::Usage;

    use super::*;

    /// 2026-11-25, noon in UTC.
    const NOW: Timestamp = Timestamp(1_795_608_000_000);
    const ANTHROPIC: &str = "https://api.anthropic.com/v1/";
    const OPENAI: &str = "https://api.openai.com/v1/";
    const GOOGLE: &str = "https://generativelanguage.googleapis.com/v1beta/";

    fn micros(base_url: &str, model: &str, usage: Usage) -> Micros {
        published(base_url, model, NOW).rates.unwrap_or_else(|| panic!("{model} has no price")).cost(&usage).micros()
    }

    #[test]
    fn claude_with_its_caches_costs_what_anthropic_says() {
        // https://claude.com/pricing#api, Claude Sonnet 4.5 up to 200,000 tokens: input $3, output $15, cache read $0.30,
        // five-minute write $3.75, one-hour write $6 a million.
        // 1,000 × 3 + 500 × 15 + 200 × 15 + 20,000 × 0.3 + 4,000 × 3.75 + 1,000 × 6
        //   = 3,000 + 7,500 + 3,000 + 6,000 + 15,000 + 6,000 micro-dollars
        let usage = Usage {
            input: 1_000,
            output: 500,
            reasoning: 200,
            cache_read: 20_000,
            cache_write: 4_000,
            cache_write_long: 1_000,
        };
        assert_eq!(micros(ANTHROPIC, "claude-sonnet-4-5-20250929", usage), Micros(40_500));
    }

    #[test]
    fn gpt_with_cached_input_and_reasoning_costs_what_openai_says() {
        // https://platform.openai.com/docs/pricing, GPT-5: input $1.25, cached $0.125, output (reasoning too) $10.
        // 2,000 × 1.25 + 8,000 × 0.125 + (300 + 1,700) × 10 = 2,500 + 1,000 + 20,000
        let usage = Usage { input: 2_000, output: 300, reasoning: 1_700, cache_read: 8_000, ..Usage::default() };
        assert_eq!(micros(OPENAI, "gpt-5", usage), Micros(23_500));
    }

    #[test]
    fn gemini_costs_more_for_a_long_prompt() {
        // https://ai.google.dev/gemini-api/docs/pricing, Gemini 2.5 Pro: up to 200,000 tokens input $1.25, output $10;
        // beyond, for all of it, input $2.50, output $15.
        let short = Usage { input: 200_000, output: 1_000, ..Usage::default() };
        let long = Usage { input: 200_001, ..short };
        // 200,000 × 1.25 + 1,000 × 10; 200,001 × 2.5 + 1,000 × 15 (500,002.5 rounded)
        assert_eq!(micros(GOOGLE, "gemini-2.5-pro", short), Micros(260_000));
        assert_eq!(micros(GOOGLE, "gemini-2.5-pro", long), Micros(515_003));
    }

    #[test]
    fn prices_change_with_their_day_and_hour() {
        let rates = |model, at| published(ANTHROPIC, model, at).rates.unwrap().input;
        // 2026-08-31 and 2026-09-01.
        assert_eq!(rates("claude-sonnet-5", Timestamp(1_788_177_600_000)), 2.0);
        assert_eq!(rates("claude-sonnet-5", Timestamp(1_788_264_000_000)), 3.0);
        let deepseek = |hour: u64| {
            let at = Timestamp(NOW.0 - 12 * 3_600_000 + hour * 3_600_000);
            published("https://api.deepseek.com/v1/", "deepseek-reasoner", at).rates.unwrap().input
        };
        assert_eq!((deepseek(0), deepseek(12), deepseek(20)), (0.135, 0.55, 0.135));
    }

    #[test]
    fn a_price_is_known_only_where_it_was_published() {
        for (base_url, model) in [
            ("http://127.0.0.1:8077/v1/", "gpt-5"),
            ("https://api.openai.com.example.org/v1/", "gpt-5"),
            ("https://example.org/https://api.openai.com/", "gpt-5"),
            (OPENAI, "no-such-model"),
            (ANTHROPIC, ""),
        ] {
            assert_eq!(published(base_url, model, NOW), Published::default(), "{base_url} {model}");
        }
        assert_eq!(published(ANTHROPIC, "Claude-Sonnet-4-5", NOW).context_window, Some(1_000_000));
    }

    #[test]
    fn every_listed_price_makes_sense_and_the_table_is_bundled_without_what_is_not_used() {
        let mut priced = 0;
        for model in BUNDLED.providers.iter().flat_map(|provider| &provider.models) {
            if let Some(rates) = model.at(NOW).rates {
                assert_eq!(rates.check(), Ok(()), "{}", model.id);
                priced += 1;
            }
        }
        assert!(priced > 500, "{priced}");
        for provider in &BUNDLED.providers {
            assert!(Regex::new(&provider.api_pattern).is_ok(), "{}", provider.id);
        }
        assert_eq!(BUNDLED.json().as_bytes(), include_bytes!("../data/genai-prices.json"));
    }
}
