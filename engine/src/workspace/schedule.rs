//! When a task is due: five fields of cron in a time zone, in, times out. A pure function: the zones are compiled in.
//!
//! Only with the feature `schedule`, which is on by default: the browser goes without, since the zones alone would be a
//! third of its module. Without it a schedule is taken as it is, and whoever computes it says what is wrong.

use crate::ids::Timestamp;

/// Characters of an expression or a zone's name.
const MAX_LENGTH: usize = 200;

/// Why a schedule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It can't be read.
    #[error("\"{cron}\" is no schedule: {why} (five fields: minute, hour, day, month, weekday)")]
    BadCron {
        /// As given.
        cron: String,
        /// In words.
        why: String,
    },
    /// No such zone.
    #[error("there is no time zone \"{0}\": give a name such as Europe/Berlin")]
    BadZone(String),
    /// It names no day that exists.
    #[error("\"{0}\" never comes: there is no such day")]
    Never(String),
}

/// One time at which a task is due.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Due {
    /// When.
    pub at: Timestamp,
    /// On the clock of its zone, with the offset: `2026-11-26T09:00:00+01:00`.
    pub local: String,
}

/// Checks a schedule; a zone without a schedule is checked as well.
pub(super) fn check(cron: Option<&str>, zone: Option<&str>, now: Timestamp) -> Result<(), ScheduleError> {
    if let Some(zone) = zone.filter(|zone| zone.len() > MAX_LENGTH) {
        return Err(ScheduleError::BadZone(zone.chars().take(MAX_LENGTH).collect()));
    }
    if let Some(cron) = cron.filter(|cron| cron.len() > MAX_LENGTH) {
        let cron = cron.chars().take(MAX_LENGTH).collect();
        return Err(ScheduleError::BadCron { cron, why: "it is too long".into() });
    }
    compute::check(cron, zone, now)
}

#[cfg(feature = "schedule")]
pub use compute::{day, latest, local, moment, next};

#[cfg(feature = "schedule")]
mod compute {
    use std::collections::VecDeque;

    use croner::Cron;
    use croner::errors::CronError;
    use croner::parser::{CronParser, Seconds, Year};
    use jiff::Zoned;
    use jiff::tz::TimeZone;

    use super::{Due, ScheduleError};
    use crate::ids::Timestamp;

    /// An hour, in milliseconds.
    const HOUR: u64 = 60 * 60 * 1_000;
    /// Clocks are set back by two hours at most. A search that began within the hour that comes twice would find what was
    /// due in its first pass once more, so each begins before it.
    const FOLD: u64 = 4 * HOUR;
    /// The year 9987: nothing is due after it, since calendars of four digits end soon.
    const LAST: u64 = 253_000_000_000_000;

    /// The last times after `after` and up to `until`, at most `most`, oldest first. The work is bounded however long ago
    /// `after` is, and the answer doesn't depend on where the search begins.
    pub fn latest(
        cron: &str,
        zone: Option<&str>,
        after: Timestamp,
        until: Timestamp,
        most: usize,
    ) -> Result<Vec<Due>, ScheduleError> {
        let mut window = HOUR;
        loop {
            let from = after.max(Timestamp(until.0.saturating_sub(window)));
            let mut found = VecDeque::new();
            search(cron, zone, from, |due| {
                let within = due.at <= until;
                if within {
                    found.push_back(due);
                    if found.len() > most {
                        found.pop_front();
                    }
                }
                within
            })?;
            if found.len() >= most || from == after {
                return Ok(found.into());
            }
            window = window.saturating_mul(4);
        }
    }

    /// The next times after `after`, at most `count`. `zone`: a name of the IANA database; `None`: UTC. A time that a
    /// clock change leaves out comes at the first moment after it, one that comes twice comes once.
    pub fn next(cron: &str, zone: Option<&str>, after: Timestamp, count: usize) -> Result<Vec<Due>, ScheduleError> {
        let mut times = Vec::new();
        search(cron, zone, after, |due| {
            if times.len() < count {
                times.push(due);
            }
            times.len() < count
        })?;
        Ok(times)
    }

    /// Gives out each time after `after`, as long as more are wanted.
    fn search(
        cron: &str,
        zone: Option<&str>,
        after: Timestamp,
        mut wants_more: impl FnMut(Due) -> bool,
    ) -> Result<(), ScheduleError> {
        let parsed = parse(cron)?;
        let zone = zone_of(zone)?;
        let Some(mut at) = clock(after.0.saturating_sub(FOLD), zone).filter(|_| after.0 < LAST) else { return Ok(()) };
        let mut any = false;
        loop {
            at = match parsed.find_next_occurrence(&at, false) {
                Ok(next) => next,
                Err(CronError::TimeSearchLimitExceeded) if !any => return Err(ScheduleError::Never(cron.into())),
                Err(_) => return Ok(()),
            };
            any = true;
            let ms = u64::try_from(at.timestamp().as_millisecond()).unwrap_or_default();
            if ms <= after.0 {
                continue;
            }
            if !wants_more(Due { at: Timestamp(ms), local: at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string() }) {
                return Ok(());
            }
        }
    }

    /// A moment on the clock of a zone, to the minute: `2026-11-25 09:00`. A zone that isn't known reads as UTC.
    pub fn local(at: Timestamp, zone: Option<&str>) -> String {
        let zone = zone_of(zone).unwrap_or(TimeZone::UTC);
        clock(at.0, zone).unwrap_or_default().strftime("%Y-%m-%d %H:%M").to_string()
    }

    /// The day of a moment in a zone: `2026-11-25`.
    pub fn day(at: Timestamp, zone: Option<&str>) -> Result<String, ScheduleError> {
        Ok(clock(at.0, zone_of(zone)?).unwrap_or_default().strftime("%Y-%m-%d").to_string())
    }

    /// A moment as people write it: `2026-11-25` (its beginning in UTC), `2026-11-25T09:00Z`, `2026-11-25T09:00+01:00`.
    pub fn moment(text: &str) -> Option<Timestamp> {
        let at = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let zoned = text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?;
            Some(zoned.timestamp())
        })?;
        u64::try_from(at.as_millisecond()).ok().map(Timestamp)
    }

    pub(super) fn check(cron: Option<&str>, zone: Option<&str>, now: Timestamp) -> Result<(), ScheduleError> {
        match cron {
            Some(cron) => next(cron, zone, now, 1).map(drop),
            None => zone_of(zone).map(drop),
        }
    }

    fn parse(cron: &str) -> Result<Cron, ScheduleError> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        parser.parse(cron).map_err(|error| ScheduleError::BadCron { cron: cron.into(), why: error.to_string() })
    }

    fn zone_of(zone: Option<&str>) -> Result<TimeZone, ScheduleError> {
        match zone {
            None => Ok(TimeZone::UTC),
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::BadZone(name.into())),
        }
    }

    fn clock(ms: u64, zone: TimeZone) -> Option<Zoned> {
        Some(jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?.to_zoned(zone))
    }
}

#[cfg(not(feature = "schedule"))]
mod compute {
    pub(super) fn check(
        _: Option<&str>,
        _: Option<&str>,
        _: crate::ids::Timestamp,
    ) -> Result<(), super::ScheduleError> {
        Ok(())
    }
}

#[cfg(all(test, feature = "schedule"))]
mod tests {
    use super::*;

    /// 2026-03-28 12:00 UTC, the day before clocks change in Berlin.
    const MARCH: Timestamp = Timestamp(1_774_699_200_000);
    /// 2026-10-24 12:00 UTC, the day before they change back.
    const OCTOBER: Timestamp = Timestamp(1_792_843_200_000);
    const HOUR: u64 = 60 * 60 * 1_000;

    fn locals(cron: &str, zone: Option<&str>, after: Timestamp) -> Vec<String> {
        next(cron, zone, after, 3).into_iter().flatten().map(|due| due.local).collect()
    }

    #[test]
    fn a_daily_task_keeps_its_hour_when_the_clocks_change() {
        let spring = locals("0 9 * * *", Some("Europe/Berlin"), MARCH);
        assert_eq!(spring, ["2026-03-29T09:00:00+02:00", "2026-03-30T09:00:00+02:00", "2026-03-31T09:00:00+02:00"]);
        let autumn = locals("0 9 * * *", Some("Europe/Berlin"), OCTOBER);
        assert_eq!(autumn, ["2026-10-25T09:00:00+01:00", "2026-10-26T09:00:00+01:00", "2026-10-27T09:00:00+01:00"]);
        assert_eq!(locals("0 9 * * *", None, MARCH)[0], "2026-03-29T09:00:00+00:00");
    }

    #[test]
    fn an_hour_that_is_left_out_comes_after_the_gap_and_one_that_repeats_comes_once() {
        let spring = locals("30 2 * * *", Some("Europe/Berlin"), MARCH);
        assert_eq!(spring, ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00"]);
        let autumn = locals("30 2 * * *", Some("Europe/Berlin"), OCTOBER);
        assert_eq!(autumn, ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"]);
    }

    #[test]
    fn within_the_hour_that_comes_twice_nothing_is_due_twice() {
        // 02:30 comes at 00:30 UTC and again at 01:30 UTC.
        let first = Timestamp(1_792_888_200_000);
        let berlin = Some("Europe/Berlin");
        for minutes in [0, 10, 45, 60, 89] {
            let after = first.plus_ms(minutes * 60_000);
            assert_eq!(locals("30 2 * * *", berlin, after)[0], "2026-10-26T02:30:00+01:00", "{minutes} minutes after");
        }
        let due = latest("30 2 * * *", berlin, OCTOBER, first.plus_ms(20 * HOUR), 10).unwrap();
        assert_eq!(due.iter().map(|due| due.at).collect::<Vec<_>>(), [first]);
        // What comes each quarter of an hour goes on through it.
        let each = latest("*/15 * * * *", berlin, first, first.plus_ms(HOUR), 10).unwrap();
        assert_eq!(each.len(), 4);
    }

    #[test]
    fn the_latest_times_are_found_however_long_ago_the_search_begins() {
        let locals = |cron: &str, after, most| -> Vec<String> {
            let found = latest(cron, Some("Europe/Berlin"), after, MARCH, most).unwrap();
            found.into_iter().map(|due| due.local[..16].to_owned()).collect()
        };
        let long_ago = Timestamp(1_000_000_000_000);
        assert_eq!(locals("* * * * *", long_ago, 2), ["2026-03-28T12:59", "2026-03-28T13:00"]);
        assert_eq!(locals("0 9 1 1 *", long_ago, 2), ["2025-01-01T09:00", "2026-01-01T09:00"]);
        assert_eq!(locals("0 9 * * *", Timestamp(MARCH.0 - 30 * HOUR), 9), ["2026-03-27T09:00", "2026-03-28T09:00"]);
        assert_eq!(locals("0 13 * * *", Timestamp(MARCH.0 - 1), 9), ["2026-03-28T13:00"]);
        assert_eq!(locals("0 13 * * *", MARCH, 9), Vec::<String>::new());
        assert_eq!(locals("0 9 29 2 *", Timestamp(MARCH.0 - 48 * HOUR), 9), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason() {
        for cron in ["", "* * * *", "0 0 0 * * *", "99 * * * *", "a b c d e", "* * * * * * * *", "💥"] {
            assert!(matches!(check(Some(cron), None, MARCH), Err(ScheduleError::BadCron { .. })), "{cron}");
        }
        let long = "*".repeat(1 << 20);
        assert!(matches!(check(Some(&long), None, MARCH), Err(ScheduleError::BadCron { .. })));
        assert_eq!(check(Some("0 0 30 2 *"), None, MARCH), Err(ScheduleError::Never("0 0 30 2 *".into())));
        for zone in ["", "Atlantis/Capital", "../../etc/passwd", long.as_str()] {
            assert!(matches!(check(None, Some(zone), MARCH), Err(ScheduleError::BadZone(_))));
        }
        assert_eq!(check(Some("@daily"), Some("Asia/Kathmandu"), MARCH), Ok(()));
        for late in [u64::MAX, 253_402_300_799_000, 253_402_200_000_000] {
            assert!(next("* * * * *", None, Timestamp(late), 2).is_ok());
            assert!(latest("* * * * *", None, Timestamp(late - 1), Timestamp(late), 2).is_ok());
        }
    }
}
