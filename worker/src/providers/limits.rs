//! Each provider's doors: how many requests may be under way, how many may begin in a minute, and until when it asked
//! to be left alone. All sessions of a worker go through the same ones, in the order in which they came.
//!
//! Invariant: a [`Place`] is held for as long as its answer streams; whoever stops waiting leaves the line at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// What `requests_per_minute` counts in.
const MINUTE: Duration = Duration::from_secs(60);

/// What the operator allows at a provider. The default allows everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Requests under way at once; `None`: any number.
    pub concurrent: Option<u32>,
    /// Requests that begin within 60 s; `None`: any number.
    pub per_minute: Option<u32>,
}

/// Leave for one request.
#[derive(Debug, Default)]
pub struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

/// The doors of all providers, by name.
#[derive(Clone, Debug, Default)]
pub struct Doors(Arc<Mutex<BTreeMap<String, Arc<Door>>>>);

#[derive(Debug)]
struct Door {
    permits: Option<Arc<Semaphore>>,
    per_minute: Option<usize>,
    /// Held by the first in line while it waits for its moment.
    line: tokio::sync::Mutex<()>,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    /// When the last requests began, at most [`Door::per_minute`] of them.
    begun: VecDeque<Instant>,
    closed_until: Option<Instant>,
}

impl Doors {
    /// Waits for leave to ask `provider`. Safe to cancel.
    pub async fn place(&self, provider: &str, allowed: Allowed) -> Place {
        let door = self.door(provider, allowed);
        let permit = match &door.permits {
            // The semaphore is never closed.
            Some(permits) => permits.clone().acquire_owned().await.ok(),
            None => None,
        };
        let _first = door.line.lock().await;
        while let Some(due) = door.begin(Instant::now()) {
            tokio::time::sleep_until(due).await;
        }
        Place { _permit: permit }
    }

    /// The provider asked to be left alone for so long: nobody asks it meanwhile.
    pub fn close(&self, provider: &str, allowed: Allowed, time: Duration) {
        let door = self.door(provider, allowed);
        let mut times = door.times();
        let until = Instant::now() + time;
        times.closed_until = Some(times.closed_until.map_or(until, |other| other.max(until)));
    }

    /// How long the provider still wants to be left alone.
    pub fn closed_for(&self, provider: &str, allowed: Allowed) -> Option<Duration> {
        let until = self.door(provider, allowed).times().closed_until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|time| !time.is_zero())
    }

    fn door(&self, provider: &str, allowed: Allowed) -> Arc<Door> {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(door) = doors.get(provider) {
            return door.clone();
        }
        let door = Arc::new(Door {
            permits: allowed.concurrent.map(|many| Arc::new(Semaphore::new(many.max(1) as usize))),
            per_minute: allowed.per_minute.map(|many| many.max(1) as usize),
            line: tokio::sync::Mutex::default(),
            times: Mutex::default(),
        });
        doors.insert(provider.to_owned(), door.clone());
        door
    }
}

impl Door {
    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request begins `now`, or says when one may be tried.
    fn begin(&self, now: Instant) -> Option<Instant> {
        let mut times = self.times();
        if let Some(until) = times.closed_until.filter(|until| *until > now) {
            return Some(until);
        }
        let most = self.per_minute?;
        if times.begun.len() >= most {
            let due = times.begun.front().map(|first| *first + MINUTE).filter(|due| *due > now);
            if due.is_some() {
                return due;
            }
            times.begun.pop_front();
        }
        times.begun.push_back(now);
        None
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const TWO: Allowed = Allowed { concurrent: Some(2), per_minute: None };

    #[tokio::test]
    async fn no_more_are_under_way_than_allowed_and_who_gives_up_leaves_the_line() {
        let doors = Doors::default();
        let first = doors.place("a", TWO).await;
        let _second = doors.place("a", TWO).await;
        let mut third = Box::pin(doors.place("a", TWO));
        assert!(third.as_mut().now_or_never().is_none());
        assert!(doors.place("b", TWO).now_or_never().is_some(), "each provider has its own");
        let mut fourth = Box::pin(doors.place("a", TWO));
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(third);
        drop(first);
        assert!(fourth.as_mut().now_or_never().is_some());
    }

    #[test]
    fn no_more_begin_in_any_minute_than_allowed() {
        let doors = Doors::default();
        let door = doors.door("a", Allowed { concurrent: None, per_minute: Some(2) });
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!((door.begin(at(0)), door.begin(at(20))), (None, None));
        assert_eq!(door.begin(at(30)), Some(at(60)));
        assert_eq!(door.begin(at(60)), None);
        assert_eq!(door.begin(at(61)), Some(at(80)));
    }

    #[tokio::test]
    async fn a_closed_door_opens_at_its_time_and_a_shorter_word_does_not_shorten_it() {
        let (doors, allowed) = (Doors::default(), Allowed::default());
        let begun = Instant::now();
        doors.close("a", allowed, Duration::from_millis(200));
        doors.close("a", allowed, Duration::from_millis(5));
        assert!(doors.closed_for("a", allowed).is_some());
        drop(doors.place("a", allowed).await);
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert_eq!(doors.closed_for("a", allowed), None);
    }
}
