//! The one binary of Skein. It holds no logic of its own: it reads arguments and settings, and starts relay, worker or a
//! replica of the person's own.
//!
//! Standard output holds results and nothing else; logs and errors go to standard error, an error in one line with the
//! cause first. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 waiting timed out.

mod action;
mod admin;
mod agent;
mod approvals;
mod args;
mod ask;
mod compare;
mod config;
mod failure;
mod integration;
mod member;
mod pair;
mod place;
mod print;
mod query;
mod replica;
mod serve;
mod session;
mod shutdown;
mod task;
mod token;
mod value;
mod workspace;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::{Command, Skein};
use crate::failure::Failure;

fn main() -> ExitCode {
    let ended = match Skein::try_parse() {
        Ok(arguments) => start(arguments),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            print::out(&error.to_string())
        }
        Err(error) => Err(misused(&error)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print::remark(&failure.to_string());
            ExitCode::from(failure.code)
        }
    }
}

/// clap's first paragraph says what is wrong; the rest is in `--help`.
fn misused(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure { sentence: format!("a command is missing: see {} --help", called()), code: 2 };
    }
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let cause = first.strip_prefix("error: ").unwrap_or(first).trim_end_matches('.');
    Failure::usage(format!("{cause} (see {} --help)", called()))
}

/// The command as called, up to its first option or value that is no command.
fn called() -> String {
    let words = std::env::args().skip(1).take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()));
    std::iter::once("skein".to_owned()).chain(words.take(2)).collect::<Vec<_>>().join(" ")
}

fn start(arguments: Skein) -> Result<(), Failure> {
    let quiet = !matches!(arguments.command, Command::Serve(_) | Command::Relay(_) | Command::Worker(_));
    let filter = tracing_subscriber::EnvFilter::try_from_env("SKEIN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(if quiet { "off" } else { "info" }));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("{error}, while starting")))?;
    runtime.block_on(async {
        match arguments.command {
            Command::Serve(arguments) => serve::serve(arguments).await,
            Command::Relay(arguments) => serve::relay(arguments).await,
            Command::Worker(arguments) => serve::worker(arguments).await,
            Command::Session(session) => session::run(session).await,
            Command::Approvals(arguments) => approvals::run(arguments).await,
            Command::Agent(arguments) => agent::run(arguments).await,
            Command::Action(arguments) => action::run(arguments).await,
            Command::Integration(arguments) => integration::run(arguments).await,
            Command::Task(arguments) => task::run(arguments).await,
            Command::Query(arguments) => query::run(arguments).await,
            Command::Compare(arguments) => compare::run(arguments).await,
            Command::Member(arguments) => member::run(arguments).await,
            Command::Token(arguments) => token::run(arguments).await,
            Command::Pair(arguments) => pair::run(arguments).await,
            Command::Workspace(arguments) => workspace::run(arguments).await,
            Command::Admin(arguments) => admin::run(arguments).await,
        }
    })
}
