//! What a run has used and cost so far: the sum over its requests, and an estimate of the one under way.

use skein_engine::price::{Picos, Rates};
use skein_engine::session::model::{Cost, Usage};

use crate::providers::event::Report;

/// The sum over a run's requests.
#[derive(Clone, Copy, Debug)]
pub struct Spending {
    rates: Option<Rates>,
    usage: Usage,
    picos: Picos,
    /// Some request's price isn't known.
    unknown: bool,
    estimated: bool,
    reported: bool,
}

/// One request, as it streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// Our count of the prompt's tokens.
    pub prompt: u64,
    /// Characters of text and inputs so far.
    pub written: u64,
    /// Characters of reasoning so far.
    pub reasoned: u64,
    /// What the provider says.
    pub report: Option<Report>,
    /// Whether the model came to its end, so that the report is its last.
    pub complete: bool,
}

impl Request {
    /// By class, and whether any of it is our estimate.
    pub fn usage(&self) -> (Usage, bool) {
        // Four characters a token: a running estimate, replaced by the provider's count.
        let output = self.written.div_ceil(4);
        let reasoning = self.reasoned.div_ceil(4);
        match self.report {
            Some(report) if self.complete => (report.usage, report.more),
            Some(report) => {
                let output = report.usage.output.max(output);
                let reasoning = report.usage.reasoning.max(reasoning);
                (Usage { output, reasoning, ..report.usage }, true)
            }
            None => (Usage { input: self.prompt, output, reasoning, ..Usage::default() }, true),
        }
    }
}

/// How long a provider's cache of a prompt is said to live after a request: Anthropic's five minutes, or an hour where that
/// was written (https://docs.claude.com/en/docs/build-with-claude/prompt-caching); OpenAI's five to ten minutes
/// (https://platform.openai.com/docs/guides/prompt-caching), taken as five. `None`: nothing says that it was cached.
pub fn cache_life_ms(usage: &Usage) -> Option<u64> {
    match (usage.cache_write_long > 0, usage.cache_read > 0 || usage.cache_write > 0) {
        (true, _) => Some(60 * 60 * 1_000),
        (false, true) => Some(5 * 60 * 1_000),
        (false, false) => None,
    }
}

impl Spending {
    /// Nothing yet.
    pub fn new(rates: Option<Rates>) -> Self {
        let usage = Usage::default();
        Self { rates, usage, picos: Picos::default(), unknown: false, estimated: false, reported: false }
    }

    /// A request is over.
    pub fn add(&mut self, request: &Request) {
        let (usage, estimated) = request.usage();
        self.usage += usage;
        self.estimated |= estimated;
        match (request.report.and_then(|report| report.cost_micros), self.rates) {
            (Some(micros), _) => {
                self.reported = true;
                self.picos += Picos::of_micros(micros);
            }
            (None, Some(rates)) => self.picos += rates.cost(&usage),
            (None, None) => self.unknown = true,
        }
    }

    /// Whether some request's price isn't known, so that no limit can be kept.
    pub fn is_unknown(&self) -> bool {
        self.unknown
    }

    /// With a request under way.
    pub fn with(&self, request: &Request) -> Self {
        let mut sum = *self;
        sum.add(request);
        sum
    }

    /// By class.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// As a run holds it.
    pub fn cost(&self) -> Cost {
        let micros = (!self.unknown).then(|| self.picos.micros());
        Cost { micros, estimated: self.estimated, reported: self.reported, unreadable: false }
    }
}

#[cfg(test)]
mod tests {
    use skein_engine::ids::Micros;

    use super::*;

    fn report(output: u64, cost_micros: Option<u64>) -> Option<Report> {
        Some(Report { usage: Usage { input: 100, output, ..Usage::default() }, cost_micros, ..Report::default() })
    }

    #[test]
    fn what_the_provider_reports_goes_before_our_sum_and_an_unknown_price_is_unknown() {
        let mut spending = Spending::new(None);
        spending.add(&Request { report: report(10, Some(70)), complete: true, ..Request::default() });
        assert_eq!(spending.cost(), Cost { micros: Some(Micros(70)), reported: true, ..Cost::default() });
        spending.add(&Request { report: report(10, None), complete: true, ..Request::default() });
        assert_eq!(spending.cost().micros, None);
        assert_eq!(spending.usage().input, 200);
    }

    #[test]
    fn a_cut_answer_is_estimated_from_what_came() {
        let mut spending = Spending::new(Some(Rates::pretend()));
        spending.add(&Request { report: report(1, None), written: 400, ..Request::default() });
        assert_eq!(spending.usage().output, 100);
        assert!(spending.cost().estimated);
        let nothing = Request { prompt: 50, written: 40, ..Request::default() };
        assert_eq!(spending.with(&nothing).usage().input, 150);
    }
}
