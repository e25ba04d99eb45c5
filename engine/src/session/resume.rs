//! What going on with a session will cost, known before it is done: its conversation is sent again, from the provider's
//! cache as long as that lives.

use serde::{Deserialize, Serialize};

use super::model::{Run, Usage};
use crate::ids::{Micros, Timestamp};

/// What sending the conversation again costs. What the model then answers comes on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Resume {
    /// Until when the provider's cache is said to live; `None`: it is not known to cache.
    pub cached_until: Option<Timestamp>,
    /// Until then; `None`: no price is known.
    pub cached_micros: Option<Micros>,
    /// After it.
    pub uncached_micros: Option<Micros>,
}

impl Resume {
    /// What going on from the end of this run costs. `None`: it never asked a model.
    pub fn of(run: &Run) -> Option<Self> {
        let context = run.context?;
        let cost = |usage: Usage| run.prices.map(|rates| rates.cost(&usage).micros());
        Some(Self {
            cached_until: run.cached_until,
            cached_micros: cost(Usage { cache_read: context, ..Usage::default() }),
            uncached_micros: cost(Usage { input: context, ..Usage::default() }),
        })
    }

    /// At this moment.
    pub fn estimate(&self, now: Timestamp) -> Option<Micros> {
        if self.cached_until.is_some_and(|until| now < until) { self.cached_micros } else { self.uncached_micros }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::price::Rates;

    #[test]
    fn it_costs_the_cached_price_as_long_as_the_cache_lives() {
        let prices = Rates::from_json(r#"{"input":3,"output":15,"cache_read":0.3}"#);
        let mut run = Run { context: Some(10_000), prices, ..Run::new("t", Epoch(1), vec![]) };
        run.cached_until = Some(Timestamp(500));
        let resume = Resume::of(&run).unwrap();
        assert_eq!(resume.estimate(Timestamp(499)), Some(Micros(3_000)));
        assert_eq!(resume.estimate(Timestamp(500)), Some(Micros(30_000)));
        run.cached_until = None;
        assert_eq!(Resume::of(&run).unwrap().estimate(Timestamp(0)), Some(Micros(30_000)));
        run.prices = None;
        assert_eq!(Resume::of(&run).unwrap().estimate(Timestamp(0)), None, "unknown, never 0");
        run.context = None;
        assert_eq!(Resume::of(&run), None);
    }
}
