//! What a relay is started with, and why it could not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How a relay is set up. `[relay]` of `skein.toml` and the options `--listen` and `--data` end here.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Where it listens; port 0 lets the system pick one.
    pub listen: SocketAddr,
    /// Its data folder, made if missing.
    pub data: PathBuf,
    /// The address at which browsers reach it, if that isn't `listen`.
    pub public_url: Option<String>,
    /// Origins of pages, beyond its own, that may talk to it.
    pub allowed_origins: Vec<String>,
    /// Names under which it may be addressed, beyond IP addresses, `localhost` and `public_url`'s.
    pub allowed_hosts: Vec<String>,
    /// With these it speaks TLS, but for programs on its own machine.
    pub tls: Option<TlsFiles>,
}

/// Where the relay finds its certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM: its certificate, then those up to (and without) a root.
    pub cert: PathBuf,
    /// PEM: the key of the first.
    pub key: PathBuf,
}

impl RelayConfig {
    /// A relay at this address with this data folder, and nothing else allowed.
    pub fn new(listen: SocketAddr, data: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            data: data.into(),
            public_url: None,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            tls: None,
        }
    }
}

/// Why a relay could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The data folder can't be made, read or written.
    #[error("the data folder {} can't be used: {source}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another relay uses the data folder.
    #[error("the data folder {} is in use by another relay", .0.display())]
    Locked(PathBuf),
    /// The port is taken, or may not be used.
    #[error("can't listen on {address}: {}", if source.kind() == io::ErrorKind::AddrInUse { "the port is in use by another program".to_owned() } else { source.to_string() })]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// `public_url`, or one of `allowed_origins`, is no address.
    #[error("\"{0}\" under [relay] must be an address like https://skein.example.org")]
    Address(String),
    /// The certificate or its key can't be used.
    #[error("TLS can't be set up: {}: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file of accounts can't be understood. It is never replaced: it says who everybody is.
    #[error("{} can't be read: {reason}; restore it from a backup, or move it away to start with a new workspace", path.display())]
    Accounts {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The store can't be opened or written.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The workspace could not be set up.
    #[error("the workspace can't be set up: {0}")]
    Workspace(String),
    /// A part of the relay has ended, which none may.
    #[error("the relay's {0} has failed; what was acknowledged is stored")]
    Failed(&'static str),
}
