//! The binary under test, as a process of its own: started on a port that the system picks, with every folder in a
//! temporary one, ended when it is dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::raw::http;
use crate::{PATIENCE, within, within_time};

/// The binary: `SKEIN_BIN`, else what `cargo xtask build` made.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SKEIN_BIN") {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let built = ["release/skein", "debug/skein"].map(|name| target.join(name));
    let newest =
        built.into_iter().filter(|path| path.is_file()).max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    newest.unwrap_or_else(|| panic!("there is no skein in {}: run `cargo xtask build` first", target.display()))
}

/// A user's folders: data, configuration, state. It outlives the processes that run in it.
#[derive(Clone)]
pub struct Home {
    folder: Arc<TempDir>,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// An empty one.
    pub fn new() -> Self {
        Self { folder: Arc::new(TempDir::with_prefix("skein-test-").unwrap()) }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, such as `skein.toml`.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The binary, with this user's folders and none of the surrounding settings.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("SKEIN_") || name.ends_with("_API_KEY") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_DATA_HOME", self.path("share"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs the binary to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        within(&format!("skein {}", arguments.join(" ")), self.command().args(arguments).output()).await.unwrap()
    }

    /// Starts `serve` on a free port.
    pub async fn serve(&self) -> Skein {
        self.start("serve", "127.0.0.1:0").await
    }

    /// Starts `serve` or `relay`, and waits for the address that signs a browser in.
    pub async fn start(&self, verb: &str, listen: &str) -> Skein {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("skein.log")).unwrap();
        let mut command = self.command();
        command.args([verb, "--data"]).arg(self.path("data")).args(["--listen", listen]);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let sign_in = loop {
            match within("the start of skein", lines.next_line()).await.unwrap() {
                Some(line) if line.starts_with("http://") => break line,
                Some(_) => {}
                None => panic!("skein {verb} ended before it served; it said:\n{}", self.log()),
            }
        };
        let address = sign_in.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap();
        Skein { home: self.clone(), child, _lines: lines, address, sign_in }
    }

    /// What its processes said on standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("skein.log")).unwrap_or_default()
    }
}

/// A running `serve` or `relay`.
pub struct Skein {
    /// Its folders.
    pub home: Home,
    /// Where it listens.
    pub address: SocketAddr,
    /// The address that signs a browser in.
    pub sign_in: String,
    child: Child,
    // Kept open: a process that prints into a closed pipe would be ended by it.
    _lines: Lines<BufReader<ChildStdout>>,
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// The most so far.
    pub peak: u64,
}

impl Skein {
    /// The owner's token.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.home.path("data/owner-token")).unwrap().trim().to_owned()
    }

    /// `http://…` with `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The address for clients that know only an address.
    pub fn sync_url(&self) -> String {
        format!("ws://{}/sync?access_token={}", self.address, self.token())
    }

    /// The command line as the owner, with a replica of its own.
    pub fn command(&self) -> Command {
        let mut command = self.home.command();
        command
            .env("SKEIN_RELAY", self.url(""))
            .env("SKEIN_TOKEN", self.token())
            .env("SKEIN_DATA", self.home.path("replica"));
        command
    }

    /// Runs `skein session …` as the owner; it must succeed. Returns what it printed.
    pub async fn session(&self, arguments: &[&str]) -> String {
        self.session_within(PATIENCE, arguments).await
    }

    /// The same with a limit of its own.
    pub async fn session_within(&self, limit: Duration, arguments: &[&str]) -> String {
        let shown = format!("skein session {}", arguments.join(" "));
        let output = self.command().arg("session").args(arguments).output();
        let output = within_time(limit, &shown, output).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{shown} ended with {}: {said}\nserver: {}", output.status, self.home.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same with `--json`.
    pub async fn session_json(&self, arguments: &[&str]) -> Value {
        let printed = self.session(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error} in {printed}"))
    }

    /// A token for workers elsewhere.
    pub async fn worker_token(&self) -> String {
        let bearer = format!("Authorization: Bearer {}", self.token());
        let headers = [bearer.as_str(), "Content-Type: application/json"];
        let wish = b"{\"name\": \"a worker elsewhere\", \"kind\": \"worker\"}";
        let answer = http(self.address, "POST", "/tokens", &headers, wish).await;
        assert_eq!(answer.status, 201, "{}", answer.head);
        let minted: Value = serde_json::from_slice(&answer.body).unwrap();
        minted["token"].as_str().unwrap().to_owned()
    }

    /// Starts a worker of this relay.
    pub fn worker(&self, token: &str) -> Child {
        let mut command = self.home.command();
        command.args(["worker", "--relay", &self.url(""), "--token", token]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The sessions as `GET /sessions` lists them.
    pub async fn listed(&self) -> Vec<Value> {
        let bearer = format!("Authorization: Bearer {}", self.token());
        let answer = http(self.address, "GET", "/sessions", &[&bearer], b"").await;
        assert_eq!(answer.status, 200, "{}", answer.head);
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Its memory, as Linux counts it.
    pub fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let bytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
        };
        Memory { resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
    }

    /// Waits until its memory is below `bytes`, for at most 20 s, and says whether it came to that.
    pub async fn memory_falls_below(&self, bytes: u64) -> bool {
        for _ in 0..100 {
            if self.memory().resident < bytes {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        false
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it with SIGKILL.
    pub async fn kill(mut self) -> Home {
        self.child.kill().await.unwrap();
        self.home.clone()
    }

    /// Asks it to end with SIGTERM, and waits.
    pub async fn terminate(mut self) -> (Home, ExitStatus) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").arg(pid).status().await.unwrap().success());
        let status = within("a clean end", self.child.wait()).await.unwrap();
        (self.home.clone(), status)
    }

    /// Ends it with SIGKILL and starts it again on the same port.
    pub async fn crash_and_restart(self) -> Self {
        let listen = self.address.to_string();
        self.kill().await.start("serve", &listen).await
    }
}
