//! The grammar of `skein session …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::args::Place;
use crate::value::{Maybe, Usd, pair};

#[derive(Debug, Args)]
pub(crate) struct SessionArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) session: Session,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// Begin a session; prints its id.
    New(New),
    /// Send a message; prints its id.
    Send(Send),
    /// Say something else instead of a message; prints the new one's id.
    ///
    /// What was answered after it is hidden, and answered anew. A message that still waits keeps its place.
    Edit {
        /// The session.
        id: String,
        /// The message, as `show --json` names it.
        message: String,
        /// The new words.
        text: String,
        /// Drop one of its attachments, counted from 1; the others stay.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        detach: Vec<u64>,
    },
    /// Take back a message that is still queued.
    Remove {
        /// The session.
        id: String,
        /// The message.
        message: String,
    },
    /// Have a queued message read at the next tool call of the turn that is streaming.
    Steer {
        /// The session.
        id: String,
        /// The message.
        message: String,
    },
    /// Leave an attachment or a tool result out of what models are sent.
    Omit {
        /// The session.
        id: String,
        /// The message.
        message: String,
        /// The part's `index`, as `show --json` gives it.
        part: u64,
    },
    /// Wait until nothing is queued and the session has one of the named states.
    Wait {
        /// The session.
        id: String,
        /// States to wait for [default: any but streaming].
        #[arg(long, value_name = "STATES", value_delimiter = ',')]
        until: Vec<Until>,
        /// Give up after so long, with exit code 3 [default: never].
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<f64>,
        /// Print the summary as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List sessions.
    List {
        /// Those in the archive.
        #[arg(long)]
        archived: bool,
        /// Those that are deleted, until they are purged.
        #[arg(long, conflicts_with = "archived")]
        deleted: bool,
        /// Print a list of summaries as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a session: its conversation, usage and cost.
    Show {
        /// The session.
        id: String,
        /// Print the summary with messages and turns as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List commands that wait for their sessions to come to this device, and those that could not be done.
    Waiting {
        /// Let this one go.
        #[arg(long, value_name = "ID")]
        drop: Vec<String>,
        /// Print a list of commands as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make room on this device: keep recent and pinned sessions, and what is not sent yet.
    Gc {
        /// At most so many sessions, the latest, and the pinned ones besides.
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
        sessions: u32,
        /// Print {"kept": …, "dropped": […], …}.
        #[arg(long)]
        json: bool,
    },
    /// Follow a session as it is written, until Ctrl-C.
    Tail {
        /// The session.
        id: String,
    },
    /// Stop the turn that is streaming; what came is kept.
    Pause(Many),
    /// Go on with the turn that was stopped.
    Continue(Many),
    /// Let a tool call run.
    Approve {
        /// The session.
        id: String,
        /// The call, as `show` names it.
        call: String,
        /// Later calls of the same tool too.
        #[arg(long)]
        for_session: bool,
    },
    /// Refuse a tool call.
    Deny {
        /// The session.
        id: String,
        /// The call, as `show` names it.
        call: String,
        /// Told to the model.
        #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
        reason: Option<String>,
    },
    /// Have a message answered again.
    Retry {
        /// The session.
        id: String,
        /// The message, or its answer [default: the last].
        message: Option<String>,
    },
    /// Give a session a name.
    Rename {
        /// The session.
        id: String,
        /// 1 to 200 characters.
        name: String,
    },
    /// Have the agent find a name, instead of the one that a person gave.
    SmartRename(Many),
    /// Let another agent answer from the next turn on.
    Agent {
        /// The session.
        id: String,
        /// The agent, by id or name.
        agent: String,
    },
    /// Set what all turns of a session may cost together.
    Limit {
        /// The session.
        id: String,
        /// Dollars, such as 2.50, or none.
        #[arg(value_name = "USD|none")]
        limit: Maybe<Usd>,
    },
    /// Copy a session; prints the copy's id.
    Duplicate {
        /// The session.
        id: String,
        /// Up to and with this message [default: the last one that isn't queued].
        #[arg(long, value_name = "MESSAGE")]
        at: Option<String>,
        /// Print {"id": …}.
        #[arg(long)]
        json: bool,
    },
    /// Save a session as it is on this device, with what the relay refused, as a new one; prints the copy's id.
    Copy {
        /// The session.
        id: String,
        /// Print {"id": …}.
        #[arg(long)]
        json: bool,
    },
    /// Let go of what the relay refused of a session: it is gone from this device, and can't be had back.
    Discard {
        /// The session.
        id: String,
    },
    /// Move a session in your own list.
    Move {
        /// The session.
        id: String,
        /// To before this one.
        #[arg(long, value_name = "ID", required_unless_present = "last")]
        before: Option<String>,
        /// To the end.
        #[arg(long, conflicts_with = "before")]
        last: bool,
    },
    /// Pin sessions in your own list.
    Pin(Many),
    /// Unpin sessions.
    Unpin(Many),
    /// Take sessions out of the list; they still answer.
    Archive(Many),
    /// Bring sessions back from the archive, to the end of the list.
    Restore(Many),
    /// Delete sessions: they start nothing, and what runs is stopped. `undelete` brings them back until they are purged.
    Delete(Many),
    /// Undo `delete`.
    Undelete(Many),
    /// Have the relay drop deleted sessions for everyone and for good. The sums of what they spent stay.
    Purge(Many),
    /// Mark sessions as read, on all of one's devices.
    Read(Many),
    /// Print a session as a document.
    Export {
        /// The session.
        id: String,
        /// As what.
        #[arg(long, value_enum, default_value_t = Format::Markdown)]
        format: Format,
    },
    /// Make a session of an export as JSON. What it shows is in it, its costs are not counted again.
    Import {
        /// The file; `-` reads standard input.
        file: PathBuf,
        /// Print {"id": …}.
        #[arg(long)]
        json: bool,
    },
}

/// How a session begins.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// Its name.
    #[arg(long, value_name = "N")]
    pub(crate) name: Option<String>,
    /// Who answers, by id or name [default: the workspace's default agent].
    #[arg(long, value_name = "A")]
    pub(crate) agent: Option<String>,
    /// The first message.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "action")]
    pub(crate) message: Option<String>,
    /// The action that makes the first message, by id or name.
    #[arg(long, value_name = "A")]
    pub(crate) action: Option<String>,
    /// What a placeholder of the action is filled with.
    #[arg(long, value_name = "K=V", value_parser = pair, requires = "action")]
    pub(crate) set: Vec<(String, String)>,
    /// Print {"id": …}.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A message.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The session.
    pub(crate) id: String,
    /// The message; may be "" if something is attached.
    pub(crate) text: String,
    /// A file that goes with it; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub(crate) attach: Vec<PathBuf>,
    /// Queue it behind a call that waits for a decision, instead of overtaking it.
    #[arg(long)]
    pub(crate) queue: bool,
}

/// One session or several. What fails for one is done for the others all the same.
#[derive(Debug, Args)]
pub(crate) struct Many {
    /// The sessions.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
}

/// What `wait` waits for; in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lowercase")]
pub(crate) enum Until {
    #[value(alias = "ACTIVE", alias = "Active")]
    Active,
    #[value(alias = "STREAMING", alias = "Streaming")]
    Streaming,
    #[value(alias = "PAUSED", alias = "Paused")]
    Paused,
    #[value(alias = "FAILED", alias = "Failed")]
    Failed,
    #[value(alias = "ARCHIVED", alias = "Archived")]
    Archived,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lowercase")]
pub(crate) enum Format {
    Markdown,
    Json,
}
