//! The real binary in folders of its own, with none of the surrounding settings.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A user's folders.
pub struct Home(TempDir);

/// How a command ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

fn run(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Home {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skein"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SKEIN_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_DATA_HOME", self.path("share"))
            .stdin(Stdio::null());
        command
    }

    /// Runs with a replica in `replica`. Nothing listens where the relay is said to be.
    pub fn run(&self, arguments: &[&str]) -> Run {
        let mut command = self.command(arguments);
        run(command.env("SKEIN_DATA", self.path("replica")).env("SKEIN_RELAY", "http://127.0.0.1:1"))
    }

    /// Starts a command like [`Home::run`]; what it prints can be read as it comes.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.env("SKEIN_DATA", self.path("replica")).env("SKEIN_RELAY", "http://127.0.0.1:1");
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs without saying where the replica is.
    pub fn run_without_data(&self, arguments: &[&str]) -> Run {
        run(self.command(arguments).env("SKEIN_RELAY", "http://127.0.0.1:1"))
    }

    /// Runs on another device, whose relay was at this address and is gone.
    pub fn run_elsewhere(&self, arguments: &[&str], relay: &str) -> Run {
        let mut command = self.command(arguments);
        run(command.env("SKEIN_DATA", self.path("elsewhere")).env("SKEIN_RELAY", relay).env("SKEIN_TOKEN", "gone"))
    }

    /// A session with the message "hello".
    pub fn new_session(&self) -> String {
        let made = self.run(&["session", "new", "--message", "hello"]);
        assert_eq!(made.code, 0, "{made:?}");
        made.stdout.trim().to_owned()
    }

    /// Starts `serve` on a free port, with a fast demo model.
    pub fn serve(&self) -> Served<'_> {
        let mut command = self.command(&["serve", "--data", "data", "--listen", "127.0.0.1:0"]);
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut child = command.env("SKEIN_DEMO_SPEED", "2000").stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let after_scheme = line.strip_prefix("http://").or_else(|| line.strip_prefix("https://"));
        let address = after_scheme.and_then(|rest| rest.split('/').next()).map(str::to_owned);
        let address = address.unwrap_or_else(|| panic!("it printed {line:?}"));
        assert!(line.contains("/#/sign-in?code="), "{line:?}");
        Served { home: self, address, child }
    }
}

/// A running `serve`.
pub struct Served<'a> {
    home: &'a Home,
    /// `127.0.0.1:PORT`.
    pub address: String,
    child: Child,
}

impl<'a> Served<'a> {
    fn token(&self) -> String {
        std::fs::read_to_string(self.home.path("data/owner-token")).unwrap().trim().to_owned()
    }

    /// Runs with the replica in this folder.
    pub fn run_with(&self, arguments: &[&str], replica: &str) -> Run {
        let mut command = self.home.command(arguments);
        command
            .env("SKEIN_RELAY", format!("http://{}", self.address))
            .env("SKEIN_TOKEN", self.token())
            .env("SKEIN_DATA", self.home.path(replica));
        run(&mut command)
    }

    /// Runs a command with the replica in `replica`.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, "replica")
    }

    /// Runs a command with another token and a replica of its own.
    pub fn run_as(&self, token: &str, replica: &str, arguments: &[&str]) -> Run {
        let mut command = self.home.command(arguments);
        command
            .env("SKEIN_RELAY", format!("http://{}", self.address))
            .env("SKEIN_TOKEN", token)
            .env("SKEIN_DATA", self.home.path(replica));
        run(&mut command)
    }

    /// Runs a command with the owner's token and these variables.
    pub fn run_with_env(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
        let mut command = self.home.command(arguments);
        command.env("SKEIN_TOKEN", self.token()).env("SKEIN_DATA", self.home.path("replica"));
        run(command.envs(variables.iter().copied()))
    }

    /// Runs a command on another device.
    pub fn run_elsewhere(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, "elsewhere")
    }

    /// Runs a command that is told nothing but the address.
    pub fn run_by_default(&self, arguments: &[&str]) -> Run {
        run(self.home.command(arguments).env("SKEIN_RELAY", format!("http://{}", self.address)))
    }

    /// Ends it; commands go on without.
    pub fn stop(mut self) -> &'a Home {
        self.child.kill().unwrap();
        self.home
    }

    /// Asks it to end: its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(asked.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
