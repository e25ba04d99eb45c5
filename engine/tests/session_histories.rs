//! Random histories, each checked against what has really happened (`world/invariants.rs`). A seed that fails prints one
//! line that repeats it; `cargo xtask soak` tells many more.

#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use world::history::{acts, tell};

/// Enough for every kind of work to come up often, in CI's time.
const SEEDS: u64 = 200;

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
            let line = format!("SKEIN_SEED={seed} cargo test -p skein-engine --test session_histories  # {why}");
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
    for name in often {
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
