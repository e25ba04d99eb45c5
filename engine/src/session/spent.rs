//! What a session has spent, by day, agent, model, task and action: what is left of it once it is purged.
//!
//! Invariant: the sums are those of rule 18 (all runs, shown or not; inherited ones not; what no worker wrote not), and
//! there are at most [`MOST`] of them, whatever the session was.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::conversation::Writers;
use super::model::{Origin, Run, Session, Usage};
use super::trust::{self, Verdict};
use crate::ids::{Micros, Timestamp};

/// Entries of one session. Beyond it days are taken together by month, then by year, then all; then what is
/// beyond it, as one.
pub const MOST: usize = 400;

/// Characters of a word in them.
const LONGEST: usize = 200;

/// One sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spent {
    /// `2026-11-25` in UTC, when the runs began; `2026-11` or `2026` where days were taken together; empty: unknown.
    pub day: String,
    /// The agent's id.
    pub agent: Option<String>,
    /// `PROVIDER/MODEL`.
    pub model: Option<String>,
    /// The task that made the session.
    pub task: Option<String>,
    /// The action that the first answered message came from.
    pub action: Option<String>,
    /// How many.
    pub runs: u64,
    /// Tokens by class.
    pub usage: Usage,
    /// What is known of the cost.
    pub cost_micros: Micros,
    /// Some run's cost is unknown.
    pub incomplete: bool,
    /// Some run's cost is an estimate.
    pub estimated: bool,
}

impl Spent {
    /// Adds what was spent; what it was spent on stays.
    fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.usage += other.usage;
        self.cost_micros.0 = self.cost_micros.0.saturating_add(other.cost_micros.0);
        self.incomplete |= other.incomplete;
        self.estimated |= other.estimated;
    }
}

/// The sums of a session, by day.
pub fn spent(session: &Session, writers: &Writers) -> Vec<Spent> {
    let counted: Vec<&Run> = counted(session, writers).collect();
    let actions = actions(session);
    let mut sums = Vec::new();
    // So many letters of a day are told apart.
    for precision in [10, 7, 4, 0] {
        sums = sum(session, &counted, &actions, precision);
        if sums.len() <= MOST {
            break;
        }
    }
    if sums.len() > MOST {
        // What is left is told together: of no agent, model or action, but none of it is lost.
        let rest = sums.split_off(MOST - 1);
        let mut others = Spent { task: rest.first().and_then(|sum| sum.task.clone()), ..Spent::default() };
        rest.iter().for_each(|sum| others.add(sum));
        sums.push(others);
    }
    sums
}

/// The runs that count (rule 18).
pub fn counted<'a>(session: &'a Session, writers: &'a Writers) -> impl Iterator<Item = &'a Run> {
    let runs = session.runs.values().flatten().filter(|run| !run.inherited);
    runs.filter(|run| trust::run(run, session.maker.as_ref(), writers) != Verdict::Void)
}

/// The actions that messages come from, by message.
pub fn actions(session: &Session) -> BTreeMap<&str, &str> {
    session.messages.iter().filter_map(|message| Some((&*message.id, message.action.as_deref()?))).collect()
}

fn sum(session: &Session, runs: &[&Run], actions: &BTreeMap<&str, &str>, precision: usize) -> Vec<Spent> {
    let task = match &session.origin {
        Some(Origin::Task { task, .. }) => Some(clip(task.clone())),
        _ => None,
    };
    let mut sums: BTreeMap<_, Spent> = BTreeMap::new();
    for run in runs {
        let mut day = run.started_at.or(run.ended_at).map(day).unwrap_or_default();
        day.truncate(precision);
        let action = run.answers.iter().find_map(|message| actions.get(&**message));
        let action = action.map(|action| clip((*action).to_owned()));
        let (agent, model) = (run.agent.clone().map(clip), run.full_model().map(clip));
        let sum = sums.entry((day.clone(), agent.clone(), model.clone(), action.clone())).or_insert_with(|| Spent {
            day,
            agent,
            model,
            task: task.clone(),
            action,
            ..Spent::default()
        });
        sum.add(&Spent {
            runs: 1,
            usage: run.usage,
            cost_micros: run.cost.micros.unwrap_or_default(),
            incomplete: run.cost.micros.is_none() && run.cost.is_unknown(&run.usage),
            estimated: run.cost.estimated,
            ..Spent::default()
        });
    }
    sums.into_values().collect()
}

/// Ids and models are short; what is longer would be in every device's list for ever.
fn clip(mut word: String) -> String {
    if let Some((end, _)) = word.char_indices().nth(LONGEST) {
        word.truncate(end);
    }
    word
}

fn day(at: Timestamp) -> String {
    let (year, month, day) = at.date();
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::super::model::{Cost, RunState};
    use super::*;
    use crate::ids::Epoch;

    fn run(turn: &str, day: u64, model: &str, micros: Option<u64>) -> Run {
        Run {
            agent: Some("a".to_owned()),
            model: Some(model.to_owned()),
            provider: Some("p".to_owned()),
            state: RunState::Completed,
            started_at: Some(Timestamp(1_800_000_000_000 + day * 86_400_000)),
            usage: Usage { input: 10, ..Usage::default() },
            cost: Cost { micros: micros.map(Micros), ..Cost::default() },
            ..Run::new(turn, Epoch(1), vec![turn.to_owned()])
        }
    }

    fn session(runs: Vec<Run>) -> Session {
        Session { runs: runs.into_iter().map(|run| (run.key(), vec![run])).collect(), ..Session::default() }
    }

    #[test]
    fn runs_of_one_day_agent_and_model_are_one_sum_and_inherited_ones_are_left_out() {
        let mut inherited = run("u4", 0, "m", Some(1_000));
        inherited.inherited = true;
        let runs = vec![run("u1", 0, "m", Some(5)), run("u2", 0, "m", None), run("u3", 1, "n", Some(7)), inherited];
        let sums = spent(&session(runs), &Writers::default());
        assert_eq!(sums.len(), 2);
        assert_eq!((sums[0].day.as_str(), sums[0].runs, sums[0].cost_micros), ("2027-01-15", 2, Micros(5)));
        assert!(sums[0].incomplete && sums[0].usage.input == 20);
        assert_eq!((sums[1].day.as_str(), sums[1].model.as_deref()), ("2027-01-16", Some("p/n")));
    }

    #[test]
    fn many_days_are_taken_together_and_no_money_is_lost() {
        let runs: Vec<Run> = (0..1_000).map(|day| run(&format!("u{day}"), day, "m", Some(3))).collect();
        let sums = spent(&session(runs), &Writers::default());
        assert!(sums.len() <= MOST);
        assert!(sums.iter().all(|sum| sum.day.len() == 7), "by month");
        assert_eq!(sums.iter().map(|sum| sum.cost_micros.0).sum::<u64>(), 3_000);
        assert_eq!(sums.iter().map(|sum| sum.runs).sum::<u64>(), 1_000);
    }

    #[test]
    fn many_models_are_taken_together_in_the_end_and_no_money_is_lost() {
        let runs: Vec<Run> = (0..1_000).map(|n| run(&format!("u{n}"), 0, &format!("m{n}"), Some(3))).collect();
        let sums = spent(&session(runs), &Writers::default());
        assert_eq!(sums.len(), MOST);
        assert_eq!(sums.iter().map(|sum| sum.cost_micros.0).sum::<u64>(), 3_000);
        assert_eq!(sums.iter().map(|sum| sum.runs).sum::<u64>(), 1_000);
        assert_eq!(sums.iter().map(|sum| sum.usage.input).sum::<u64>(), 10_000);
    }
}
