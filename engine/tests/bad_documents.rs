//! Session documents that nobody should write: fields missing, of the wrong type, beyond every number, in conflict,
//! nested deep. They are shown as far as they can be read, with what is wrong, alike on every replica, and no total is
//! ever wrong.

#![allow(missing_docs, clippy::unwrap_used)]

mod stored;

use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::{Transactable, Transaction};
use automerge::{Automerge, AutomergeError, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, Value};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use skein_engine::ids::{DocumentId, Epoch, Micros};
use skein_engine::session::command::{self, Command, CommandError, Draft, Given};
use skein_engine::session::conversation::{Conversation, Leases};
use skein_engine::session::model::Session;
use skein_engine::session::work::{must_end, work};
use skein_engine::session::{Derived, Summary, conversation, read, summary};
use stored::{NOW, actor, see, writers};

/// Every container of the document, the root too.
fn containers(document: &Automerge) -> Vec<(ObjId, ObjType)> {
    let mut found = vec![(ROOT, ObjType::Map)];
    let mut at = 0;
    while at < found.len() {
        let (object, kind) = found[at].clone();
        let mut add = |value: Value<'_>, id: ObjId| {
            if let Value::Object(kind) = value {
                found.push((id, kind));
            }
        };
        match kind {
            ObjType::Map | ObjType::Table => {
                for key in document.keys(&object).collect::<Vec<_>>() {
                    let all = document.get_all(&object, key.as_str()).unwrap();
                    all.into_iter().for_each(|(value, id)| add(value, id));
                }
            }
            ObjType::List => {
                for index in 0..document.length(&object) {
                    document.get_all(&object, index).unwrap().into_iter().for_each(|(value, id)| add(value, id));
                }
            }
            ObjType::Text => {}
        }
        at += 1;
    }
    found
}

fn scalar(random: &mut StdRng) -> ScalarValue {
    match random.random_range(0..14) {
        0 => ScalarValue::Null,
        1 => ScalarValue::Int(i64::MIN),
        2 => ScalarValue::Int(i64::MAX),
        3 => ScalarValue::Int(-1),
        4 => ScalarValue::Uint(u64::MAX),
        5 => ScalarValue::Uint(3),
        6 => ScalarValue::F64(f64::NAN),
        7 => ScalarValue::F64(1e300),
        8 => ScalarValue::F64(2.0),
        9 => ScalarValue::counter(random.random_range(-5..1000)),
        10 => ScalarValue::Timestamp(i64::MAX),
        11 => ScalarValue::Boolean(true),
        12 => ScalarValue::Bytes(vec![0xff; 40]),
        _ => {
            let words = ["", "user", "assistant", "text", "streaming", "completed", "\u{202e}\0\u{1b}[2J", "x/y", "12"];
            ScalarValue::Str(words[random.random_range(0..words.len())].into())
        }
    }
}

/// One thing done to one place.
fn spoil(tx: &mut Transaction<'_>, place: &(ObjId, ObjType), random: &mut StdRng) -> Result<(), AutomergeError> {
    let (object, kind) = place;
    let deep = |tx: &mut Transaction<'_>, mut at: ObjId| {
        for level in 0..40 {
            at = tx.put_object(&at, if level % 2 == 0 { "parts" } else { "names" }, ObjType::Map)?;
        }
        Ok::<_, AutomergeError>(())
    };
    match kind {
        ObjType::Map | ObjType::Table => {
            let keys: Vec<String> = tx.keys(object).collect();
            let any = ["messages", "runs", "requests", "names", "parts", "id", "unheard-of", "usage", "micros"];
            let key = match keys.is_empty() || random.random_bool(0.15) {
                true => any[random.random_range(0..any.len())].to_owned(),
                false => keys[random.random_range(0..keys.len())].clone(),
            };
            match random.random_range(0..6) {
                0 => _ = tx.delete(object, key.as_str()),
                1 => _ = tx.put_object(object, key.as_str(), ObjType::Map)?,
                2 => _ = tx.put_object(object, key.as_str(), ObjType::List)?,
                3 => {
                    let text = tx.put_object(object, key.as_str(), ObjType::Text)?;
                    tx.splice_text(&text, 0, 0, "marked")?;
                    tx.mark(&text, Mark::new("bold".into(), true, 0, 3), ExpandMark::Both)?;
                }
                4 if random.random_bool(0.1) => {
                    let map = tx.put_object(object, key.as_str(), ObjType::Map)?;
                    deep(tx, map)?;
                }
                _ => tx.put(object, key.as_str(), scalar(random))?,
            }
        }
        ObjType::List => {
            let length = tx.length(object);
            let index = random.random_range(0..=length);
            match random.random_range(0..4) {
                0 if index < length => tx.delete(object, index)?,
                1 if index < length => tx.put(object, index, scalar(random))?,
                2 => _ = tx.insert_object(object, index, ObjType::Map)?,
                _ => tx.insert(object, index, scalar(random))?,
            }
        }
        ObjType::Text => tx.splice_text(object, 0, 0, "\u{fffc}x")?,
    }
    Ok(())
}

fn spoil_some(document: &mut Automerge, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        let places = containers(document);
        let place = places[random.random_range(0..places.len())].clone();
        let mut tx = document.transaction();
        match spoil(&mut tx, &place, random) {
            Ok(()) => _ = tx.commit(),
            Err(_) => _ = tx.rollback(),
        }
    }
}

fn read_all(document: &Automerge) -> (Session, Conversation, Summary) {
    let session = read::session(document);
    let writers = writers();
    let mut all = None;
    for live in [None, Some(Epoch(12)), Some(Epoch(13))] {
        let leases = Leases { live, workers: Some(1) };
        let seen = conversation(&session, &leases, &writers, NOW);
        work(&session, &seen, &leases, &writers, NOW);
        for run in session.runs.keys() {
            must_end(&session, &seen, run);
        }
        let row = summary::summary(DocumentId::from_bytes([1; 16]), &session, &seen, NOW);
        serde_json::to_string(&seen).unwrap();
        serde_json::to_string(&row).unwrap();
        all.get_or_insert((seen, row));
    }
    let (seen, row) = all.unwrap();
    (session, seen, row)
}

/// What a document says that its runs cost and used, read straight from it, without the reader.
fn check_totals(document: &Automerge, seen: &Conversation, row: &Summary) {
    let (mut micros, mut unknown) = (0_u64, false);
    let number = |value: Option<(Value<'_>, ObjId)>| match value {
        Some((Value::Scalar(scalar), _)) => match &*scalar {
            ScalarValue::Int(n) => u64::try_from(*n).ok(),
            ScalarValue::Uint(n) => i64::try_from(*n).ok().map(|n| n as u64),
            // What JavaScript wrote as a whole number.
            ScalarValue::F64(n) if n.fract() == 0.0 && (0.0..=9e15).contains(n) => Some(*n as u64),
            ScalarValue::Counter(n) => u64::try_from(i64::from(n)).ok(),
            ScalarValue::Timestamp(n) => u64::try_from(*n).ok(),
            _ => None,
        },
        _ => None,
    };
    for (runs, of) in document.get_all(ROOT, "runs").unwrap().into_iter().map(|(value, id)| (id, value)) {
        if !of.is_object() || document.object_type(&runs).unwrap() != ObjType::Map {
            continue;
        }
        for key in document.keys(&runs).collect::<Vec<_>>() {
            for (_, run) in document.get_all(&runs, key.as_str()).unwrap() {
                if document.object_type(&run).ok() != Some(ObjType::Map) {
                    continue;
                }
                let Some((cost_value, cost)) = document.get(&run, "cost").unwrap() else { continue };
                let priced = match document.object_type(&cost) {
                    Ok(ObjType::Map) if cost_value.is_object() => document.get(&cost, "micros").unwrap(),
                    _ => {
                        unknown |= !matches!(&cost_value, Value::Scalar(s) if s.is_null() || s.is_bytes());
                        continue;
                    }
                };
                match number(priced.clone()) {
                    Some(n) => micros = micros.saturating_add(n),
                    None => {
                        unknown |= matches!(&priced, Some((value, _)) if !matches!(value, Value::Scalar(s) if s.is_null() || s.is_bytes()))
                    }
                }
            }
        }
    }
    // Runs may fall away (a key that is none), never grow.
    assert!(seen.totals.cost_micros.0 <= micros, "{:?} of {micros}", seen.totals);
    assert!(row.cost_micros.is_none_or(|cost| cost == seen.totals.cost_micros), "two sums");
    if unknown && seen.totals.cost_micros.0 == 0 && !seen.turns.is_empty() {
        assert!(
            seen.totals.incomplete || seen.turns.iter().all(|turn| turn.cost_micros.is_some()),
            "{:?}",
            seen.totals
        );
    }
}

#[test]
fn whatever_is_broken_is_shown_as_far_as_it_can_be_read_alike_on_every_replica() {
    let valid = stored::session();
    assert_eq!(read::session(&valid).faults, Vec::<String>::new());
    let seeds = std::env::var("SKEIN_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let mut one = valid.fork().with_actor(actor(10));
        let mut other = valid.fork().with_actor(actor(11));
        spoil_some(&mut one, &mut random);
        spoil_some(&mut other, &mut random);
        read_all(&one);
        one.merge(&mut other).unwrap();
        other.merge(&mut one).unwrap();
        let (session, seen, row) = read_all(&one);
        // Step by step it reads the same.
        let mut derived = Derived::default();
        derived.session(&valid);
        derived.changed(&one.get_changes(&valid.get_heads()));
        assert_eq!(derived.session(&one), &session, "seed {seed}");
        assert_eq!(read_all(&other), (session.clone(), seen.clone(), row.clone()), "seed {seed}");
        // And after it was stored and loaded.
        let loaded = Automerge::load(&one.save()).unwrap();
        assert_eq!(read::session(&loaded), session, "seed {seed}");
        check_totals(&one, &seen, &row);
        // Commands give an error or a change that can be read, and nothing else.
        for command in commands(&session) {
            let mut copy = one.fork().with_actor(actor(12));
            let given = Given { by: "person", at: NOW, id: None };
            let mut tx = copy.transaction();
            match command::apply(&mut tx, &session, &seen, &command, &given) {
                Ok(_) => _ = tx.commit(),
                Err(_) => _ = tx.rollback(),
            }
            read_all(&copy);
        }
    }
}

fn commands(session: &Session) -> Vec<Command> {
    let message = session.messages.first().map(|message| message.id.clone()).unwrap_or_default();
    vec![
        Command::send("more"),
        Command::Edit { message: message.clone(), text: "x".into(), detach: vec![u64::MAX] },
        Command::Remove { message: message.clone() },
        Command::Pause,
        Command::Continue,
        Command::Retry { message: None },
        Command::Approve { call: "call1".into(), for_session: false },
        Command::Rename { name: "New".into() },
        Command::SmartRename,
        Command::Omit { message, part: u64::MAX },
        Command::Archive,
        Command::Undelete,
    ]
}

/// Puts something at the root, or deletes it.
fn spoiled(write: impl FnOnce(&mut Transaction<'_>)) -> (Session, Conversation) {
    let mut document = stored::session().with_actor(actor(1));
    let mut tx = document.transaction();
    write(&mut tx);
    tx.commit();
    see(&document)
}

#[test]
fn what_is_wrong_is_said_where_people_look() {
    let (_, seen) = spoiled(|tx| tx.put(ROOT, "createdAt", "yesterday").unwrap());
    assert_eq!(seen.faults, ["createdAt is not a whole number from 0"]);
    let (_, seen) = spoiled(|tx| tx.put(ROOT, "schema", 2).unwrap());
    assert_eq!(seen.faults, ["written by a newer version (schema 2): some of it may not be shown"]);
    let (_, seen) = spoiled(|tx| tx.put(ROOT, "runs", 7).unwrap());
    assert_eq!(seen.faults, ["runs is not a map"]);
    assert_eq!(seen.messages.len() + seen.queued.len(), 3, "its messages are shown all the same");
    let (session, seen) = spoiled(|tx| tx.delete(ROOT, "kind").unwrap());
    assert!(!session.is_session && seen.faults == ["kind does not say that it is a session"]);
    let (_, seen) = see(&Automerge::new());
    assert_eq!(seen.faults, ["schema is missing, or no number", "kind does not say that it is a session"]);
}

#[test]
fn a_cost_that_cannot_be_read_is_unknown_and_not_nothing() {
    let key = read::session(&stored::session()).runs.keys().next().unwrap().clone();
    let whole = see(&stored::session()).1.totals;
    assert!(!whole.incomplete && whole.cost_micros == Micros(3 * 1234 + 1), "{whole:?}");
    for value in [ScalarValue::Int(-1), ScalarValue::F64(0.5), ScalarValue::Uint(u64::MAX), "1".into()] {
        let (_, seen) = spoiled(|tx| {
            let (_, runs) = tx.get(ROOT, "runs").unwrap().unwrap();
            let (_, run) = tx.get(runs, &key).unwrap().unwrap();
            for field in ["input", "output", "reasoning", "cacheRead", "cacheWrite", "cacheWriteLong"] {
                let (_, usage) = tx.get(&run, "usage").unwrap().unwrap();
                tx.put(usage, field, 0).unwrap();
            }
            let (_, cost) = tx.get(run, "cost").unwrap().unwrap();
            tx.put(cost, "micros", value.clone()).unwrap();
        });
        // A person wrote in a worker's run: it takes no part. The worker itself could leave this.
        assert!(seen.totals.cost_micros < whole.cost_micros);
    }
    let mut document = stored::session().with_actor(actor(2));
    let mut tx = document.transaction();
    let (_, runs) = tx.get(ROOT, "runs").unwrap().unwrap();
    let (_, run) = tx.get(runs, &key).unwrap().unwrap();
    tx.put(&run, "usage", "a lot").unwrap();
    let (_, cost) = tx.get(run, "cost").unwrap().unwrap();
    tx.put(cost, "micros", -1).unwrap();
    tx.commit();
    let (_, seen) = see(&document);
    assert!(seen.totals.incomplete, "{:?}", seen.totals);
    assert_eq!(seen.faults.len(), 2, "{:?}", seen.faults);
}

#[test]
fn totals_do_not_overflow() {
    let mut document = stored::session().with_actor(actor(2));
    let keys: Vec<String> = read::session(&document).runs.keys().cloned().collect();
    let mut tx = document.transaction();
    let (_, runs) = tx.get(ROOT, "runs").unwrap().unwrap();
    for key in keys {
        let (_, run) = tx.get(&runs, &key).unwrap().unwrap();
        let (_, usage) = tx.get(&run, "usage").unwrap().unwrap();
        let (_, cost) = tx.get(&run, "cost").unwrap().unwrap();
        tx.put(cost, "micros", i64::MAX).unwrap();
        ["input", "output", "cacheWrite", "cacheWriteLong"].iter().for_each(|k| tx.put(&usage, *k, i64::MAX).unwrap());
        tx.put(&run, "startedAt", 0).unwrap();
        tx.put(run, "endedAt", i64::MAX).unwrap();
    }
    tx.commit();
    let (_, seen, row) = read_all(&document);
    assert_eq!(seen.totals.cost_micros, Micros(u64::MAX));
    assert_eq!(seen.totals.usage.input, u64::MAX);
    assert_eq!(row.cost_micros, Some(Micros(u64::MAX)));
}

#[test]
fn commands_on_what_is_not_there_say_so() {
    let mut document = stored::session();
    let give = |document: &mut Automerge, command: Command| {
        let (session, seen) = see(document);
        let mut tx = document.transaction();
        let given = Given { by: "person", at: NOW, id: None };
        let done = command::apply(&mut tx, &session, &seen, &command, &given);
        tx.rollback();
        done.map(drop)
    };
    let nothing = "nothing".to_owned();
    for command in [
        Command::Remove { message: nothing.clone() },
        Command::Edit { message: nothing.clone(), text: "x".into(), detach: vec![] },
        Command::Steer { message: nothing.clone() },
        Command::Retry { message: Some(nothing.clone()) },
        Command::Approve { call: nothing.clone(), for_session: false },
        Command::Deny { call: nothing.clone(), reason: None },
        Command::Omit { message: nothing.clone(), part: 0 },
    ] {
        assert!(
            matches!(
                give(&mut document, command.clone()),
                Err(CommandError::Unknown { .. } | CommandError::NothingStreams | CommandError::NotQueued)
            ),
            "{command:?}"
        );
    }
    for name in [
        "x".repeat(1 << 20),
        "a\u{0}b".into(),
        "a\u{1b}[2Jb".into(),
        "\u{202e}".into(),
        "a\u{2028}b".into(),
        "\u{200b}".into(),
    ] {
        assert_eq!(
            give(&mut document, Command::Rename { name: name.clone() }),
            Err(CommandError::BadName),
            "{:?}",
            &name[..name.len().min(20)]
        );
    }
    // Letters of scripts that need joiners are letters.
    assert_eq!(give(&mut document, Command::Rename { name: "می\u{200c}خواهم 👩\u{200d}🚀".into() }), Ok(()));
    let long = Draft { text: "x".repeat((1 << 20) + 1), ..Draft::default() };
    assert_eq!(give(&mut document, Command::Send(long)), Err(CommandError::TooLong));
    assert_eq!(give(&mut document, Command::SetSpendLimit { micros: Some(Micros(0)) }), Err(CommandError::BadLimit));
}

#[test]
fn a_clock_a_year_off_moves_nothing_into_the_future() {
    let mut document = stored::session();
    let year = 365 * 24 * 3600 * 1000;
    let (session, seen) = see(&document);
    let mut tx = document.transaction();
    let late = Given { by: "person", at: skein_engine::ids::Timestamp(NOW.0 + year), id: None };
    command::apply(&mut tx, &session, &seen, &Command::send("from next year"), &late).unwrap();
    tx.commit();
    let (_, seen, row) = read_all(&document);
    assert!(row.updated_at.unwrap() <= NOW, "no last update lies in the future");
    assert_eq!(seen.queued.len(), see(&stored::session()).1.queued.len() + 1);
}
