//! Set-up and development chores: `cargo xtask run | build | test | bench | soak`.
//!
//! In order of reading: [`step`] (a titled, timed piece of work), [`tool`] (programs that are called), [`stamp`] (what
//! has not changed is not done again), [`toolchain`] (a compiler for wasm), [`build`], then what is done with it:
//! [`test`], [`bench`] and [`soak`]. It ships nothing, and nothing that ships depends on it.

// The one crate whose output is meant for a terminal.
#![allow(clippy::print_stdout)]

mod bench;
mod build;
mod soak;
mod stamp;
mod step;
mod test;
mod tool;
mod toolchain;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use soak::Until;
use step::{Failure, Outcome};

const USAGE: &str = "\
cargo xtask run [--data DIR] [--listen ADDR:PORT]   build what is missing, then start relay and worker
cargo xtask build                                   the wasm module, the web client, the binary (release)
cargo xtask test [--full]                           everything that CI runs; --full adds what takes longer
cargo xtask bench smoke [--json FILE]               print the figures of the walking skeleton
cargo xtask bench model [--json FILE]               print those of the session model, natively and in a browser
cargo xtask bench query [--json FILE]               print what questions over 100,000 messages take
cargo xtask bench worker [--json FILE]              print the worker's: latency, pauses, many turns, kills
cargo xtask prices FILE                             take in a newer price table (genai-prices' data_slim.json)
cargo xtask soak [--seeds N | --minutes M] [--from SEED]   more random histories than CI tells (20,000)
cargo xtask soak --mutants                          which tests notice each rule that is off";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[OsString]) -> Outcome {
    let words: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap_or("")).collect();
    match words.as_slice() {
        ["run", rest @ ..] => {
            let options = options(rest, &["--data", "--listen"])?;
            build::everything()?;
            build::serve(options[0].map(PathBuf::from), options[1].unwrap_or("127.0.0.1:7700"))
        }
        ["build"] => build::everything(),
        ["test"] => test::everything(false),
        ["test", "--full"] => test::everything(true),
        ["bench", name, rest @ ..] => bench::run_named(name, options(rest, &["--json"])?[0].map(PathBuf::from)),
        ["prices", file] => build::prices(file),
        ["soak", "--mutants"] => soak::mutants(),
        ["soak", rest @ ..] => {
            let options = options(rest, &["--seeds", "--minutes", "--from"])?;
            let number = |word: &str| word.parse().map_err(|_| Failure(format!("\"{word}\" is not a whole number")));
            let until = match (options[0], options[1]) {
                (Some(_), Some(_)) => return Err(Failure("--seeds or --minutes, not both".to_owned())),
                (seeds, None) => Until::Seeds(number(seeds.unwrap_or("20000"))?),
                (None, Some(minutes)) => Until::Minutes(number(minutes)?),
            };
            soak::histories(number(options[2].unwrap_or("0"))?, until)
        }
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(Failure(format!("no such command; there are:\n{USAGE}"))),
    }
}

/// Reads `--name VALUE` and `--name=VALUE` pairs, in the order of `names`.
fn options<'a>(mut words: &[&'a str], names: &[&str]) -> Outcome<Vec<Option<&'a str>>> {
    let mut values = vec![None; names.len()];
    while let [word, rest @ ..] = words {
        let (name, inline) = word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
        let Some(index) = names.iter().position(|known| *known == name) else {
            return Err(Failure(format!("unknown option \"{word}\"; there are:\n{USAGE}")));
        };
        let value = inline.or_else(|| rest.first().copied());
        values[index] = Some(value.ok_or_else(|| Failure(format!("{name} needs a value")))?);
        words = if inline.is_some() { rest } else { &rest[1..] };
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_either_form_and_any_order() {
        let names = ["--data", "--listen"];
        assert_eq!(options(&["--listen=a:1", "--data", "d"], &names).unwrap(), [Some("d"), Some("a:1")]);
        assert_eq!(options(&[], &names).unwrap(), [None, None]);
        assert!(options(&["--dta", "d"], &names).unwrap_err().0.contains("--dta"));
        assert!(options(&["--data"], &names).unwrap_err().0.contains("--data needs a value"));
    }
}
