//! A test that no broken rule breaks proves nothing: the named tests are run again with each rule off, first those that
//! have its number, then, if none of them notices, all.

use std::process::Command;
use std::sync::Mutex;

use skein_engine::session::rules::Rule;

/// The named tests of these that fail while a rule is off.
fn failing_without(rule: Rule, filter: &str) -> Vec<String> {
    let tests = Command::new(std::env::current_exe().unwrap())
        .args([filter, "--skip", "off::", "--test-threads", "1"])
        .env("SKEIN_RULE_OFF", rule.name())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&tests.stdout);
    let failed = printed.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    failed.map(str::to_owned).collect()
}

/// Prints how many named tests notice each rule that is off, and one of them; with `SKEIN_MUTANTS=all`, of all tests.
#[test]
fn every_rule_that_is_off_fails_a_named_test() {
    let all = std::env::var_os("SKEIN_MUTANTS").is_some();
    let (next, unnoticed) = (Mutex::new(Rule::ALL.iter()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some(rule) = next.lock().unwrap().next() else { return };
            let by_number = if all { Vec::new() } else { failing_without(*rule, &format!("rule_{}_", rule.number())) };
            let failing = if by_number.is_empty() { failing_without(*rule, "") } else { by_number };
            println!("named\t{}\t{}\t{}", rule.name(), failing.len(), failing.first().map_or("-", String::as_str));
            if failing.is_empty() {
                unnoticed.lock().unwrap().push(rule.name());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    assert_eq!(unnoticed.into_inner().unwrap(), Vec::<&str>::new(), "nobody notices that these are off");
}

#[test]
fn every_rule_has_a_test_by_its_number() {
    let tests = include_str!("each.rs");
    for number in 1..=19 {
        assert!(tests.contains(&format!("\nfn rule_{number}_")), "no test is named after rule {number}");
    }
}
