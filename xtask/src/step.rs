//! One titled piece of work: its title before, its time after, on standard error (standard output belongs to the
//! programs that are called: test runners, and the address that `skein serve` prints).

use std::time::Instant;

/// Why a chore ends: one sentence that says what to do about it.
#[derive(Debug)]
pub struct Failure(pub String);

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self(why)
    }
}

/// What every chore returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Does `work` under `title`.
pub fn step<T>(title: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    eprintln!("── {title} …");
    let begun = Instant::now();
    let outcome = work();
    let seconds = begun.elapsed().as_secs_f64();
    match &outcome {
        Ok(_) => eprintln!("── {title}: {seconds:.1} s"),
        Err(_) => eprintln!("── {title}: failed after {seconds:.1} s"),
    }
    outcome
}

/// Steps that don't need each other: all are done, then what failed is told.
#[derive(Default)]
pub struct Checklist {
    lines: Vec<(String, bool, f64)>,
}

impl Checklist {
    /// Does one, and remembers how it went.
    pub fn check(&mut self, title: &str, work: impl FnOnce() -> Outcome) {
        let begun = Instant::now();
        let outcome = step(title, work);
        if let Err(Failure(why)) = &outcome {
            eprintln!("xtask: {why}");
        }
        self.lines.push((title.to_owned(), outcome.is_ok(), begun.elapsed().as_secs_f64()));
    }

    /// Prints the list; an error names what failed.
    pub fn close(self) -> Outcome {
        eprintln!();
        for (title, passed, seconds) in &self.lines {
            eprintln!("{} {seconds:>7.1} s  {title}", if *passed { "ok    " } else { "FAILED" });
        }
        eprintln!("       {:>7.1} s  in all", self.lines.iter().map(|line| line.2).sum::<f64>());
        let failed: Vec<&str> = self.lines.iter().filter(|line| !line.1).map(|line| line.0.as_str()).collect();
        if failed.is_empty() { Ok(()) } else { Err(Failure(format!("failed: {}", failed.join(", ")))) }
    }
}
