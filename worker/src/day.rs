//! What all sessions together cost in a calendar day of the worker's time zone, for the workspace's limit. The relay's sums
//! and this worker's own spending come in; a run counts on the day on which it began.
//!
//! Invariant: nothing counts twice. The relay's sum lags behind by a moment, and ours knows nothing of other workers since
//! the relay was first asked; of the two the higher one counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::tz::TimeZone;
use serde::Deserialize;
use skein_engine::ids::Timestamp;
use skein_engine::session::model::Cost;

use crate::link::Link;

/// Days that are remembered: a run that began yesterday may still go on.
const KEPT: usize = 3;
/// So much around a moment holds its day, whatever the zone.
const AROUND_MS: u64 = 48 * 60 * 60 * 1_000;

/// One day, in millionths of a dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    /// What the relay said first.
    first: u64,
    /// What it said last.
    last: u64,
    /// What this worker's runs have cost since the first answer; an estimate that was too high makes it less.
    since: i64,
}

impl Sum {
    fn spent(&self) -> u64 {
        self.last.max(self.first.saturating_add_signed(self.since))
    }
}

/// The days of one worker.
#[derive(Debug)]
pub struct Days {
    zone: String,
    sums: Mutex<BTreeMap<String, Sum>>,
}

impl Days {
    /// In this time zone.
    pub fn new(zone: String) -> Self {
        Self { zone, sums: Mutex::default() }
    }

    /// The day of a run that begins now.
    pub fn of(self: &Arc<Self>, began: Timestamp) -> Day {
        Day { days: self.clone(), began, date: date(&self.zone, began), told: 0 }
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Sum>) -> T) -> T {
        change(&mut self.sums.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `2026-11-25`, in a zone; of a zone that isn't known, in UTC.
fn date(zone: &str, at: Timestamp) -> String {
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let at = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.unwrap_or(jiff::Timestamp::MAX).to_zoned(zone).strftime("%Y-%m-%d").to_string()
}

/// A line of the relay's report.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    key: String,
    cost_micros: u64,
}

/// The day of one run, and what that run has told of itself.
#[derive(Debug)]
pub struct Day {
    days: Arc<Days>,
    began: Timestamp,
    date: String,
    told: u64,
}

impl Day {
    /// Asks the relay what the day has cost. An error only if it was never known.
    pub async fn ask(&self, link: &Link) -> Result<(), String> {
        match self.report(link).await {
            Ok(cost) => {
                self.days.with(|sums| {
                    let sum = sums.entry(self.date.clone()).or_insert(Sum { first: cost, ..Sum::default() });
                    sum.last = cost;
                    while sums.len() > KEPT {
                        sums.pop_first();
                    }
                });
                Ok(())
            }
            Err(why) if self.others().is_some() => {
                tracing::warn!(why, "what the day has cost can't be asked: what is known counts");
                Ok(())
            }
            Err(why) => Err(why),
        }
    }

    async fn report(&self, link: &Link) -> Result<u64, String> {
        let since = self.began.0.saturating_sub(AROUND_MS).to_string();
        let until = self.began.0.saturating_add(AROUND_MS).to_string();
        let parameters = [("by", "day"), ("tz", &*self.days.zone), ("since", &*since), ("until", &*until)];
        let answer = link.client().get("/query/cost", &parameters).await.map_err(|error| error.to_string())?;
        let lines: Vec<Line> = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        Ok(lines.iter().find(|line| line.key == self.date).map_or(0, |line| line.cost_micros))
    }

    /// What the run has cost so far.
    pub fn note(&mut self, cost: &Cost) {
        let micros = cost.micros.unwrap_or_default().0;
        let signed = |micros| i64::try_from(micros).unwrap_or(i64::MAX);
        let more = signed(micros) - signed(std::mem::replace(&mut self.told, micros));
        self.days.with(|sums| {
            if let Some(sum) = sums.get_mut(&self.date) {
                sum.since = sum.since.saturating_add(more);
            }
        });
    }

    /// What all other runs of the day have cost, as far as is known; `None`: the relay was never asked.
    pub fn others(&self) -> Option<u64> {
        self.days.with(|sums| sums.get(&self.date).map(|sum| sum.spent().saturating_sub(self.told)))
    }
}

#[cfg(test)]
mod tests {
    use skein_engine::ids::Micros;

    use super::*;

    fn cost(micros: u64) -> Cost {
        Cost { micros: Some(Micros(micros)), ..Cost::default() }
    }

    fn answered(day: &Day, micros: u64) {
        day.days.with(|sums| {
            sums.entry(day.date.clone()).or_insert(Sum { first: micros, ..Sum::default() }).last = micros;
        });
    }

    #[test]
    fn a_day_begins_at_midnight_of_the_zone() {
        // 2026-11-25, 23:30 in UTC.
        let late = Timestamp(1_795_649_400_000);
        assert_eq!(date("UTC", late), "2026-11-25");
        assert_eq!(date("Europe/Berlin", late), "2026-11-26");
        assert_eq!(date("America/New_York", late), "2026-11-25");
        assert_eq!(date("Nowhere/Else", late), "2026-11-25");
        assert_eq!(date("UTC", Timestamp(u64::MAX)).len(), 10, "any time has a day");
    }

    #[test]
    fn what_the_relay_has_heard_of_already_is_not_counted_again() {
        let days = Arc::new(Days::new("UTC".into()));
        let (mut one, mut two) = (days.of(Timestamp(0)), days.of(Timestamp(0)));
        assert_eq!(one.others(), None);
        one.note(&cost(5));
        answered(&one, 100);
        // Of the five nothing is known to be missing in the hundred.
        assert_eq!((one.others(), two.others()), (Some(95), Some(100)));
        one.note(&cost(25));
        two.note(&cost(7));
        assert_eq!(
            (one.others(), two.others()),
            (Some(102), Some(120)),
            "both are known here before the relay says so"
        );
        answered(&two, 127);
        assert_eq!((one.others(), two.others()), (Some(102), Some(120)), "now the relay has them too");
        answered(&two, 500);
        assert_eq!(two.others(), Some(493), "another worker has spent as well");
        two.note(&cost(3));
        answered(&two, 127);
        assert_eq!(one.others(), Some(102), "an estimate was too high");
        let tomorrow = days.of(Timestamp(AROUND_MS));
        assert_eq!(tomorrow.others(), None);
    }
}
