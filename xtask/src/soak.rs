//! More random histories than CI tells: `cargo xtask soak`. And what each of them is worth: `--mutants` turns every rule
//! of `docs/session-rules.md` off in turn and prints which history and which named tests notice.
//!
//! The tests are built in release mode, and print one line that repeats the history that fails.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::step::{Failure, Outcome, step};
use crate::tool::{cargo, run};

/// Seeds between two lines of progress.
const BATCH: u64 = 5_000;

/// How long.
#[derive(Clone, Copy)]
pub enum Until {
    /// So many histories.
    Seeds(u64),
    /// So much time.
    Minutes(u64),
}

fn tests() -> Command {
    let mut tests = cargo();
    tests.args(["test", "--quiet", "--release", "--package", "skein-engine"]);
    tests
}

fn built() -> Outcome {
    step("compiling the histories", || {
        run(tests().args(["--test", "session_histories", "--test", "session_rules", "--no-run"]))
    })
}

/// Tells histories from `first` on, until the first that fails.
pub fn histories(first: u64, until: Until) -> Outcome {
    built()?;
    let begun = Instant::now();
    let mut told = 0;
    let last = match until {
        Until::Seeds(seeds) => seeds,
        Until::Minutes(_) => u64::MAX,
    };
    let over = |told: u64| match until {
        Until::Seeds(seeds) => told >= seeds,
        Until::Minutes(minutes) => begun.elapsed() >= Duration::from_secs(60 * minutes),
    };
    while !over(told) {
        let from = first.saturating_add(told);
        let count = BATCH.min(last - told);
        let end = from.saturating_add(count);
        run(tests()
            .args(["--test", "session_histories", "--", "--exact"])
            .arg("every_history_ends_in_one_story_with_nothing_lost_doubled_or_unpaid")
            .env("SKEIN_SEEDS", format!("{from}..{end}")))?;
        told += count;
        eprintln!("── {told} histories in {:.0} s, none failed", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Prints the table of `docs/testing.md`.
pub fn mutants() -> Outcome {
    built()?;
    let history = lines(
        tests()
            .args(["--test", "session_histories", "--", "--exact", "each_rule_off"])
            .args(["--ignored", "--nocapture"]),
        "history",
    )?;
    let named = lines(
        tests()
            .args(["--test", "session_rules", "--", "--exact", "off::every_rule_that_is_off_fails_a_named_test"])
            .arg("--nocapture")
            .env("SKEIN_MUTANTS", "all"),
        "named",
    )?;
    let named: BTreeMap<&str, &str> =
        named.iter().filter_map(|line| Some((line.first()?.as_str(), line.get(1)?.as_str()))).collect();
    let mut rows: Vec<&[String]> = history.iter().map(Vec::as_slice).collect();
    rows.sort_by_key(|row| row.first().and_then(|number| number.parse::<u8>().ok()));
    println!("| rule | off | first history that notices | by which invariant | named tests that fail |");
    println!("|---|---|---|---|---|");
    for row in rows {
        let [number, name, words, seed, invariant] = row else { continue };
        let failing = named.get(name.as_str()).copied().unwrap_or("0");
        println!("| {number} | {words} | {seed} | {invariant} | {failing} |");
        if seed == "-" && failing == "0" {
            return Err(Failure(format!("nobody notices that {name} is off")));
        }
    }
    Ok(())
}

/// The fields of the lines that a test prints under this name.
fn lines(tests: &mut Command, name: &str) -> Outcome<Vec<Vec<String>>> {
    let output = tests.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo does not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(Failure(format!("the tests failed:\n{text}")));
    }
    let fields = |line: &str| line.split('\t').skip(1).map(str::to_owned).collect();
    Ok(text.lines().filter(|line| line.split('\t').next() == Some(name)).map(fields).collect())
}
