//! The command line's grammar. Names and options are an interface that others script against.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::action::ActionArgs;
use crate::admin::AdminArgs;
use crate::agent::AgentArgs;
use crate::approvals::ApprovalsArgs;
use crate::integration::IntegrationArgs;
use crate::member::MemberArgs;
use crate::pair::PairArgs;
use crate::session::args::SessionArgs;
use crate::task::TaskArgs;
use crate::token::TokenArgs;
use crate::workspace::WorkspaceArgs;

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
    /// What waits for a person: tool calls that ask, in all sessions.
    Approvals(ApprovalsArgs),
    /// Who answers: models, instructions, tools and limits.
    Agent(AgentArgs),
    /// Messages that are used again and again, with placeholders.
    Action(ActionArgs),
    /// The tool servers of the workspace, and what may run without asking. Workers don't use them yet.
    Integration(IntegrationArgs),
    /// What agents do again and again: kept, shown and computed; workers don't run them yet.
    Task(TaskArgs),
    /// Ask for messages, tool calls, runs and costs of the whole workspace.
    Query(crate::query::QueryArgs),
    /// Set two sessions side by side.
    Compare(crate::compare::CompareArgs),
    /// Who is in the workspace, and what they may do.
    Member(MemberArgs),
    /// What lets devices, workers and tools in.
    Token(TokenArgs),
    /// Sign another device in: prints an address, good once, for ten minutes, and its QR code.
    Pair(PairArgs),
    /// The workspaces of a relay.
    Workspace(WorkspaceArgs),
    /// Check and mend a relay's data folder while no relay runs on it.
    Admin(AdminArgs),
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
    /// The address at which browsers reach the relay, if that isn't where it listens; beats the settings.
    #[arg(long, value_name = "URL", env = "SKEIN_PUBLIC_URL")]
    pub(crate) public_url: Option<String>,
    /// Its certificate, in PEM: then it speaks TLS; beats the settings.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's key, in PEM; beats the settings.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
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
#[command(next_help_heading = "Where")]
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
