//! What tasks have cost: their sessions in the list, and what is left of those that were purged.

use std::collections::BTreeMap;

use super::Device;
use crate::ids::{DocumentId, Micros, Timestamp};
use crate::wire::catalog::Tombstone;

/// What all sessions of a task cost together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCost {
    /// How many sessions, purged ones too.
    pub sessions: u64,
    /// What is known.
    pub cost_micros: Micros,
    /// Some cost is unknown.
    pub incomplete: bool,
    /// Some of it is an estimate.
    pub estimated: bool,
}

impl TaskCost {
    fn add(&mut self, cost: Option<Micros>, estimated: bool) {
        self.cost_micros.0 = self.cost_micros.0.saturating_add(cost.unwrap_or_default().0);
        self.incomplete |= cost.is_none();
        self.estimated |= estimated;
    }
}

impl Device {
    /// By the task's id, of every task that ever made a session, as the list has it here.
    pub fn task_costs(&mut self, now: Timestamp) -> BTreeMap<String, TaskCost> {
        let mut costs: BTreeMap<String, TaskCost> = BTreeMap::new();
        for summary in self.standing(now) {
            if let Some(task) = summary.task {
                let sum = costs.entry(task).or_default();
                sum.sessions += 1;
                sum.add(summary.cost_micros, summary.estimated);
            }
        }
        for tombstone in self.catalog.rows().filter_map(|row| row.tombstone.as_ref()) {
            let mut of = None;
            for spent in &tombstone.spent {
                let Some(task) = &spent.task else { continue };
                let sum = costs.entry(task.clone()).or_default();
                sum.add(Some(spent.cost_micros), spent.estimated);
                sum.incomplete |= spent.incomplete;
                of = Some(task);
            }
            if let Some(sum) = of.and_then(|task| costs.get_mut(task)) {
                sum.sessions += 1;
            }
        }
        costs
    }

    /// What is left of a session that was purged.
    pub fn tombstone(&self, session: DocumentId) -> Option<&Tombstone> {
        self.catalog.row(session)?.tombstone.as_ref()
    }
}
