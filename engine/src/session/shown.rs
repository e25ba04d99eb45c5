//! [`Outline`] → [`Conversation`]: what the runs that stand look like to people and prompts.

use std::collections::{BTreeSet, HashMap};

use super::conversation::{
    Content, Conversation, Reason, ShownCallState, ShownMessage, ShownPart, ShownTurn, Status, Totals, TurnState,
    Waiting, Writers,
};
use super::model::{CallState, Message, PartKind, Run, RunError, RunState, Usage};
use super::outline::Outline;
use super::rules::{Rule, off};
use super::text::{self, Call, Calls, Segment};
use super::trust::{self, Verdict};
use super::work::{self, WorkKind};
use crate::ids::{Micros, Timestamp};

/// The conversation of an outline.
pub(crate) fn conversation(outline: &Outline<'_>, writers: &Writers, now: Timestamp) -> Conversation {
    let (turn_sums, totals) = sums(outline, writers, now);
    let mut messages = Vec::new();
    let mut turns = Vec::new();
    let mut allowed_tools = BTreeSet::new();
    for &index in &outline.shown {
        let run = outline.run(index);
        let asked = run.answers.iter().filter_map(|id| outline.visible(id));
        messages.extend(asked.map(|message| person(outline, message, Some(run))));
        let own_text;
        let text = if outline.front == Some(index) {
            &outline.front_text
        } else {
            own_text = text::text(outline, index);
            &own_text
        };
        let calls = Calls::of(text);
        if outline.allows_for_session() {
            let allowed = calls.list.iter().filter(|call| outline.allowed_for_session(call));
            allowed_tools.extend(allowed.map(|call| call.first.name.clone()));
        }
        messages.extend(answer(outline, index, text, &calls));
        turns.push(turn(outline, index, turn_sums.get(run.turn.as_str()).copied().unwrap_or_default()));
    }
    let work = work::due(outline, writers);
    let (status, reason) = status(outline);
    let mut titles: Vec<_> = outline.session.auto_names.iter().rev().collect();
    if off(Rule::HighestTitle) {
        titles.reverse();
    }
    Conversation {
        messages,
        queued: outline.queued.iter().map(|&index| person(outline, &outline.session.messages[index], None)).collect(),
        waiting: waiting(outline, work.as_ref().map(|work| work.kind), status),
        turns,
        front: outline.front.map(|front| outline.run(front).key()),
        stops: outline.stops.clone(),
        status,
        reason,
        totals,
        auto_title: titles
            .into_iter()
            .filter(|name| trust::title(name, outline.session, writers) != Verdict::Void)
            .map(|name| name.title.clone())
            .next(),
        decisions: outline.decisions.clone(),
        allowed_tools,
        work,
    }
}

fn person(outline: &Outline<'_>, message: &Message, answered_by: Option<&Run>) -> ShownMessage {
    // What tools say is a worker's to write.
    let words = (0..)
        .zip(&message.parts)
        .filter(|(_, part)| !matches!(part.kind, PartKind::ToolCall(_) | PartKind::ToolResult { .. }));
    let parts = words.filter_map(|(index, part)| {
        let omitted = outline.omits(&message.id, index);
        Some(ShownPart { index, content: content(&part.kind)?, omitted, provider: part.provider.clone() })
    });
    ShownMessage {
        id: message.id.clone(),
        role: message.role,
        author: message.author.clone(),
        created_at: message.created_at,
        turn: answered_by.map(|run| run.turn.clone()),
        epoch: None,
        unverified: false,
        parts: parts.collect(),
    }
}

/// The text of a run as messages; each call once, where it first stands.
fn answer(outline: &Outline<'_>, index: usize, text: &[Segment<'_>], calls: &Calls<'_>) -> Vec<ShownMessage> {
    let mut seen = BTreeSet::new();
    let shown = text.iter().filter_map(|segment| {
        let mut parts = Vec::new();
        for (n, kind, part) in segment.parts() {
            let content = match kind {
                PartKind::ToolCall(call) => {
                    let Some(call) = calls.get(&call.id).filter(|_| seen.insert(call.id.as_str())) else { continue };
                    shown_call(outline, index, call)
                }
                PartKind::Text(words) => Content::Text { text: segment.shown(n, words).to_owned() },
                PartKind::Thinking(words) => Content::Thinking { text: segment.shown(n, words).to_owned() },
                _ => match content(kind) {
                    Some(content) => content,
                    None => continue,
                },
            };
            let omitted = outline.omits(&segment.message.id, n);
            parts.push(ShownPart { index: n, content, omitted, provider: part.provider.clone() });
        }
        // A message of a later epoch may hold nothing but what became of earlier calls.
        (!parts.is_empty()).then(|| ShownMessage {
            id: segment.message.id.clone(),
            role: segment.message.role,
            author: segment.message.author.clone(),
            created_at: segment.message.created_at,
            turn: segment.message.turn.clone(),
            epoch: segment.message.epoch,
            unverified: !outline.verified(segment.run) || !outline.verified(index),
            parts,
        })
    });
    shown.collect()
}

fn content(kind: &PartKind) -> Option<Content> {
    Some(match kind {
        PartKind::Text(text) => Content::Text { text: text.clone() },
        PartKind::Thinking(text) => Content::Thinking { text: text.clone() },
        PartKind::ToolCall(_) => return None,
        PartKind::ToolResult { call, content, is_error, blob } => Content::ToolResult {
            call_id: call.clone(),
            content: content.clone(),
            is_error: *is_error,
            blob: blob.clone(),
        },
        PartKind::Other { summary } => Content::Other { summary: summary.clone() },
        PartKind::Attachment { blob, mime, name, size } => {
            Content::Attachment { blob: blob.clone(), mime: mime.clone(), name: name.clone(), size: *size }
        }
        PartKind::Error { code, message, retryable } => {
            Content::Error { code: code.clone(), message: message.clone(), retryable: *retryable }
        }
        PartKind::Event { summary } => Content::Event { summary: summary.clone() },
        PartKind::Unknown { name } => Content::Unknown { name: name.clone() },
    })
}

fn shown_call(outline: &Outline<'_>, run: usize, call: &Call<'_>) -> Content {
    Content::ToolCall {
        id: call.first.id.clone(),
        provider_id: call.provider_id.map(str::to_owned),
        name: call.first.name.clone(),
        input: call.input.to_owned(),
        state: call_state(outline, run, call),
        digest: call.digest(),
    }
}

/// Rule 14: the state of the last part, read in the light of what has happened since.
fn call_state(outline: &Outline<'_>, run: usize, call: &Call<'_>) -> ShownCallState {
    if let (CallState::Preparing | CallState::Waiting | CallState::Running, Some(failed)) = (call.state, call.failed) {
        return if failed { ShownCallState::Failed } else { ShownCallState::Done };
    }
    let front = (outline.front == Some(run) || off(Rule::TurnCancels)) && !outline.run(run).inherited;
    let under_way = front && outline.lives(run) && call.epoch == Some(outline.run(run).epoch);
    match call.state {
        CallState::Waiting | CallState::InDoubt if !front && call.failed.is_none() => ShownCallState::Cancelled,
        CallState::Preparing if !front => ShownCallState::Cancelled,
        CallState::Preparing if !under_way => ShownCallState::Cut,
        // Marked, and nobody is at it: it may have happened, whatever has begun since.
        CallState::Running if outline.run(run).inherited => ShownCallState::Cancelled,
        CallState::Running if !under_way && !off(Rule::InDoubt) => ShownCallState::InDoubt,
        state => state.into(),
    }
}

/// What some runs used and cost.
#[derive(Clone, Copy, Default)]
struct Sum {
    usage: Usage,
    micros: u64,
    known: bool,
    incomplete: bool,
    estimated: bool,
    duration_ms: u64,
    started_at: Option<Timestamp>,
}

impl Sum {
    fn add(&mut self, run: &Run, lives: bool, now: Timestamp) {
        self.usage += run.usage;
        match run.cost.micros {
            Some(Micros(micros)) => {
                self.micros = self.micros.saturating_add(micros);
                self.known = true;
            }
            // A run that used nothing owes nothing.
            None => self.incomplete |= run.usage.total() > 0,
        }
        self.estimated |= run.cost.estimated;
        if let Some(started) = run.started_at {
            let until = run.ended_at.or(lives.then_some(now)).unwrap_or(started);
            self.duration_ms = self.duration_ms.saturating_add(until.ms_since(started));
            self.started_at = Some(self.started_at.map_or(started, |earliest| earliest.min(started)));
        }
    }

    fn cost(&self) -> Option<Micros> {
        (self.known && !self.incomplete).then_some(Micros(self.micros))
    }
}

/// By turn, and of all (rule 18): every value of a conflicting key counts; inherited ones only in their turn.
fn sums<'a>(outline: &Outline<'a>, writers: &Writers, now: Timestamp) -> (HashMap<&'a str, Sum>, Totals) {
    let mut turns: HashMap<&str, Sum> = HashMap::new();
    let mut all = Sum::default();
    let counted = |runs: &'a Vec<Run>| runs.iter().rev().take(if off(Rule::ConflictingMoney) { 1 } else { runs.len() });
    let shown = |run: &Run| outline.shown.iter().any(|&index| outline.run(index).key() == run.key());
    for run in outline.session.runs.values().flat_map(counted) {
        if off(Rule::HiddenMoney) && !shown(run) {
            continue;
        }
        if trust::run(run, outline.session.maker.as_ref(), writers) == Verdict::Void {
            continue;
        }
        let lives = run.state == RunState::Streaming && outline.leases.live == Some(run.epoch);
        turns.entry(&run.turn).or_default().add(run, lives, now);
        if !run.inherited || off(Rule::InheritedMoney) {
            all.add(run, lives, now);
        }
    }
    let totals = Totals {
        usage: all.usage,
        cost_micros: Micros(all.micros),
        incomplete: all.incomplete,
        estimated: all.estimated,
        duration_ms: all.duration_ms,
    };
    (turns, totals)
}

fn turn(outline: &Outline<'_>, index: usize, sum: Sum) -> ShownTurn {
    let run = outline.run(index);
    let state = match outline.state(index) {
        RunState::Streaming if outline.lives(index) => TurnState::Streaming,
        RunState::Streaming if outline.pauses(index).next().is_some() => TurnState::Paused,
        RunState::Streaming => TurnState::Lost,
        RunState::Paused => TurnState::Paused,
        RunState::Completed => TurnState::Completed,
        RunState::Failed => TurnState::Failed,
    };
    ShownTurn {
        id: run.turn.clone(),
        run: run.key(),
        state,
        stop_reason: run.stop_reason.clone(),
        agent: run.agent.clone(),
        model: run.full_model(),
        usage: sum.usage,
        cost_micros: sum.cost(),
        estimated: sum.estimated,
        error: run.error.clone(),
        started_at: sum.started_at,
        ended_at: run.ended_at,
        inherited: run.inherited,
        must_end: work::end_of(outline, index),
    }
}

/// Rule 15.
fn status(outline: &Outline<'_>) -> (Status, Option<Reason>) {
    let Some(front) = outline.front else { return (Status::Active, None) };
    let run = outline.run(front);
    match outline.state(front) {
        RunState::Completed => (Status::Active, None),
        RunState::Streaming if outline.lives(front) || off(Rule::LeaseLives) => (Status::Streaming, None),
        RunState::Streaming => match by_person(outline, front) {
            Some(reason) => (Status::Paused, Some(reason)),
            None => (Status::Active, None),
        },
        RunState::Paused => (Status::Paused, Some(paused(outline, front))),
        RunState::Failed => {
            let unknown = || RunError {
                code: "unknown".to_owned(),
                message: "the turn failed without saying why".to_owned(),
                retryable: true,
            };
            (Status::Failed, Some(Reason::Failed { error: run.error.clone().unwrap_or_else(unknown) }))
        }
    }
}

fn by_person(outline: &Outline<'_>, front: usize) -> Option<Reason> {
    // The first pause is the one that stopped it; clocks only choose whose name is shown.
    let pause = outline.pauses(front).min_by_key(|request| (request.at, &request.id))?;
    Some(Reason::Person { by: pause.author.clone().unwrap_or_default(), at: pause.at })
}

fn paused(outline: &Outline<'_>, front: usize) -> Reason {
    let run = outline.run(front);
    let waiting = outline.front_calls.list.iter().filter(|call| outline.stops.contains(&call.first.id));
    let calls: Vec<String> = waiting.map(|call| call.first.id.clone()).collect();
    if !calls.is_empty() {
        return Reason::Approval { calls };
    }
    if let Some(reason) = by_person(outline, front) {
        return reason;
    }
    match run.stop_reason.as_deref() {
        Some("approval") => Reason::Approval { calls },
        Some("pause") => Reason::Person { by: String::new(), at: run.ended_at },
        _ => {
            let said = run.error.as_ref().map(|error| error.message.clone());
            Reason::Limit { message: said.unwrap_or_else(|| "a limit was reached".to_owned()) }
        }
    }
}

fn waiting(outline: &Outline<'_>, due: Option<WorkKind>, status: Status) -> Option<Waiting> {
    let link = match outline.leases.workers {
        None => Waiting::Offline,
        Some(0) => Waiting::NoWorker,
        Some(_) => Waiting::Due,
    };
    match due {
        Some(WorkKind::TakeOver | WorkKind::GiveUp) => return Some(Waiting::WorkerLost),
        Some(WorkKind::Retry | WorkKind::Continue | WorkKind::Decide | WorkKind::Queue) => return Some(link),
        Some(WorkKind::Close | WorkKind::Name) | None => {}
    }
    if outline.queued.is_empty() {
        return None;
    }
    let asks = outline.front_calls.list.iter().any(|call| outline.stops.contains(&call.first.id));
    Some(match status {
        // A closing is on its way, and the queue has seen why.
        Status::Paused if due == Some(WorkKind::Close) && !outline.holds_queue() => link,
        Status::Streaming => Waiting::BehindTurn,
        Status::Failed => Waiting::HeldByFailure,
        Status::Paused if asks => Waiting::HeldByApproval,
        Status::Paused => Waiting::HeldByPause,
        Status::Active | Status::Archived => link,
    })
}
