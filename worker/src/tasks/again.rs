//! Which failed runs are tried again, and when. Pure: firings and how they ended in, further tries out.

use std::collections::BTreeMap;

use skein_engine::ids::{DocumentId, Timestamp};
use skein_engine::wire::catalog::Firing;

/// The wait before a failed run is tried again, in milliseconds; doubled each time.
const WAIT_MS: u64 = 10_000;

/// Another try of a firing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Again {
    /// The firing's.
    pub(super) id: String,
    /// All tries of a firing share it.
    pub(super) run: String,
    /// When the first one was due.
    pub(super) at: Timestamp,
    /// For placeholders.
    pub(super) values: BTreeMap<String, String>,
}

/// The tries that are due at `now`, of a task that allows so many. `failed` says when a session ended in a failure that
/// trying again may mend.
pub(super) fn due<'a>(
    firings: impl Iterator<Item = &'a Firing>,
    retries: u64,
    now: Timestamp,
    failed: impl Fn(DocumentId) -> Option<Timestamp>,
) -> Vec<Again> {
    let mut runs: BTreeMap<&str, &Firing> = BTreeMap::new();
    for firing in firings {
        let last = runs.entry(&firing.run).or_insert(firing);
        if tries(&firing.id) > tries(&last.id) {
            *last = firing;
        }
    }
    let due = runs.into_values().filter_map(|last| {
        let tried = tries(&last.id);
        let session = last.session.filter(|_| u64::from(tried) <= retries)?;
        let ended = failed(session)?;
        let wait = WAIT_MS << (tried - 1).min(10);
        let base = last.id.split('.').next().unwrap_or_default();
        let again = || Again {
            id: format!("{base}.{}", tried + 1),
            run: last.run.clone(),
            at: last.at,
            values: last.values.clone(),
        };
        (ended.0.saturating_add(wait) <= now.0).then(again)
    });
    due.collect()
}

/// When a scheduled firing fell due; `None`: it is another try, or was triggered.
pub(super) fn due_time(id: &str) -> Option<u64> {
    id.parse().ok()
}

/// Which try a firing is, from 1.
fn tries(id: &str) -> u32 {
    id.split_once('.').and_then(|(_, number)| number.parse().ok()).map_or(1, |number: u32| number.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firing(id: &str, run: &str, session: Option<u8>) -> Firing {
        Firing {
            task: "t".into(),
            id: id.into(),
            at: Timestamp(5),
            run: run.into(),
            session: session.map(|n| DocumentId::from_bytes([n; 16])),
            error: None,
            values: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        }
    }

    #[test]
    fn a_failed_run_is_tried_again_as_often_as_its_task_allows_and_later_each_time() {
        let ended = Timestamp(1_000_000);
        let ids = |firings: &[Firing], retries, after: u64| -> Vec<String> {
            let due = due(firings.iter(), retries, ended.plus_ms(after), |_| Some(ended));
            assert!(due.iter().all(|again| again.run == "r" && again.at == Timestamp(5) && !again.values.is_empty()));
            due.into_iter().map(|again| again.id).collect()
        };
        let mut firings = vec![firing("kabc", "r", Some(1))];
        assert_eq!(ids(&firings, 2, WAIT_MS - 1), Vec::<String>::new());
        assert_eq!(ids(&firings, 2, WAIT_MS), ["kabc.2"]);
        assert_eq!(ids(&firings, 0, WAIT_MS), Vec::<String>::new());
        firings.insert(0, firing("kabc.2", "r", Some(2)));
        assert_eq!(ids(&firings, 2, WAIT_MS), Vec::<String>::new());
        assert_eq!(ids(&firings, 2, 2 * WAIT_MS), ["kabc.3"]);
        firings.push(firing("kabc.3", "r", Some(3)));
        assert_eq!(ids(&firings, 2, u64::MAX / 2), Vec::<String>::new());
    }

    #[test]
    fn what_did_not_fail_or_made_no_session_is_not_tried_again() {
        let firings = [firing("1", "a", Some(1)), firing("2", "b", None)];
        assert_eq!(due(firings.iter(), 10, Timestamp(u64::MAX), |_| None), []);
        assert_eq!(due(firings[1..].iter(), 10, Timestamp(u64::MAX), |_| Some(Timestamp(0))), []);
    }

    #[test]
    fn ids_say_which_try_it_is() {
        assert_eq!(
            (due_time("1795608000000"), due_time("1795608000000.2"), due_time("kabc")),
            (Some(1_795_608_000_000), None, None)
        );
        assert_eq!((tries("5"), tries("5.2"), tries("kabc")), (1, 2, 1));
    }
}
