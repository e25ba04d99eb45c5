//! Rule 13: what a worker should do next in a session, a pure function that worker and summary share.

use super::conversation::{Conversation, Leases, Writers};
use super::model::{Continues, Run, RunKey, RunState, Session};
use super::outline::{Outline, retry_turn};
use super::rules::{Rule, off};
use super::text;
use super::trust::{self, Verdict};
use crate::ids::{Epoch, Timestamp};

/// How often a turn is taken over by itself before it ends as failed.
const TAKE_OVERS: usize = 3;

/// The first thing due. Turn, place, answers, continues and request are those that the run must be made with (rule 6).
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// What kind of thing.
    pub kind: WorkKind,
    /// The run's turn.
    pub turn: String,
    /// The run's `place`; `None`: its own epoch.
    pub place: Option<Epoch>,
    /// The messages it answers.
    pub answers: Vec<String>,
    /// Where it goes on.
    pub continues: Option<Continues>,
    /// The request that asked for it.
    pub request: Option<String>,
    /// The run that it takes over, closes, continues or decides.
    pub of: Option<RunKey>,
    /// `PROVIDER/MODEL` that it needs, if a particular one.
    pub model: Option<String>,
}

/// In the order of rule 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkKind {
    /// A retry in force.
    Retry,
    /// A continue in force.
    Continue,
    /// A streaming run whose lease is dead, no pause holds.
    TakeOver,
    /// The same, after three take-overs: ends as failed.
    GiveUp,
    /// A streaming run whose lease is dead and a pause holds: ends as paused, without a call to the provider.
    Close,
    /// Every waiting call has its decision.
    Decide,
    /// The queue.
    Queue,
    /// A title.
    Name,
}

/// What is due, or `None`. A shown run that streams under a lease that lives is somebody's at work: nothing is due
/// beside it. Another lease that lives (such as the asking worker's own, granted a moment ago) changes nothing.
pub fn work(
    session: &Session,
    _conversation: &Conversation,
    leases: &Leases,
    writers: &Writers,
    _now: Timestamp,
) -> Option<Work> {
    due(&Outline::new(session, leases, writers), writers)
}

/// Why a worker must end the run it is streaming (rule 13, last part), asked at every change of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MustEnd {
    /// A pause holds.
    Paused,
    /// A retry of it is in force, or it is no longer shown.
    Overtaken,
    /// A steer holds: at the next tool boundary.
    Steered,
}

/// Whether the run with this key must end.
pub fn must_end(session: &Session, conversation: &Conversation, run: &str) -> Option<MustEnd> {
    if let Some(turn) = conversation.turns.iter().find(|turn| turn.run == run) {
        return turn.must_end;
    }
    let naming = session.runs.get(run).and_then(|values| values.last()).is_some_and(|run| run.answers.is_empty());
    if !naming {
        return Some(MustEnd::Overtaken).filter(|_| !off(Rule::EndsOvertaken));
    }
    // A naming run is never shown, and gives way to everything else (rule 16).
    let other = conversation.work.as_ref().is_some_and(|work| work.kind != WorkKind::Name && !off(Rule::NamingLast));
    (other || session.deleted_at.is_some() || session.user_name.is_some()).then_some(MustEnd::Overtaken)
}

/// How many naming runs of this turn there have been: after three, the title comes from the text, without a model
/// (rule 16).
pub fn naming_tries(session: &Session, turn: &str) -> usize {
    session.runs.values().flatten().filter(|run| run.turn == turn && run.answers.is_empty()).count()
}

/// Why a shown run that streams must end.
pub(crate) fn end_of(outline: &Outline<'_>, run: usize) -> Option<MustEnd> {
    if outline.state(run) != RunState::Streaming {
        None
    } else if outline.session.deleted_at.is_some() && !off(Rule::DeletedRests)
        || outline.pauses(run).next().is_some() && !off(Rule::EndsPaused)
    {
        Some(MustEnd::Paused)
    } else if outline.retry_in_force(run).is_some() && !off(Rule::EndsOvertaken) {
        Some(MustEnd::Overtaken)
    } else {
        outline.steered(run).then_some(MustEnd::Steered)
    }
}

/// Rule 13, in its order.
pub(crate) fn due(outline: &Outline<'_>, writers: &Writers) -> Option<Work> {
    // What nobody has vouched for is never acted on: wait for the row of who wrote it.
    let trusted = outline.front.is_none_or(|front| outline.verified(front));
    let deleted = outline.session.deleted_at.is_some() && !off(Rule::DeletedRests);
    if deleted || outline.shown.iter().any(|&run| outline.lives(run)) || !trusted {
        return None;
    }
    let shown = || outline.shown.iter().copied().filter(|&run| outline.verified(run));
    let early = |rule: Rule| queue(outline).filter(|_| off(rule));
    early(Rule::RetryFirst)
        .or_else(|| shown().find_map(|run| retry(outline, run)))
        .or_else(|| continued(outline))
        .or_else(|| early(Rule::LostFirst))
        .or_else(|| shown().find_map(|run| lost(outline, run)))
        .or_else(|| decided(outline))
        .or_else(|| queue(outline))
        .or_else(|| name(outline, writers))
}

fn retry(outline: &Outline<'_>, index: usize) -> Option<Work> {
    let (request, n) = outline.retry_in_force(index)?;
    let run = outline.run(index);
    let last = run.answers.last()?;
    Some(Work {
        kind: WorkKind::Retry,
        turn: retry_turn(last, n),
        place: Some(run.place).filter(|_| !off(Rule::CopiesPlace)),
        answers: run
            .answers
            .iter()
            .filter(|id| outline.visible(id).is_some() || off(Rule::RetryVisible))
            .cloned()
            .collect(),
        continues: None,
        request: Some(request.id.clone()),
        of: Some(run.key()),
        model: None,
    })
}

/// A run of the same turn, at the same place, that goes on from the end of this one.
fn successor(outline: &Outline<'_>, index: usize, kind: WorkKind) -> Work {
    let run = outline.run(index);
    let calls_model = !matches!(kind, WorkKind::Close | WorkKind::GiveUp);
    Work {
        kind,
        turn: run.turn.clone(),
        place: Some(run.place).filter(|_| !off(Rule::CopiesPlace)),
        answers: run.answers.clone(),
        continues: text::end(&text::text(outline, index)).filter(|_| !off(Rule::WritesContinues)),
        request: None,
        of: Some(run.key()),
        model: if calls_model { run.full_model() } else { None },
    }
}

fn continued(outline: &Outline<'_>) -> Option<Work> {
    let (front, request) = outline.continue_in_force()?;
    Some(Work { request: Some(request.id.clone()), ..successor(outline, front, WorkKind::Continue) })
}

fn lost(outline: &Outline<'_>, index: usize) -> Option<Work> {
    if outline.state(index) != RunState::Streaming {
        return None;
    }
    let kind = if outline.pauses(index).next().is_some() && !off(Rule::Close) {
        WorkKind::Close
    } else if outline.take_overs(index) >= TAKE_OVERS {
        WorkKind::GiveUp
    } else {
        WorkKind::TakeOver
    };
    Some(successor(outline, index, kind))
}

fn decided(outline: &Outline<'_>) -> Option<Work> {
    let front = outline.front?;
    let decided = outline.stops.is_empty() || off(Rule::AllDecided);
    let all = outline.state(front) == RunState::Paused && decided && !outline.decisions.is_empty();
    all.then(|| successor(outline, front, WorkKind::Decide))
}

fn queue(outline: &Outline<'_>) -> Option<Work> {
    if outline.held() {
        return None;
    }
    let ids: Vec<String> = outline.queued.iter().map(|&index| outline.session.messages[index].id.clone()).collect();
    Some(Work {
        kind: WorkKind::Queue,
        turn: ids.last()?.clone(),
        place: None,
        answers: ids,
        continues: None,
        request: None,
        of: None,
        model: None,
    })
}

fn name(outline: &Outline<'_>, writers: &Writers) -> Option<Work> {
    let session = outline.session;
    let naming = |turn: &str| turn == "name" || turn.starts_with("name.");
    let runs = || outline.runs().filter(|&index| outline.verified(index)).map(|index| (index, outline.run(index)));
    let is_naming = |run: &Run| run.answers.is_empty() && naming(&run.turn);
    if session.user_name.is_some() || runs().any(|(index, run)| is_naming(run) && outline.lives(index)) {
        return None;
    }
    let served = |turn: &str| outline.turn(turn).iter().any(|&run| outline.state(run) == RunState::Completed);
    let work = |turn: String, request: Option<String>| Work {
        kind: WorkKind::Name,
        turn,
        place: None,
        answers: Vec::new(),
        continues: None,
        request,
        of: None,
        model: None,
    };
    let asked = outline.smart_renames(writers).find(|request| !served(&smart_turn(&request.id)));
    if let Some(request) = asked.filter(|_| !outline.shown.is_empty()) {
        return Some(work(smart_turn(&request.id), Some(request.id.clone())));
    }
    let answered = runs().any(|(_, run)| !run.answers.is_empty() && !run.inherited && run.state == RunState::Completed);
    let named = session.auto_names.iter().any(|name| trust::title(name, session, writers) != Verdict::Void)
        || runs().any(|(_, run)| is_naming(run) && run.state == RunState::Completed);
    (answered && (!named || off(Rule::NamedOnce))).then(|| work("name".to_owned(), None))
}

fn smart_turn(request: &str) -> String {
    format!("name.{request}")
}
