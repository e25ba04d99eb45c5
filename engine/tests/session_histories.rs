//! Random histories, each checked against what has really happened (`world/invariants.rs`). A seed that fails prints one
//! line that repeats it; `cargo xtask soak` tells many more.

#![allow(clippy::unwrap_used)]

mod world;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use skein_engine::session::rules::{Rule, turn_off};
use world::history::{acts, tell};

/// Enough for every kind of work to come up often, in CI's time.
const SEEDS: u64 = 2_500;
/// After so many without a violation, a rule that is off counts as unnoticed.
const PATIENCE: u64 = 400;

/// `SKEIN_SEED=7` tells one and prints what happened in it, `SKEIN_SEEDS=1000..9000` those.
fn seeds() -> Range<u64> {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} is no seed"));
    if let Ok(one) = std::env::var("SKEIN_SEED") {
        return number(&one)..number(&one) + 1;
    }
    match std::env::var("SKEIN_SEEDS") {
        Ok(range) => match range.split_once("..") {
            Some((from, to)) => number(from)..number(to),
            None => 0..number(&range),
        },
        Err(_) => 0..SEEDS,
    }
}

/// What came up in these histories, by kind; an error is the line that repeats the first that fails.
fn tell_all(seeds: Range<u64>) -> Result<BTreeMap<String, usize>, String> {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicBool::new(false);
    let (all, failures) = (Mutex::new(BTreeMap::new()), Mutex::new(BTreeMap::new()));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let why = match catch_unwind(|| tell(seed).map(|world| acts(&world))) {
                Ok(Ok(acts)) => {
                    let mut all = all.lock().unwrap();
                    acts.into_iter().for_each(|(name, count)| *all.entry(name).or_insert(0) += count);
                    continue;
                }
                Ok(Err((invariant, what))) => format!("{invariant}: {what}"),
                Err(_) => "panicked, see above".to_owned(),
            };
            failed.store(true, Ordering::Relaxed);
            let line =
                format!("SKEIN_SEED={seed} cargo test -p skein-engine --test session_histories every_history  # {why}");
            failures.lock().unwrap().insert(seed, line);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    match failures.into_inner().unwrap().pop_first() {
        None => Ok(all.into_inner().unwrap()),
        Some((_, line)) => Err(line),
    }
}

#[test]
fn every_history_ends_in_one_story_with_nothing_lost_doubled_or_unpaid() {
    let seeds = seeds();
    let count = usize::try_from(seeds.end - seeds.start).unwrap();
    let acts = tell_all(seeds).unwrap_or_else(|line| panic!("{line}"));
    println!("{count} histories: {acts:?}");
    // Histories in which little happens prove little.
    let often = ["Queue", "Retry", "Continue", "TakeOver", "Decide", "Close", "Name", "Edited", "Steered", "Ran"];
    for name in often.into_iter().filter(|_| count >= 1_000) {
        let enough = count / 50;
        assert!(acts.get(name).is_some_and(|&n| n >= enough), "{name} came up fewer than {enough} times: {acts:?}");
    }
}

#[test]
fn a_seed_tells_the_same_history_bit_for_bit() {
    for seed in 1_000_000..1_000_010 {
        let heads =
            || tell(seed).map(|world| world.replicas.iter().map(|replica| replica.get_heads()).collect::<Vec<_>>());
        let first = heads();
        assert!(first.is_ok(), "{first:?}");
        assert_eq!(first, heads());
    }
}

/// Rules whose absence histories notice soon, and on each run of CI. The others are noticed later or by the named tests
/// (`session_rules/off.rs`).
const SOON: &[Rule] = &[
    Rule::Hidden,
    Rule::HiddenForEver,
    Rule::CurrentRun,
    Rule::ShownRun,
    Rule::LastAnswered,
    Rule::WithoutParts,
    Rule::Held,
    Rule::PauseStops,
    Rule::CallStops,
    Rule::FailureStops,
    Rule::OverSeen,
    Rule::Continues,
    Rule::Cut,
    Rule::WritesContinues,
    Rule::BeginFresh,
    Rule::Acknowledged,
    Rule::Lineage,
    Rule::RetryAttempt,
    Rule::RetryFirst,
    Rule::LostFirst,
    Rule::Close,
    Rule::EndsPaused,
    Rule::DenyFirst,
    Rule::LeaseLives,
    Rule::Archived,
    Rule::DeletedRests,
    Rule::NamedOnce,
    Rule::UserTitle,
    Rule::HiddenMoney,
    Rule::ByWorker,
    Rule::ByMember,
];
const SOON_SEEDS: u64 = 120;

thread_local! {
    /// Whether panics of this thread are expected.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The first seed that fails with this rule off, and the invariant that it breaks.
fn noticed(rule: Rule, seeds: u64) -> Option<(u64, String)> {
    QUIET.set(true);
    turn_off(Some(rule));
    let caught = (0..seeds).find_map(|seed| match catch_unwind(|| tell(seed).map(drop)) {
        Ok(Ok(())) => None,
        Ok(Err((invariant, _))) => Some((seed, invariant.to_owned())),
        Err(_) => Some((seed, "a step can't be done at all".to_owned())),
    });
    turn_off(None);
    QUIET.set(false);
    caught
}

/// Does this for each rule, on all cores.
fn for_each_rule(rules: &[Rule], report: impl Fn(Rule) + Sync) {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !QUIET.get() {
            others(panic);
        }
    }));
    let next = Mutex::new(rules.iter());
    let work = || {
        loop {
            let Some(rule) = next.lock().unwrap().next() else { return };
            report(*rule);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
}

#[test]
fn histories_notice_soon_that_a_rule_is_off() {
    let unnoticed = Mutex::new(Vec::new());
    for_each_rule(SOON, |rule| {
        if noticed(rule, SOON_SEEDS).is_none() {
            unnoticed.lock().unwrap().push(rule.name());
        }
    });
    assert_eq!(unnoticed.into_inner().unwrap(), Vec::<&str>::new(), "off, and not noticed in {SOON_SEEDS} histories");
}

/// Prints, for each rule, the first history that notices that it is off.
#[test]
#[ignore = "takes minutes: cargo xtask soak --mutants"]
fn each_rule_off() {
    for_each_rule(Rule::ALL, |rule| {
        let (seed, invariant) = noticed(rule, PATIENCE)
            .map_or(("-".to_owned(), "-".to_owned()), |(seed, invariant)| (seed.to_string(), invariant));
        println!("history\t{}\t{}\t{}\t{seed}\t{invariant}", rule.number(), rule.name(), rule.words());
    });
}
