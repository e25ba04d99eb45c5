//! What tokens cost: one function for every surface, in integers. Sums are kept in picodollars, so that nothing is rounded but a run's
//! total, once. An unknown price is `None`, never 0.

use serde::{Deserialize, Serialize};

use crate::ids::Micros;
use crate::session::model::Usage;

/// Dollars per million tokens. A class without a rate of its own costs what `input` does (a long cache write what a
/// short one does); reasoning costs what output does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Read.
    pub input: f64,
    /// Written, reasoning too.
    pub output: f64,
    /// Read from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// Written to the short-lived cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
    /// Written to the one-hour cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_long: Option<f64>,
    /// Dollars for each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_request: Option<f64>,
    /// Other rates for long prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Above>,
}

/// What a request costs whose prompt (read, cached and written tokens) has more than `tokens`: all of it, not only what
/// lies above. Cache rates grow as `input` does, unless named.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Above {
    /// The threshold.
    pub tokens: u64,
    /// Read.
    pub input: f64,
    /// Written.
    pub output: f64,
    /// Read from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<f64>,
    /// Written to the short-lived cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<f64>,
    /// Written to the one-hour cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_long: Option<f64>,
}

/// Millionths of a millionth of a dollar: a rate of one dollar per million tokens is 10⁶ of them a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Picos(pub u128);

impl Picos {
    /// Rounded to the nearest millionth of a dollar.
    pub fn micros(self) -> Micros {
        Micros(u64::try_from(self.0.saturating_add(500_000) / 1_000_000).unwrap_or(u64::MAX))
    }

    /// So many millionths of a dollar.
    pub fn of_micros(micros: u64) -> Self {
        Self(u128::from(micros) * 1_000_000)
    }
}

impl std::ops::AddAssign for Picos {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl Rates {
    /// As a run keeps them; `None` for what is none.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|rates: &Self| rates.check().is_ok())
    }

    /// Why they can't be, if they can't.
    pub fn check(&self) -> Result<(), String> {
        let above = self.above.iter().flat_map(|above| {
            [Some(above.input), Some(above.output), above.cache_read, above.cache_write, above.cache_write_long]
        });
        let all = [
            Some(self.input),
            Some(self.output),
            self.cache_read,
            self.cache_write,
            self.cache_write_long,
            self.per_request,
        ];
        match all.into_iter().chain(above).flatten().find(|rate| !(0.0..=1e6).contains(rate)) {
            Some(rate) => Err(format!("{rate} is no price: dollars per million tokens, from 0 to 1,000,000")),
            None => Ok(()),
        }
    }

    /// The demo's: nothing is charged.
    pub fn pretend() -> Self {
        Self {
            input: 3.0,
            output: 15.0,
            cache_read: None,
            cache_write: None,
            cache_write_long: None,
            per_request: None,
            above: None,
        }
    }

    /// What one request cost.
    pub fn cost(&self, usage: &Usage) -> Picos {
        let prompt = [usage.input, usage.cache_read, usage.cache_write, usage.cache_write_long];
        let prompt = prompt.into_iter().fold(0, u64::saturating_add);
        let mut rates = *self;
        if let Some(above) = self.above.filter(|above| prompt > above.tokens) {
            let grown = |rate: Option<f64>| {
                rate.map(|rate| if self.input > 0.0 { rate * above.input / self.input } else { rate })
            };
            rates.input = above.input;
            rates.output = above.output;
            rates.cache_read = above.cache_read.or(grown(self.cache_read));
            rates.cache_write = above.cache_write.or(grown(self.cache_write));
            rates.cache_write_long = above.cache_write_long.or(grown(self.cache_write_long));
        }
        let cache_write = rates.cache_write.unwrap_or(rates.input);
        let classes = [
            (usage.input, rates.input),
            (usage.output, rates.output),
            (usage.reasoning, rates.output),
            (usage.cache_read, rates.cache_read.unwrap_or(rates.input)),
            (usage.cache_write, cache_write),
            (usage.cache_write_long, rates.cache_write_long.unwrap_or(cache_write)),
        ];
        let mut cost = Picos((rates.per_request.unwrap_or(0.0) * 1e12).round() as u128);
        for (count, rate) in classes {
            cost += Picos(u128::from(count) * (rate * 1e6).round() as u128);
        }
        cost
    }

    /// As a run keeps them.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("finite numbers are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(json: &str) -> Rates {
        Rates::from_json(json).unwrap()
    }

    #[test]
    fn every_class_has_its_rate_and_the_sum_is_rounded_once() {
        let rates = rates(r#"{"input":3,"output":15,"cache_read":0.3,"cache_write":3.75,"cache_write_long":6}"#);
        let usage =
            Usage { input: 100, output: 10, reasoning: 5, cache_read: 1000, cache_write: 200, cache_write_long: 50 };
        // 300 + 150 + 75 + 300 + 750 + 300
        assert_eq!(rates.cost(&usage).micros(), Micros(1875));
        let one = Usage { cache_read: 1, ..Usage::default() };
        let mut sum = Picos::default();
        (0..10).for_each(|_| sum += rates.cost(&one));
        assert_eq!((rates.cost(&one).micros(), sum.micros()), (Micros(0), Micros(3)));
    }

    #[test]
    fn a_long_prompt_costs_the_higher_rate_for_all_of_it() {
        let rates = rates(r#"{"input":1,"output":2,"cache_read":0.1,"above":{"tokens":1000,"input":2,"output":3}}"#);
        let at = Usage { input: 900, cache_read: 100, output: 10, ..Usage::default() };
        let above = Usage { input: 901, ..at };
        assert_eq!(rates.cost(&at).micros(), Micros(900 + 10 + 20));
        assert_eq!(rates.cost(&above).micros(), Micros(1802 + 20 + 30));
    }

    #[test]
    fn fees_for_each_request_are_part_of_it() {
        assert_eq!(
            rates(r#"{"input":0,"output":0,"per_request":0.005}"#).cost(&Usage::default()).micros(),
            Micros(5000)
        );
    }
}
