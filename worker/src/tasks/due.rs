//! What a schedule has made due, by the task's policy for what was missed. Pure: times in, times out.

use skein_engine::ids::Timestamp;
use skein_engine::workspace::task::Missed;
use skein_engine::workspace::{Task, schedule};

/// What fell due less than so long before a worker was there isn't missed: it may just be restarting.
const GRACE_MS: u64 = 60_000;
/// The most that is made up for at once.
const MOST_MISSED: usize = 100;

/// What a schedule has made due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DueNow {
    /// These are fired; whether each was missed.
    pub(super) fire: Vec<(Timestamp, bool)>,
    /// Up to here there is nothing more to do.
    pub(super) dealt_with: Option<Timestamp>,
}

/// What a schedule has made due after `since`, up to `at`, by the task's policy for what fell due before `up_since`.
pub(super) fn due_now(
    cron: &str,
    task: &Task,
    since: Timestamp,
    up_since: Timestamp,
    at: Timestamp,
) -> Result<DueNow, schedule::ScheduleError> {
    let due = schedule::latest(cron, task.tz.as_deref(), since, at, MOST_MISSED)?;
    let dealt_with = due.last().map(|due| due.at);
    let mut fire: Vec<(Timestamp, bool)> =
        due.into_iter().map(|due| (due.at, due.at.0 + GRACE_MS < up_since.0)).collect();
    let latest = fire.iter().rfind(|(_, missed)| *missed).copied();
    fire.retain(|due| match task.missed {
        Missed::All => true,
        Missed::Skip => !due.1,
        Missed::One => !due.1 || Some(*due) == latest,
    });
    Ok(DueNow { fire, dealt_with })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_falls_out_is_made_up_for_once_or_always() {
        let hour = 3_600_000;
        let (since, now) = (Timestamp(1_795_608_000_000), Timestamp(1_795_608_000_000 + 5 * hour + 10_000));
        let times = |missed: Missed, up_since: u64| {
            let task = Task { missed, ..Task::default() };
            let due = due_now("0 * * * *", &task, since, Timestamp(up_since), now).unwrap();
            assert_eq!(due.dealt_with, Some(Timestamp(since.0 + 5 * hour)));
            due.fire.iter().map(|(due, _)| (due.0 - since.0) / hour).collect::<Vec<_>>()
        };
        // Away until a moment before the fifth hour's end.
        let came_back = now.0 - 1_000;
        assert_eq!(times(Missed::Skip, came_back), [5], "within the minute it isn't missed");
        assert_eq!(times(Missed::One, came_back), [4, 5]);
        assert_eq!(times(Missed::All, came_back), [1, 2, 3, 4, 5]);
        assert_eq!(
            times(Missed::Skip, since.0),
            [1, 2, 3, 4, 5],
            "what fell due while it was there is late, not missed"
        );
    }

    #[test]
    fn a_year_away_is_made_up_for_within_bounds() {
        let now = Timestamp(1_795_608_000_000);
        let since = Timestamp(now.0 - 365 * 86_400_000);
        let due = |missed: Missed, cron: &str| {
            due_now(cron, &Task { missed, ..Task::default() }, since, now, now).unwrap().fire
        };
        let all = due(Missed::All, "* * * * *");
        assert_eq!((all.len(), all.last().unwrap().0), (MOST_MISSED, now));
        let one = due(Missed::One, "0 * * * *");
        assert_eq!(one, [(Timestamp(now.0 - 3_600_000), true), (now, false)]);
        assert_eq!(due(Missed::Skip, "30 9 * * *"), []);
    }

    #[test]
    fn a_clock_change_neither_doubles_nor_loses_a_firing() {
        // Berlin goes from 02:00 to 03:00 on 2027-03-28, and from 03:00 to 02:00 on 2027-10-31.
        let day = 86_400_000;
        for midnight in [1_806_102_000_000_u64, 1_824_847_200_000] {
            let task = Task { tz: Some("Europe/Berlin".into()), missed: Missed::All, ..Task::default() };
            let mut fired = Vec::new();
            let mut since = Timestamp(midnight - day);
            // Looked at every half an hour for three days.
            for step in 0..3 * 48 {
                let at = Timestamp(midnight - day + step * 1_800_000);
                let due = due_now("30 2 * * *", &task, since, since, at).unwrap();
                fired.extend(due.fire);
                since = due.dealt_with.unwrap_or(since);
            }
            assert_eq!(fired.len(), 3, "{fired:?}");
        }
    }
}
