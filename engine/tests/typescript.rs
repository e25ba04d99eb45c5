//! Generates `web/src/engine/types.gen.ts`, the web client's view of the engine's rows, from the serde types
//! themselves, and fails when the file that is checked in differs.
//!
//! `SKEIN_WRITE_TYPES=1 cargo test -p skein-engine --features ts --test typescript` writes it anew.
#![cfg(feature = "ts")]

use std::path::Path;

use skein_engine::blob::BlobId;
use skein_engine::device::WaitingCommand;
use skein_engine::ids::{DocumentId, Epoch, Micros, Timestamp};
use skein_engine::profile::Arrange;
use skein_engine::session::command::{Attachment, Command, Done, Draft, NewSession};
use skein_engine::session::conversation::{
    Content, Conversation, MemberRole, Reason, ShownCallState, ShownMessage, ShownPart, ShownTurn, Status, Totals,
    TurnState, Waiting,
};
use skein_engine::session::model::{Origin, Role, RunError, Usage};
use skein_engine::session::resume::Resume;
use skein_engine::session::summary::{Due, NameSource, Queued, Summary};
use skein_engine::wire::catalog::Member;
use skein_engine::wire::ephemeral::{ActivityState, TailKind};
use ts_rs::{Config, TS};

const HEAD: &str = "// Generated from the engine's own types; edit those, then run\n\
    // `SKEIN_WRITE_TYPES=1 cargo test -p skein-engine --features ts --test typescript`.\n";

fn declaration<T: TS>(config: &Config) -> String {
    let mut text = String::from("\n");
    if let Some(docs) = T::docs() {
        text.push_str(docs.trim_end());
        text.push('\n');
    }
    tidy(&(text + "export " + &T::decl(config) + "\n"))
}

/// As one would write it by hand: comments of one line on one line, fields indented.
fn tidy(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut tidied = String::new();
    let mut inside = false;
    let mut rest = lines.as_slice();
    while let [line, after @ ..] = rest {
        let indent = if inside && !line.is_empty() { "  " } else { "" };
        rest = after;
        match (*line, after) {
            ("/**", [doc, " */", beyond @ ..]) => {
                tidied += &format!("{indent}/** {} */\n", doc.trim_start_matches(" * "));
                rest = beyond;
            }
            _ => tidied += &format!("{indent}{line}\n"),
        }
        inside |= line.starts_with("export");
    }
    tidied
}

/// All declarations, in order of reading.
macro_rules! declarations {
    ($config:expr, $($type:ty),* $(,)?) => { [$(declaration::<$type>($config)),*].concat() };
}

#[test]
fn the_web_clients_types_are_those_of_the_engine() {
    // Every number of ours is below 2^53, so JavaScript's own number holds it.
    let config = Config::new().with_large_int("number");
    #[rustfmt::skip]
    let types = declarations!(
        &config,
        DocumentId, Timestamp, Epoch, Micros,
        Summary, NameSource, Status, Reason, RunError, Queued, Waiting, Due,
        Conversation, ShownMessage, Role, ShownPart, Content, ShownCallState, ShownTurn, TurnState, Usage, Totals, Resume,
        Command, Draft, Attachment, NewSession, Origin, Done, Arrange,
        BlobId, WaitingCommand, ActivityState, TailKind, Member, MemberRole,
    );
    let generated = format!("{HEAD}{types}");

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/src/engine/types.gen.ts");
    if std::env::var_os("SKEIN_WRITE_TYPES").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == generated, "web/src/engine/types.gen.ts is not current: its first line says how to write it anew");
}
