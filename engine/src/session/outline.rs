//! Which runs stand (rules 1–4, 9–12): hidden messages, current and shown runs, the front run with its lineage and
//! stops, the queue, and the requests that count. Screens, prompts and workers all begin here.
//!
//! Invariant: built in time linear in the document's size; the same for every replica that holds the same changes, the
//! same leases and the same writers.

use std::collections::{BTreeMap, BTreeSet};

use super::conversation::{Decision, Leases, Writers};
use super::hash::{HashMap, HashSet};
use super::model::{Message, Request, RequestKind, Role, Run, RunState, Session};
use super::rules::{Rule, off};
use super::text::{self, Calls, Segment};
use super::trust::{self, Verdict};
use crate::ids::Epoch;

/// A run that takes part.
#[derive(Debug)]
struct Standing<'a> {
    run: &'a Run,
    /// Which of its key's values it is, counted from the winner.
    value: usize,
    verdict: Verdict,
    /// Its messages, by index in the session.
    own: Vec<usize>,
}

/// Requests that count, by what they name, in the order of their ids.
#[derive(Debug, Default)]
struct Asked<'a> {
    pauses: HashMap<&'a str, Vec<&'a Request>>,
    steers: HashSet<&'a str>,
    continues: HashMap<&'a str, Vec<(&'a Request, &'a [String])>>,
    retries: HashMap<(&'a str, u64), &'a Request>,
    approvals: HashMap<&'a str, Vec<(&'a Request, &'a str, bool)>>,
    denials: HashMap<&'a str, &'a Request>,
    omits: HashMap<&'a str, BTreeSet<u64>>,
}

/// See the module. Runs are named by their index.
#[derive(Debug)]
pub(crate) struct Outline<'a> {
    /// The document.
    pub session: &'a Session,
    /// What is known of leases.
    pub leases: &'a Leases,
    runs: Vec<Standing<'a>>,
    /// Runs of a turn, by epoch.
    by_turn: HashMap<&'a str, Vec<usize>>,
    by_id: HashMap<&'a str, usize>,
    /// By message, whether it is a person's, with parts, and not hidden.
    visible: Vec<bool>,
    /// Shown runs by place.
    pub shown: Vec<usize>,
    /// The shown run with the highest epoch.
    pub front: Option<usize>,
    /// Visible messages of people that no shown run answers, by index, in list order.
    pub queued: Vec<usize>,
    asked: Asked<'a>,
    /// The text of the front run.
    pub front_text: Vec<Segment<'a>>,
    /// Its calls.
    pub front_calls: Calls<'a>,
    /// Decisions for those of them that ask.
    pub decisions: BTreeMap<String, Decision>,
    /// See rule 4.
    pub stops: Vec<String>,
}

impl<'a> Outline<'a> {
    /// Reads a session.
    pub(crate) fn new(session: &'a Session, leases: &'a Leases, writers: &'a Writers) -> Self {
        let mut by_id = HashMap::with_capacity_and_hasher(session.messages.len(), Default::default());
        by_id.extend(session.messages.iter().enumerate().map(|(index, m)| (m.id.as_str(), index)));
        let mut outline = Self {
            session,
            leases,
            runs: standing_runs(session, writers),
            by_turn: HashMap::with_capacity_and_hasher(session.runs.len(), Default::default()),
            visible: visible(session, &by_id, writers),
            by_id,
            shown: Vec::new(),
            front: None,
            queued: Vec::new(),
            asked: asked(session, writers),
            front_text: Vec::new(),
            front_calls: Calls::default(),
            decisions: BTreeMap::new(),
            stops: Vec::new(),
        };
        for (index, standing) in outline.runs.iter().enumerate() {
            outline.by_turn.entry(&standing.run.turn).or_default().push(index);
        }
        outline.give_messages(writers);
        outline.find_shown();
        if let Some(front) = outline.front {
            outline.front_text = text::text(&outline, front);
            outline.front_calls = Calls::of(&outline.front_text);
            outline.find_stops(front);
        }
        outline
    }

    /// Assistant messages belong to the run of their turn and epoch.
    fn give_messages(&mut self, writers: &Writers) {
        let session = self.session;
        for (index, message) in session.messages.iter().enumerate() {
            let Some(run) = self.run_of(message) else { continue };
            let inherited = self.runs[run].run.inherited;
            match trust::answer(message, inherited, session.maker.as_ref(), writers) {
                Verdict::Counts => {}
                Verdict::Unverified => self.runs[run].verdict = Verdict::Unverified,
                Verdict::Void => continue,
            }
            self.runs[run].own.push(index);
        }
    }

    /// Rules 2, 3 and the queue of rule 4.
    fn find_shown(&mut self) {
        let count = self.session.messages.len();
        let mut current: Vec<Option<usize>> = vec![None; count];
        // Ascending by (epoch, key): the last to name a message is its current run.
        for (index, standing) in self.runs.iter().enumerate() {
            for message in standing.run.answers.iter().filter_map(|id| self.message_index(id)) {
                if !off(Rule::CurrentRun) || current[message].is_none() {
                    current[message] = Some(index);
                }
            }
        }
        let visible = |id: &String| self.message_index(id).filter(|&message| self.visible[message]);
        let is_shown = |index: usize, run: &Run| {
            run.answers.last().is_some_and(|last| visible(last).is_some() || off(Rule::LastAnswered))
                && run
                    .answers
                    .iter()
                    .filter_map(visible)
                    .all(|message| current[message] == Some(index) || off(Rule::ShownRun))
        };
        let mut shown: Vec<usize> =
            (0..self.runs.len()).filter(|&index| is_shown(index, self.runs[index].run)).collect();
        let mut answered = vec![false; count];
        for id in shown.iter().flat_map(|&index| &self.runs[index].run.answers) {
            if let Some(message) = self.message_index(id) {
                answered[message] = true;
            }
        }
        self.front = shown.last().copied();
        // Stable: of one place the lower (epoch, key) first.
        shown.sort_by_key(|&index| if off(Rule::Place) { Epoch(0) } else { self.runs[index].run.place });
        if off(Rule::FrontRun) {
            self.front = shown.last().copied();
        }
        self.shown = shown;
        self.queued = (0..count).filter(|&index| self.visible[index] && !answered[index]).collect();
    }

    /// Rule 4's stops, and the decisions of rule 14.
    fn find_stops(&mut self, front: usize) {
        if self.state(front) == RunState::Completed {
            return;
        }
        let pauses = self.pauses(front).filter(|_| !off(Rule::PauseStops));
        let mut stops: Vec<String> = pauses.map(|request| request.id.clone()).collect();
        let run = self.runs[front].run;
        for call in self.front_calls.list.iter().filter(|call| call.asks()) {
            match self.decision(&call.first.id, &call.digest()) {
                Some(decision) => {
                    self.decisions.insert(call.first.id.clone(), decision);
                }
                None if off(Rule::CallStops) => {}
                None => {
                    stops.push(call.first.id.clone());
                    stops.extend(call.doubt().filter(|_| !off(Rule::DoubtStops)));
                }
            }
        }
        if is_own_stop(run) && !off(Rule::FailureStops) {
            stops.push(run.key());
        }
        self.stops = stops;
    }

    /// Deny beats approve; an approval of something else doesn't count.
    fn decision(&self, call: &str, digest: &str) -> Option<Decision> {
        let approved = || self.asked.approvals.contains_key(call);
        if let Some(request) = self.asked.denials.get(call).filter(|_| !(off(Rule::DenyFirst) && approved())) {
            let RequestKind::Deny { reason, .. } = &request.kind else { return None };
            return Some(Decision::Denied { request: request.id.clone(), reason: reason.clone() });
        }
        let approvals = self.asked.approvals.get(call)?;
        let (request, ..) = approvals.iter().find(|(_, named, _)| *named == digest || off(Rule::Digest))?;
        let for_session = approvals.iter().any(|(_, named, always)| *named == digest && *always);
        Some(Decision::Approved { request: request.id.clone(), for_session })
    }

    /// Whether a person approved this very call, now or once. `digest`: of its tool and input.
    pub(crate) fn was_approved(&self, call: &str, digest: &str) -> bool {
        let Some(approvals) = self.asked.approvals.get(call) else { return false };
        approvals.iter().any(|(_, named, _)| *named == digest) && !self.asked.denials.contains_key(call)
    }

    /// Whether any person approved any call.
    pub(crate) fn has_approvals(&self) -> bool {
        !self.asked.approvals.is_empty()
    }

    /// The parts of a message that people left out.
    pub(crate) fn omitted(&self, message: &str) -> Option<&BTreeSet<u64>> {
        if self.asked.omits.is_empty() { None } else { self.asked.omits.get(message) }
    }

    /// Whether a part is left out of what models are sent.
    pub(crate) fn omits(&self, message: &str, part: u64) -> bool {
        self.omitted(message).is_some_and(|parts| parts.contains(&part))
    }

    /// A run.
    pub(crate) fn run(&self, index: usize) -> &'a Run {
        self.runs[index].run
    }

    /// Which of the conflicting values of its key a run is, counted from the winner.
    pub(crate) fn value(&self, index: usize) -> usize {
        self.runs[index].value
    }

    /// Every run that takes part, by (epoch, key).
    pub(crate) fn runs(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.runs.len()
    }

    /// Whether everyone who wrote it and its messages is known.
    pub(crate) fn verified(&self, index: usize) -> bool {
        self.runs[index].verdict == Verdict::Counts
    }

    /// Its messages, by index in the session.
    pub(crate) fn own(&self, index: usize) -> &[usize] {
        &self.runs[index].own
    }

    /// Its state; an inherited run is over, whatever it was.
    pub(crate) fn state(&self, index: usize) -> RunState {
        let run = self.runs[index].run;
        if run.inherited { RunState::Completed } else { run.state }
    }

    /// Whether it streams, and its lease lives.
    pub(crate) fn lives(&self, index: usize) -> bool {
        self.state(index) == RunState::Streaming && self.leases.live == Some(self.runs[index].run.epoch)
    }

    /// The run that wrote an assistant's message.
    pub(crate) fn run_of(&self, message: &'a Message) -> Option<usize> {
        if message.role != Role::Assistant {
            return None;
        }
        let claims = self.turn(message.turn.as_deref()?);
        claims.iter().copied().find(|&run| Some(self.runs[run].run.epoch) == message.epoch)
    }

    /// Where a message is in the session.
    pub(crate) fn message_index(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// A message of a person that is neither hidden nor empty.
    pub(crate) fn visible(&self, id: &str) -> Option<&'a Message> {
        self.message_index(id).filter(|&index| self.visible[index]).map(|index| &self.session.messages[index])
    }

    /// All runs of a turn, by epoch.
    pub(crate) fn turn(&self, turn: &str) -> &[usize] {
        self.by_turn.get(turn).map_or(&[], Vec::as_slice)
    }

    /// Rule 9, newest first.
    pub(crate) fn lineage(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let turn = self.turn(&self.runs[index].run.turn);
        let count = turn.iter().take_while(|&&other| other <= index).count();
        let mut asked_for = false;
        turn[..count].iter().rev().copied().take_while(move |&run| {
            let before = asked_for && !off(Rule::LineageEnds) || off(Rule::Lineage) && run != index;
            asked_for |= self.runs[run].run.request.is_some();
            !before
        })
    }

    /// The pauses that hold for a run.
    pub(crate) fn pauses(&self, index: usize) -> impl Iterator<Item = &'a Request> + '_ {
        self.lineage(index)
            .filter_map(|run| self.asked.pauses.get(self.runs[run].run.key().as_str()))
            .flatten()
            .copied()
    }

    /// Whether a steer holds for a run (rule 12).
    pub(crate) fn steered(&self, index: usize) -> bool {
        !off(Rule::Steer)
            && self.lineage(index).any(|run| self.asked.steers.contains(self.runs[run].run.key().as_str()))
    }

    /// The continue in force for the front run (rule 10).
    pub(crate) fn continue_in_force(&self) -> Option<(usize, &'a Request)> {
        let front = self.front?;
        let waits = self.front_calls.list.iter().any(|c| c.asks() && !self.decisions.contains_key(&c.first.id));
        if self.state(front) == RunState::Completed || (waits && !off(Rule::ContinueWaits)) {
            return None;
        }
        let all = self.lineage(front).filter_map(|run| self.asked.continues.get(self.runs[run].run.key().as_str()));
        let in_force = all.flatten().filter(|(_, over)| off(Rule::ContinueOver) || names_all(&self.stops, over));
        in_force.map(|(request, _)| *request).min_by(|a, b| a.id.cmp(&b.id)).map(|request| (front, request))
    }

    /// The retry in force of a shown run, and its attempt (rule 11).
    pub(crate) fn retry_in_force(&self, index: usize) -> Option<(&'a Request, u64)> {
        let run = self.runs[index].run;
        let last = run.answers.last()?;
        let n = attempt(&run.turn, last)?.checked_add(1)?;
        let any =
            || self.asked.retries.iter().find(|((target, _), _)| *target == last).filter(|_| off(Rule::RetryAttempt));
        let request = self.asked.retries.get(&(last.as_str(), n)).or_else(|| any().map(|(_, request)| request))?;
        (self.turn(&retry_turn(last, n)).is_empty() || off(Rule::RetryOnce)).then_some((*request, n))
    }

    /// Whether the queue waits for a person (rule 4).
    pub(crate) fn held(&self) -> bool {
        let stopped = self.front.is_some_and(|front| matches!(self.state(front), RunState::Paused | RunState::Failed));
        stopped && self.holds_queue() && !off(Rule::Held)
    }

    /// Whether the front run's stops hold the queue, once it has stopped.
    pub(crate) fn holds_queue(&self) -> bool {
        let goes_on = |&index: &usize| match &self.session.messages[index].over {
            Some(over) if off(Rule::OverEvery) => self.stops.iter().any(|stop| over.contains(stop)),
            Some(over) => names_all(&self.stops, over),
            None => !off(Rule::OverMissing),
        };
        !self.stops.is_empty() && !self.queued.iter().any(goes_on)
    }

    /// How often a worker has taken this run's turn over since a person last asked for anything (rule 13).
    pub(crate) fn take_overs(&self, index: usize) -> usize {
        let lineage: Vec<usize> = self.lineage(index).collect();
        // A run after one that waited for a decision carries it out: no take-over.
        let waited = |run: &Run| run.state == RunState::Paused && run.stop_reason.as_deref() == Some("approval");
        let own = lineage.iter().skip(1).filter(|&&before| !waited(self.runs[before].run));
        if off(Rule::GiveUp) { 0 } else { own.count() }
    }

    /// Requests for a title that count, by id.
    pub(crate) fn smart_renames(&self, writers: &'a Writers) -> impl Iterator<Item = &'a Request> {
        self.session.requests.values().filter(move |request| {
            matches!(request.kind, RequestKind::SmartRename { .. })
                && trust::request(request, writers) == Verdict::Counts
        })
    }
}

/// Whether a run is a stop itself: it failed, or neither a person nor a call stopped it.
fn is_own_stop(run: &Run) -> bool {
    match run.state {
        RunState::Failed => true,
        RunState::Paused => !matches!(run.stop_reason.as_deref(), Some("approval" | "pause")),
        _ => false,
    }
}

fn names_all(stops: &[String], over: &[String]) -> bool {
    // Stops are few; a foreign `over` may be long.
    stops.iter().all(|stop| over.contains(stop))
}

/// Which attempt at answering `last` a turn is: 0 for the first.
pub(crate) fn attempt(turn: &str, last: &str) -> Option<u64> {
    let rest = turn.strip_prefix(last)?;
    if rest.is_empty() { Some(0) } else { rest.strip_prefix('.')?.parse().ok().filter(|&n| n > 0) }
}

/// The turn of the `n`-th retry.
pub(crate) fn retry_turn(last: &str, n: u64) -> String {
    format!("{last}.{n}")
}

/// The runs that take part, one a key, by (epoch, key).
fn standing_runs<'a>(session: &'a Session, writers: &Writers) -> Vec<Standing<'a>> {
    let maker = session.maker.as_ref();
    let mut runs: Vec<Standing<'a>> = Vec::new();
    for values in session.runs.values() {
        let counted = values.iter().rev().enumerate();
        let mut counted = counted.map(|(value, run)| (value, run, trust::run(run, maker, writers)));
        let Some((value, run, verdict)) = counted.find(|(.., verdict)| *verdict != Verdict::Void) else { continue };
        runs.push(Standing { run, value, verdict, own: Vec::new() });
    }
    // The map is in the order of keys, and this sort is stable.
    runs.sort_by_key(|standing| standing.run.epoch);
    runs
}

/// Rule 1, and messages without parts: by message, whether it is visible.
fn visible(session: &Session, by_id: &HashMap<&str, usize>, writers: &Writers) -> Vec<bool> {
    let all = &session.messages;
    let mut visible: Vec<bool> = all.iter().map(|m| m.role == Role::User && trust::message(m, writers)).collect();
    let people = || all.iter().zip(&visible).filter(|(_, is_a_persons)| **is_a_persons).map(|(message, _)| message);
    let mut hidden = Vec::new();
    for message in people().filter(|_| !off(Rule::Hidden)) {
        if off(Rule::HiddenForEver) && people().any(|other| other.hides.contains(&message.id)) {
            continue;
        }
        let others = message.hides.iter().filter(|id| **id != message.id);
        hidden.extend(others.filter_map(|id| by_id.get(id.as_str()).copied()));
    }
    for (message, visible) in all.iter().zip(&mut visible) {
        *visible &= !message.parts.is_empty() || off(Rule::WithoutParts);
    }
    hidden.into_iter().for_each(|index| visible[index] = false);
    visible
}

fn asked<'a>(session: &'a Session, writers: &Writers) -> Asked<'a> {
    let mut asked = Asked::default();
    for request in session.requests.values() {
        if trust::request(request, writers) != Verdict::Counts {
            continue;
        }
        match &request.kind {
            RequestKind::Pause { target } => asked.pauses.entry(target).or_default().push(request),
            RequestKind::Steer { target } => {
                asked.steers.insert(target);
            }
            RequestKind::Continue { target, over } => {
                asked.continues.entry(target).or_default().push((request, over));
            }
            RequestKind::Retry { target, n } => {
                asked.retries.entry((target, *n)).or_insert(request);
            }
            RequestKind::Approve { target, digest, for_session } => {
                asked.approvals.entry(target).or_default().push((request, digest, *for_session));
            }
            RequestKind::Deny { target, .. } => {
                asked.denials.entry(target).or_insert(request);
            }
            RequestKind::Omit { message, part } => {
                asked.omits.entry(message).or_default().insert(*part);
            }
            RequestKind::SmartRename { .. } | RequestKind::Unknown { .. } => {}
        }
    }
    asked
}
