//! [`Outline`] → [`Conversation`]: what the runs that stand look like to people and prompts.

use std::collections::BTreeSet;

use super::conversation::{
    Content, Conversation, Difference, Reason, ShownCallState, ShownMessage, ShownPart, ShownTurn, Status, Totals,
    TurnState, Waiting, Writers,
};
use super::live::Stamps;
use super::model::{CallState, Message, PartKind, Run, RunError, RunState, Usage};
use super::outline::Outline;
use super::resume::Resume;
use super::rules::{Rule, off};
use super::text::{self, Call, Calls, Segment};
use super::trust::{self, Verdict};
use super::work::{self, MustEnd, WorkKind};
use crate::ids::{Epoch, Micros, Timestamp};

/// A conversation, with what its pieces were made from: where nothing of that has changed, a piece stays as it is.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The conversation as of the last [`update`].
    pub conversation: Conversation,
    /// One an entry of its turns.
    runs: Vec<Rendered>,
    /// What its queued messages were made from.
    queued: Vec<Vec<u64>>,
}

/// What a shown run looks like.
#[derive(Debug)]
struct Rendered {
    turn: String,
    epoch: Epoch,
    /// All that its messages were made from.
    from: Vec<u64>,
    /// How many messages it gives, its questions among them.
    messages: usize,
    calls: Vec<Asking>,
    facts: TurnFacts,
}

/// A call, as a permission for later ones names it.
#[derive(Debug)]
struct Asking {
    id: String,
    tool: String,
    digest: String,
}

/// What a turn looks like, besides its run.
#[derive(Debug, Clone, Copy, PartialEq)]
struct TurnFacts {
    sum: Sum,
    state: TurnState,
    must_end: Option<MustEnd>,
}

/// The conversation of an outline.
pub(crate) fn conversation(outline: &Outline<'_>, writers: &Writers, now: Timestamp) -> Conversation {
    let mut kept = Kept::default();
    update(&mut kept, outline, None, writers, now);
    kept.conversation
}

/// Brings a conversation in line with an outline of the same session. `stamps`: versions of what the outline is of;
/// without them nothing that is kept counts. What differs from before.
pub(crate) fn update(
    kept: &mut Kept,
    outline: &Outline<'_>,
    stamps: Option<&Stamps>,
    writers: &Writers,
    now: Timestamp,
) -> Difference {
    let (turn_sums, totals) = sums(outline, writers, now);
    let Kept { conversation, runs, queued } = kept;
    let mut difference = Difference { all: stamps.is_none(), ..Difference::default() };
    let mut allowed_tools = BTreeSet::new();
    let mut from = Vec::new();
    let mut at = 0;
    for (n, &index) in outline.shown.iter().enumerate() {
        let run = outline.run(index);
        let own_text;
        let text = if outline.front == Some(index) {
            &outline.front_text
        } else {
            own_text = text::text(outline, index);
            &own_text
        };
        from.clear();
        if let Some(stamps) = stamps {
            versions(outline, index, text, stamps, &mut from);
        }
        let sum = outline.turn(&run.turn).first().map(|&first| turn_sums[first]).unwrap_or_default();
        let facts = turn_facts(outline, index, sum);
        let known = runs.get(n).filter(|_| stamps.is_some());
        let same_run = known.is_some_and(|known| known.epoch == run.epoch && known.turn == run.turn);
        let same = same_run && known.is_some_and(|known| known.from == from);
        if !same {
            if !same_run && n < runs.len() {
                // Another run stands here: nothing that follows is where it was.
                difference.order = true;
                difference.cut(&mut conversation.messages, at);
                conversation.turns.truncate(n);
                runs.truncate(n);
            }
            let calls = Calls::of(text);
            let asked = run.answers.iter().filter_map(|id| outline.visible(id));
            let mut messages: Vec<_> = asked.map(|message| person(outline, message, Some(run))).collect();
            messages.extend(answer(outline, index, text, &calls));
            let rendered = Rendered {
                turn: run.turn.clone(),
                epoch: run.epoch,
                from: from.clone(),
                messages: messages.len(),
                calls: calls.list.iter().map(asking).collect(),
                facts,
            };
            let known = runs.get(n).map_or(0, |known| known.messages);
            difference.replace(&mut conversation.messages, at..at + known, messages);
            match runs.get_mut(n) {
                Some(known) => *known = rendered,
                None => runs.push(rendered),
            }
        }
        if !same || runs[n].facts != facts {
            runs[n].facts = facts;
            difference.turns.insert(run.turn.clone());
            let shown = turn(outline, index, facts);
            match conversation.turns.get_mut(n) {
                Some(known) => *known = shown,
                None => conversation.turns.push(shown),
            }
        }
        if outline.has_approvals() {
            let allowed = runs[n].calls.iter().filter(|call| outline.was_approved(&call.id, &call.digest));
            allowed_tools.extend(allowed.map(|call| call.tool.clone()));
        }
        at += runs[n].messages;
    }
    difference.cut(&mut conversation.messages, at);
    difference.order |= conversation.turns.len() > outline.shown.len();
    conversation.turns.truncate(outline.shown.len());
    runs.truncate(outline.shown.len());
    update_queue(conversation, queued, outline, stamps, &mut difference);

    let work = work::due(outline, writers);
    let (status, reason) = status(outline);
    let mut titles: Vec<_> = outline.session.auto_names.iter().rev().collect();
    if off(Rule::HighestTitle) {
        titles.reverse();
    }
    let waiting = waiting(outline, work.as_ref().map(|work| work.kind), status);
    let front = outline.front.map(|front| outline.run(front).key());
    let title = titles.into_iter().find(|name| trust::title(name, outline.session, writers) != Verdict::Void);
    let head = &mut difference.head;
    set(&mut conversation.waiting, waiting, head);
    set(&mut conversation.front, front, head);
    set(&mut conversation.stops, outline.stops.clone(), head);
    set(&mut conversation.status, status, head);
    set(&mut conversation.reason, reason, head);
    set(&mut conversation.faults, outline.session.faults.clone(), head);
    set(&mut conversation.totals, totals, head);
    let resume = outline.front.and_then(|front| Resume::of(outline.run(front)));
    set(&mut conversation.resume, resume, head);
    set(&mut conversation.auto_title, title.map(|name| name.title.clone()), head);
    set(&mut conversation.decisions, outline.decisions.clone(), head);
    set(&mut conversation.allowed_tools, allowed_tools, head);
    set(&mut conversation.work, work, head);
    difference
}

fn set<T: PartialEq>(field: &mut T, value: T, changed: &mut bool) {
    if *field != value {
        *field = value;
        *changed = true;
    }
}

/// Everything that the messages of a shown run are made from, as numbers.
fn versions(outline: &Outline<'_>, index: usize, text: &[Segment<'_>], stamps: &Stamps, from: &mut Vec<u64>) {
    let run = outline.run(index);
    let flags = [outline.front == Some(index), outline.lives(index), outline.verified(index)];
    from.extend([stamps.run(&run.turn, run.epoch), outline.value(index) as u64]);
    from.push(flags.into_iter().fold(0, |all, flag| all << 1 | u64::from(flag)));
    for id in run.answers.iter().filter(|id| outline.visible(id).is_some()) {
        from.extend(outline.message_index(id).map(|at| stamps.message(at)));
        omitted(outline, id, from);
    }
    from.push(END);
    for segment in text {
        let (part, bytes) = segment.cut.unwrap_or((u64::MAX, u64::MAX));
        from.extend([stamps.message(segment.at), part, bytes, u64::from(outline.verified(segment.run))]);
        omitted(outline, &segment.message.id, from);
    }
}

/// No stamp, and no index: something ends here.
const END: u64 = u64::MAX;

fn omitted(outline: &Outline<'_>, message: &str, from: &mut Vec<u64>) {
    if let Some(parts) = outline.omitted(message) {
        from.extend(parts);
        from.push(END);
    }
}

fn update_queue(
    conversation: &mut Conversation,
    known: &mut Vec<Vec<u64>>,
    outline: &Outline<'_>,
    stamps: Option<&Stamps>,
    difference: &mut Difference,
) {
    let version = |&index: &usize| {
        let mut from = vec![stamps.map_or(END, |stamps| stamps.message(index))];
        omitted(outline, &outline.session.messages[index].id, &mut from);
        from
    };
    let versions: Vec<Vec<u64>> = outline.queued.iter().map(version).collect();
    let same = match stamps {
        Some(_) => versions.iter().zip(&*known).take_while(|(now, known)| now == known).count(),
        None => 0,
    };
    let end = conversation.queued.len();
    if same < versions.len() || same < end {
        let fresh = outline.queued[same..].iter().map(|&index| &outline.session.messages[index]);
        let fresh = fresh.map(|message| person(outline, message, None)).collect();
        difference.replace(&mut conversation.queued, same..end, fresh);
        *known = versions;
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

fn asking(call: &Call<'_>) -> Asking {
    Asking {
        id: call.first.id.clone(),
        tool: call.first.name.clone(),
        digest: text::call_digest(&call.first.name, call.input),
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
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
            None => self.incomplete |= run.cost.is_unknown(&run.usage),
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

/// By the first run of each turn, and of all (rule 18): every value of a conflicting key counts; inherited ones only in
/// their turn.
fn sums<'a>(outline: &Outline<'a>, writers: &Writers, now: Timestamp) -> (Vec<Sum>, Totals) {
    let mut turns = vec![Sum::default(); outline.runs().count()];
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
        if let Some(&first) = outline.turn(&run.turn).first() {
            turns[first].add(run, lives, now);
        }
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

fn turn_facts(outline: &Outline<'_>, index: usize, sum: Sum) -> TurnFacts {
    let state = match outline.state(index) {
        RunState::Streaming if outline.lives(index) => TurnState::Streaming,
        RunState::Streaming if outline.pauses(index).next().is_some() => TurnState::Paused,
        RunState::Streaming => TurnState::Lost,
        RunState::Paused => TurnState::Paused,
        RunState::Completed => TurnState::Completed,
        RunState::Failed => TurnState::Failed,
    };
    TurnFacts { sum, state, must_end: work::end_of(outline, index) }
}

fn turn(outline: &Outline<'_>, index: usize, TurnFacts { sum, state, must_end }: TurnFacts) -> ShownTurn {
    let run = outline.run(index);
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
        must_end,
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

/// Whether a limit stopped the front run.
fn limited(outline: &Outline<'_>) -> bool {
    outline.front.is_some_and(|front| outline.run(front).stop_reason.as_deref() == Some("limit"))
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
        Status::Paused if limited(outline) => Waiting::HeldByLimit,
        Status::Paused => Waiting::HeldByPause,
        Status::Active | Status::Archived => link,
    })
}
