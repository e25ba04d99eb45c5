//! Where a person's command works: which relay, with which token, on which replica; and what `serve` leaves behind so
//! that none of it has to be given.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use skein_client::{Client, ClientConfig, Link};
use skein_engine::device::Keeps;
use skein_engine::ids::DocumentId;

use crate::args::Place;
use crate::failure::Failure;
use crate::print;

/// A relay that can't be reached within this time is taken for absent.
const PATIENCE: Duration = Duration::from_secs(2);
/// One that is just answering is given this time more: it is there, but busy.
const MORE_PATIENCE: Duration = Duration::from_secs(8);

/// A replica, and whether its relay is there.
pub(crate) struct Opened {
    pub(crate) client: Client,
    pub(crate) connected: bool,
}

impl Place {
    /// The token to come in with: as given, else the one that `serve` left.
    pub(crate) fn token(&self) -> Option<String> {
        self.token.clone().or_else(|| Kept::of(&self.relay).as_ref().and_then(Kept::token))
    }

    /// Opens the replica, and connects if the relay answers soon; otherwise says so.
    pub(crate) async fn open(&self) -> Result<Opened, Failure> {
        let kept = Kept::of(&self.relay);
        let token = self.token.clone().or_else(|| kept.as_ref().and_then(Kept::token));
        let data = match &self.data {
            Some(data) => data.clone(),
            None => self.replica(kept.as_ref(), token.as_deref()).await?,
        };
        let tokenless = token.is_none();
        let offline = self.offline || tokenless;
        let client = Client::open(ClientConfig {
            relay: self.relay.clone(),
            token,
            data: Some(data.clone()),
            keeps: Keeps::Opened,
            offline,
        })
        .await?;
        let mut link = client.connected(PATIENCE).await;
        if link.is_err() && client.link() == Link::Connecting {
            link = client.connected(MORE_PATIENCE).await;
        }
        let connected = match link {
            Ok(()) => true,
            Err(problem) if problem.is_final && !offline => return Err(problem.into()),
            Err(problem) => {
                let why = match (self.offline, tokenless) {
                    (true, _) => "as asked".to_owned(),
                    (false, true) => format!("no token is known for {}", self.relay),
                    (false, false) => problem.sentence,
                };
                print::remark(&format!("offline ({why}): working on the replica in {}", data.display()));
                false
            }
        };
        Ok(Opened { client, connected })
    }

    /// The replica of the relay's workspace.
    async fn replica(&self, kept: Option<&Kept>, token: Option<&str>) -> Result<PathBuf, Failure> {
        let home = folder("XDG_DATA_HOME", ".local/share")
            .ok_or_else(|| Failure::new("there is no home folder to keep the replica in: give --data"))?;
        let workspace = match kept.and_then(Kept::workspace) {
            Some(workspace) => workspace,
            None if token.is_none() => {
                let relay = &self.relay;
                return Err(Failure::new(format!(
                    "no token is known for {relay}: start `skein serve` on this machine, or give --token"
                )));
            }
            None if self.offline => {
                return Err(Failure::new("this device has never met that relay: connect once, or give --data"));
            }
            None => {
                let workspace = skein_client::workspace_of(&self.relay, token).await?;
                if let Some(kept) = kept {
                    kept.keep_workspace(workspace).map_err(|error| Failure::new(error.to_string()))?;
                }
                workspace
            }
        };
        Ok(home.join("skein/replica").join(workspace.to_string()))
    }
}

/// The files of one relay in `$XDG_STATE_HOME/skein/tokens`.
pub(crate) struct Kept {
    token: PathBuf,
    workspace: PathBuf,
}

impl Kept {
    /// Of a relay's address; `None` without a home folder.
    pub(crate) fn of(relay: &str) -> Option<Self> {
        let folder = folder("XDG_STATE_HOME", ".local/state")?.join("skein/tokens");
        let name = name(relay);
        Some(Self { token: folder.join(&name), workspace: folder.join(format!("{name}.workspace")) })
    }

    fn token(&self) -> Option<String> {
        let token = fs::read_to_string(&self.token).ok()?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    }

    fn workspace(&self) -> Option<DocumentId> {
        fs::read_to_string(&self.workspace).ok()?.trim().parse().ok()
    }

    fn keep_workspace(&self, workspace: DocumentId) -> io::Result<()> {
        write(&self.workspace, &workspace.to_string())
    }

    /// Leaves the token and the workspace of a relay for this user's commands.
    pub(crate) fn keep(&self, token: &str, workspace: DocumentId) -> io::Result<()> {
        write(&self.token, token)?;
        self.keep_workspace(workspace)
    }
}

/// Writes a file that nobody else may read, whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut next = path.as_os_str().to_owned();
    next.push(".new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)
}

/// `ADDR:PORT` of a relay, as a file's name.
fn name(relay: &str) -> String {
    let (scheme, rest) = relay.trim().split_once("://").unwrap_or(("http", relay.trim()));
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.to_owned()),
        _ => (authority, if matches!(scheme, "https" | "wss") { "443" } else { "80" }.to_owned()),
    };
    // What listens on all addresses, or by the name of this machine, is reached as the loopback.
    let host = match host {
        "localhost" | "0.0.0.0" | "[::]" | "[::1]" => "127.0.0.1",
        host => host,
    };
    format!("{host}:{port}")
}

fn folder(variable: &str, in_home: &str) -> Option<PathBuf> {
    let given = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    given.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(in_home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_has_one_name_however_it_is_written() {
        for relay in ["http://127.0.0.1:7700", "127.0.0.1:7700", "ws://localhost:7700/", "http://0.0.0.0:7700"] {
            assert_eq!(name(relay), "127.0.0.1:7700", "{relay}");
        }
        assert_eq!(name("https://skein.example.org/"), "skein.example.org:443");
        assert_eq!(name("http://[::1]:7700"), "127.0.0.1:7700");
    }
}
