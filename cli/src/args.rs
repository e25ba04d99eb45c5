//! The command line's grammar. Names and options are an interface that others script against.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Skein: a self-hosted, local-first home for AI-agent sessions.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 waiting timed out.
#[derive(Debug, Parser)]
#[command(name = "skein", version, disable_help_subcommand = true)]
pub(crate) struct Skein {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run relay and worker in one process, and serve the web client.
    ///
    /// Prints one line on standard output: the address that signs a browser in. It is good once, for ten minutes.
    Serve(ServeArgs),
    /// Run a relay: sync, storage, the web client; no worker.
    ///
    /// Prints one line on standard output: the address that signs a browser in. It is good once, for ten minutes.
    Relay(ServeArgs),
    /// Run a worker: it answers the sessions of a relay.
    Worker(WorkerArgs),
    /// Work with sessions, also without a connection.
    Session(SessionArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Folder of the relay's data.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) data: PathBuf,
    /// Where to listen; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7700")]
    pub(crate) listen: SocketAddr,
    /// Settings: models, prices, tools [default: ./skein.toml, if it is there].
    #[arg(long, value_name = "FILE", env = "SKEIN_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// What the default agent uses; beats the settings.
    #[arg(long, value_name = "PROVIDER/MODEL", env = "SKEIN_MODEL")]
    pub(crate) model: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The relay's address.
    #[arg(long, value_name = "URL", env = "SKEIN_RELAY", default_value = "http://127.0.0.1:7700")]
    pub(crate) relay: String,
    /// A worker's token.
    #[arg(long, value_name = "T", env = "SKEIN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Settings: models, prices, tools [default: ./skein.toml, if it is there].
    #[arg(long, value_name = "FILE", env = "SKEIN_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// What the default agent uses; beats the settings.
    #[arg(long, value_name = "PROVIDER/MODEL", env = "SKEIN_MODEL")]
    pub(crate) model: Option<String>,
}

/// Which relay, who we are to it, and where our own replica is.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The relay's address.
    #[arg(long, global = true, value_name = "URL", env = "SKEIN_RELAY", default_value = "http://127.0.0.1:7700")]
    pub(crate) relay: String,
    /// A token of that relay [default: the one that `skein serve` left for this user].
    #[arg(long, global = true, value_name = "T", env = "SKEIN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Folder of this device's replica [default: one per workspace, in $XDG_DATA_HOME/skein/replica].
    #[arg(long, global = true, value_name = "DIR", env = "SKEIN_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Don't connect; work on the replica alone.
    #[arg(long, global = true)]
    pub(crate) offline: bool,
}

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
    New {
        /// Its name.
        #[arg(long, value_name = "N")]
        name: Option<String>,
        /// Who answers, by id or name [default: the workspace's default agent].
        #[arg(long, value_name = "A")]
        agent: Option<String>,
        /// The first message.
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
        /// Print {"id": …}.
        #[arg(long)]
        json: bool,
    },
    /// Send a message; prints its id.
    Send {
        /// The session.
        id: String,
        /// The message.
        text: String,
        /// Queue it behind a call that waits for a decision, instead of overtaking it.
        #[arg(long)]
        queue: bool,
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
    /// Follow a session as it is written, until Ctrl-C.
    Tail {
        /// The session.
        id: String,
    },
    /// Stop the turn that is streaming; what came is kept.
    Pause(One),
    /// Go on with the turn that was stopped.
    Continue(One),
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
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Give a session a name.
    Rename {
        /// The session.
        id: String,
        /// 1 to 200 characters.
        name: String,
    },
    /// Take a session out of the list; it still answers.
    Archive(One),
    /// Bring a session back from the archive.
    Restore(One),
    /// Have a message answered again.
    Retry {
        /// The session.
        id: String,
        /// The message, or its answer [default: the last].
        message: Option<String>,
    },
    /// Take back a message that is still queued.
    Remove {
        /// The session.
        id: String,
        /// The message.
        message: String,
    },
    /// Print a session as a document.
    Export {
        /// The session.
        id: String,
        /// As what.
        #[arg(long, value_enum, default_value_t = Format::Markdown)]
        format: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The session.
    pub(crate) id: String,
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
