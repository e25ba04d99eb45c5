//! What must hold, whatever happened: each a named check of a document against the ledger. Those of the first half are
//! asked when a worker does something, those of the second of any replica at any time, the last ones when all have met.

use std::collections::BTreeMap;

use skein_engine::ids::Epoch;
use skein_engine::session::conversation::{Content, Conversation, Status, Waiting, conversation};
use skein_engine::session::model::{Role, RunState};
use skein_engine::session::summary::{self, NameSource};
use skein_engine::session::work::{Work, WorkKind};
use skein_engine::session::{Session, read};

use super::ledger::{Act, Began, Over};
use super::{Who, World, text};

/// The name of an invariant, and what broke it.
pub type Broken = (&'static str, String);

type Check = fn(&World, Who, &Session, &Conversation) -> Result<(), String>;

// --- When a worker does something ---------------------------------------------------------------------------------

/// Asked before a run begins, of the worker that begins it.
pub fn may_begin(world: &World, who: Who, work: &Work, began: &Began) -> Result<(), Broken> {
    let ledger = &world.ledger;
    if deleted(world, who) {
        return Err(("nothing begins in a deleted session", format!("{work:?}")));
    }
    let seen = "nothing begins over a pause, a failure or a call that nobody who wrote had seen";
    let front = ledger.front(who);
    let unseen = |stops: &[usize], act: usize| {
        let past = &ledger.entries[act].past;
        stops.iter().any(|stop| !past.holds(*stop))
    };
    match work.kind {
        WorkKind::Queue => {
            let Some(front) = front else { return Ok(()) };
            let stops = match ledger.end(who, &front.key) {
                None => return Err(("a turn begins only when the one before it has ended", format!("{work:?}"))),
                Some((RunState::Completed, _)) => return Ok(()),
                Some(_) => ledger.stops(who, &front.key),
            };
            let goes_on = ledger.seen_by(who).any(|(index, entry)| match &entry.act {
                Act::Said { text, over, .. } if began.answers.contains(text) => match over {
                    Over::All => true,
                    Over::None => stops.is_empty(),
                    Over::Known => !unseen(&stops, index),
                },
                _ => false,
            });
            if !goes_on {
                let over: Vec<_> = stops.iter().map(|stop| &ledger.entries[*stop].act).collect();
                return Err((seen, format!("{work:?} over {over:?} of {}", front.key)));
            }
        }
        WorkKind::Continue => {
            let Some(front) = front else { return Err((seen, format!("{work:?} of nothing"))) };
            let stops = ledger.stops(who, &front.key);
            let asked = ledger.seen_by(who).find(
                |(_, entry)| matches!(&entry.act, Act::Continued { request } if Some(request) == work.request.as_ref()),
            );
            if asked.is_none_or(|(index, _)| unseen(&stops, index)) {
                return Err((seen, format!("{work:?} of {}", front.key)));
            }
        }
        WorkKind::TakeOver | WorkKind::Decide => {
            let of = work.of.clone().unwrap_or_default();
            if !ledger.pauses(who, &of).is_empty() {
                return Err((seen, format!("{work:?}")));
            }
        }
        WorkKind::Retry | WorkKind::GiveUp | WorkKind::Close | WorkKind::Name => {}
    }
    if matches!(work.kind, WorkKind::TakeOver | WorkKind::GiveUp | WorkKind::Close) {
        let of = work.of.as_deref();
        // A relay that was restored has forgotten ends that it had acknowledged.
        let ended =
            ledger.entries.iter().any(|entry| matches!(&entry.act, Act::Ended { run, .. } if Some(run.as_str()) == of));
        if ended && !world.restored {
            return Err(("what was ended in time is not taken over", format!("{work:?}")));
        }
    }
    if work.kind == WorkKind::Retry {
        let again = ledger.seen_by(who).any(|(_, entry)| {
            matches!(&entry.act, Act::Began { run } if run.kind == WorkKind::Retry && run.turn == began.turn)
        });
        if again {
            return Err(("a retry is answered once", format!("{work:?}")));
        }
    }
    if ledger.runs().any(|run| run.epoch == began.epoch) {
        return Err(("no epoch is given twice", format!("{work:?} with {:?}", began.epoch)));
    }
    Ok(())
}

/// Asked whenever a worker whose lease lives writes words.
pub fn may_go_on(world: &World, who: Who, run: &str) -> Result<(), Broken> {
    let ledger = &world.ledger;
    let Some(began) = ledger.run(run) else { return Ok(()) };
    let hidden = ledger.hidden(who);
    let paused = !ledger.pauses(who, run).is_empty();
    let edited = began.answers.last().is_some_and(|last| hidden.contains(last.as_str()));
    match paused || edited || deleted(world, who) {
        true => Err(("a worker stops when people say so", format!("{run}, paused: {paused}, edited: {edited}"))),
        false => Ok(()),
    }
}

/// Asked before a worker lets a call run.
pub fn may_run(world: &World, who: Who, call: &str) -> Result<(), Broken> {
    let asked =
        world.ledger.seen_by(who).filter(|(_, entry)| matches!(&entry.act, Act::Asked { call: c, .. } if c == call));
    let Some((asked, _)) = asked.last() else { return Ok(()) };
    let mut approved = false;
    for (_, entry) in world.ledger.seen_by(who) {
        match &entry.act {
            Act::Denied { call: c } if c == call => return Err(("a call that was denied never runs", call.to_owned())),
            Act::Approved { call: c } if c == call => approved |= entry.past.holds(asked),
            _ => {}
        }
    }
    match approved {
        true => Ok(()),
        false => Err(("a call runs once for each time that a person lets it", call.to_owned())),
    }
}

fn deleted(world: &World, who: Who) -> bool {
    let sets = |act: &Act| matches!(act, Act::Deleted { yes: true });
    !world.ledger.standing(who, sets, |act| matches!(act, Act::Deleted { yes: false })).is_empty()
}

// --- Of any replica at any time -----------------------------------------------------------------------------------

/// What every replica must show of what it knows.
pub const ALWAYS: &[(&str, Check)] = &[
    ("nothing that a person said is lost, or shown twice, or back after it was hidden", nothing_said_is_lost),
    ("no answer stands without or above its question", answers_stand_under_their_questions),
    ("every question is answered once, or waits", answered_once),
    ("no text of an answer is lost or told twice", no_text_is_lost),
    ("money is what was spent", money),
    ("the status is that of what ran last", status),
    ("a person's title beats an automatic one, and the latest of each counts", title),
    ("archived is what was archived and not restored", archived),
    ("what people overwrite is the word of one of the last", fields),
];

fn texts<'a>(messages: impl Iterator<Item = &'a super::ShownMessage>, role: Role) -> Vec<String> {
    messages.filter(|message| message.role == role).map(text).collect()
}

fn nothing_said_is_lost(world: &World, who: Who, _: &Session, seen: &Conversation) -> Result<(), String> {
    let hidden = world.ledger.hidden(who);
    let said = world.ledger.seen_by(who).filter_map(|(_, entry)| match &entry.act {
        Act::Said { text, .. } if !hidden.contains(text.as_str()) => Some(text.clone()),
        _ => None,
    });
    same_texts(said.collect(), texts(seen.messages.iter().chain(&seen.queued), Role::User))
}

fn same_texts(mut must: Vec<String>, mut shown: Vec<String>) -> Result<(), String> {
    must.sort();
    shown.sort();
    if must == shown { Ok(()) } else { Err(format!("must be {must:?}, shown are {shown:?}")) }
}

fn answers_stand_under_their_questions(
    world: &World,
    who: Who,
    _: &Session,
    seen: &Conversation,
) -> Result<(), String> {
    let hidden = world.ledger.hidden(who);
    // In the order in which their questions were first taken up, nothing above what was read.
    let must: Vec<&str> = world
        .ledger
        .shown(who)
        .iter()
        .flat_map(|run| run.answers.iter().map(String::as_str).filter(|text| !hidden.contains(text)))
        .collect();
    let shown = texts(seen.messages.iter(), Role::User);
    if must != shown {
        return Err(format!("questions must be {must:?}, shown are {shown:?}"));
    }
    let mut above: Option<&super::ShownMessage> = None;
    for message in &seen.messages {
        let above_it = above.replace(message);
        if message.role == Role::Assistant && above_it.is_none_or(|above| above.turn != message.turn) {
            return Err(format!("{:?} stands without its question", text(message)));
        }
    }
    Ok(())
}

fn answered_once(world: &World, who: Who, _: &Session, seen: &Conversation) -> Result<(), String> {
    let must: Vec<&str> = world.ledger.shown(who).iter().map(|run| run.key.as_str()).collect();
    let shown: Vec<&str> = seen.turns.iter().map(|turn| turn.run.as_str()).collect();
    if must != shown {
        return Err(format!("runs must be {must:?}, shown are {shown:?}"));
    }
    match seen.queued.is_empty() || seen.waiting.is_some() {
        true => Ok(()),
        false => Err("what waits says why".to_owned()),
    }
}

fn no_text_is_lost(world: &World, who: Who, _: &Session, seen: &Conversation) -> Result<(), String> {
    for run in world.ledger.shown(who) {
        let must = world.ledger.words(who, &run.key).concat();
        let shown = seen
            .messages
            .iter()
            .filter(|message| message.role == Role::Assistant && message.turn.as_ref() == Some(&run.turn));
        let shown: String = shown.map(text).collect();
        if must != shown {
            return Err(format!("{} must say {must:?}, says {shown:?}", run.key));
        }
    }
    Ok(())
}

fn money(world: &World, who: Who, _: &Session, seen: &Conversation) -> Result<(), String> {
    let spent = world.ledger.spent(who);
    let tokens: u64 = spent.values().map(|(tokens, _)| tokens).sum();
    let micros: u64 = spent.values().filter_map(|(_, micros)| *micros).sum();
    let incomplete = spent.values().any(|(_, micros)| micros.is_none());
    let totals = (seen.totals.usage.output, seen.totals.cost_micros.0, seen.totals.incomplete);
    if totals == (tokens, micros, incomplete) {
        return Ok(());
    }
    Err(format!("must be {:?}, is {totals:?}", (tokens, micros, incomplete)))
}

fn status(world: &World, who: Who, _: &Session, seen: &Conversation) -> Result<(), String> {
    let must = match world.ledger.front(who) {
        None => Status::Active,
        Some(front) => match world.ledger.end(who, &front.key) {
            Some((RunState::Paused, _)) => Status::Paused,
            Some((RunState::Failed, _)) => Status::Failed,
            Some((RunState::Completed | RunState::Streaming, _)) => Status::Active,
            None if world.leases(who).live == Some(front.epoch) => Status::Streaming,
            None if !world.ledger.pauses(who, &front.key).is_empty() => Status::Paused,
            None => Status::Active,
        },
    };
    if seen.status == must { Ok(()) } else { Err(format!("must be {must:?}, is {:?}", seen.status)) }
}

fn title(world: &World, who: Who, _: &Session, _: &Conversation) -> Result<(), String> {
    let summary = world.summary(who);
    let renames = |act: &Act| matches!(act, Act::Renamed { .. });
    let undoes = |act: &Act| matches!(act, Act::Renamed { .. } | Act::AskedForName);
    let names: Vec<&str> = world
        .ledger
        .standing(who, renames, undoes)
        .into_iter()
        .filter_map(|act| match act {
            Act::Renamed { name } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let titles = world.ledger.seen_by(who).filter_map(|(_, entry)| match &entry.act {
        Act::Titled { title, epoch } => Some((*epoch, title.as_str())),
        _ => None,
    });
    let good = match (names.as_slice(), titles.max()) {
        ([], None) => summary.name_source == NameSource::Default,
        ([], Some((_, title))) => summary.name == title && summary.name_source == NameSource::Auto,
        (names, _) => names.contains(&summary.name.as_str()) && summary.name_source == NameSource::User,
    };
    if good { Ok(()) } else { Err(format!("{:?} {:?}, of people: {names:?}", summary.name, summary.name_source)) }
}

fn archived(world: &World, who: Who, _: &Session, seen: &Conversation) -> Result<(), String> {
    let sets = |act: &Act| matches!(act, Act::Archived { yes: true });
    let must = !world.ledger.standing(who, sets, |act| matches!(act, Act::Archived { yes: false })).is_empty();
    let summary = world.summary(who);
    let shown = (summary.status == Status::Archived, summary.beneath);
    let good = shown == (must, must.then_some(seen.status)) && summary.deleted_at.is_some() == deleted(world, who);
    if good { Ok(()) } else { Err(format!("must be {must}, is {shown:?}")) }
}

fn fields(world: &World, who: Who, session: &Session, _: &Conversation) -> Result<(), String> {
    for (name, value) in
        [("agent", session.agent.clone()), ("limit", session.spend_limit.map(|limit| limit.0.to_string()))]
    {
        let of = |act: &Act| matches!(act, Act::Set { field, .. } if *field == name);
        let last: Vec<&Act> = world.ledger.standing(who, of, of);
        let good = match last.is_empty() {
            true => value.is_none(),
            false => last.iter().any(|act| matches!(act, Act::Set { value: set, .. } if *set == value)),
        };
        if !good {
            return Err(format!("{name} is {value:?}, set was {last:?}"));
        }
    }
    Ok(())
}

/// The first that a replica breaks.
pub fn check(world: &World, who: Who) -> Result<(), Broken> {
    if let Some(broken) = world.broken.first() {
        return Err(broken.clone());
    }
    let (session, seen) = (world.session(who), world.look(who));
    for (name, holds) in ALWAYS {
        holds(world, who, &session, &seen).map_err(|what| (*name, format!("replica {who}: {what}")))?;
    }
    Ok(())
}

// --- When all have met --------------------------------------------------------------------------------------------

/// All replicas tell one story, and it is the ledger's: they are at the same heads, and some of either kind, each read on
/// its own, read the same.
pub fn check_all(world: &World) -> Result<(), Broken> {
    check(world, 0)?;
    let story = |who: Who| {
        let session = read::session(&world.replicas[who]);
        let seen = conversation(&session, &world.leases(who), &world.writers, world.now);
        let summary = summary::summary(skein_engine::ids::DocumentId::from_bytes([7; 16]), &session, &seen, world.now);
        (seen, summary)
    };
    let first = story(0);
    let last = world.replicas.len() - 1;
    for who in 1..=last {
        let same = world.replicas[who].get_heads() == world.replicas[0].get_heads();
        if !same || ((who == 1 || who == last) && story(who) != first) {
            return Err(("all replicas tell the same", format!("replica {who} tells another story than the relay")));
        }
    }
    Ok(())
}

/// After a worker has done all that was due: nothing waits but what is held, and says so.
pub fn check_rest(world: &World) -> Result<(), Broken> {
    let seen = world.look(0);
    let name = "what waits at the end is held, and says why";
    let held = [Waiting::HeldByPause, Waiting::HeldByApproval, Waiting::HeldByFailure, Waiting::HeldByLimit];
    let front = world.ledger.front(0);
    let stopped = front.and_then(|front| Some((front, world.ledger.end(0, &front.key)?)));
    let really = matches!(stopped, Some((_, (RunState::Paused | RunState::Failed, _)))) || deleted(world, 0);
    if !seen.queued.is_empty()
        && !(really && (deleted(world, 0) || seen.waiting.is_some_and(|why| held.contains(&why))))
    {
        return Err((name, format!("{:?}", seen.waiting)));
    }
    if seen.status == Status::Streaming {
        return Err((name, "something streams".to_owned()));
    }
    Ok(())
}

/// How often each kind of work came up.
pub fn kinds(world: &World) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for run in world.ledger.runs() {
        *kinds.entry(format!("{:?}", run.kind)).or_default() += 1;
    }
    kinds
}

/// The highest epoch of all.
pub fn last_epoch(world: &World) -> Epoch {
    world.ledger.runs().map(|run| run.epoch).max().unwrap_or_default()
}

/// The parts of a call that are open in what somebody sees.
pub fn open_calls(seen: &Conversation) -> Vec<(String, skein_engine::session::conversation::ShownCallState)> {
    use skein_engine::session::conversation::ShownCallState::{InDoubt, Waiting};
    let parts = seen.messages.iter().flat_map(|message| &message.parts);
    let open = parts.filter_map(|part| match &part.content {
        Content::ToolCall { id, state: state @ (Waiting | InDoubt), .. } => Some((id.clone(), *state)),
        _ => None,
    });
    open.collect()
}
