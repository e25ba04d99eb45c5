//! Where commands of a model run: with nothing writable but the session's folder, no home, no network, no secret in
//! their environment, within limits, and all gone when they are dropped.
//!
//! In order of reading: [`Sandbox`] below (which of the system's means there is), [`bubblewrap`] and [`landlock`] (the
//! two), [`child`] (what a new process gives up before it runs anything), [`group`] (all processes of a command: watched,
//! counted, killed).
//!
//! Invariant: a sandbox is tried before it is offered; what can't be had whole isn't offered at all.

pub mod bubblewrap;
pub mod child;
pub mod group;
pub mod landlock;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What of the system a command sees besides its folder, read-only. Nothing of it is written by people.
const SYSTEM: [&str; 4] = ["/usr", "/nix/store", "/gnu/store", "/etc/alternatives"];
/// Where programs and libraries are on systems that haven't merged them into `/usr`; links on those that have.
const MERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Of `/etc`, which holds secrets too, what programs need.
const SETTINGS: [&str; 10] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
/// How long the trial may take.
const TRIAL: Duration = Duration::from_secs(5);

/// A means of the operating system that works here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Namespaces of its own, by this program.
    Bubblewrap(PathBuf),
    /// Rules that the kernel holds the process to.
    Landlock,
}

impl Sandbox {
    /// The best that works on this machine, or why there is none.
    pub fn find() -> Result<Self, String> {
        Self::bubblewrap().or_else(|bubblewrap| {
            Self::landlock().map_err(|landlock| format!("bubblewrap: {bubblewrap}; Landlock: {landlock}"))
        })
    }

    /// Bubblewrap, if it is installed and may be used.
    pub fn bubblewrap() -> Result<Self, String> {
        let places = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&places).map(|folder| folder.join("bwrap")).find(|path| path.is_file());
        Self::Bubblewrap(program.ok_or("bwrap is not installed")?).tried()
    }

    /// Landlock, if the kernel has all of it that is needed. Not for root, whom the kernel holds to no limit of processes.
    pub fn landlock() -> Result<Self, String> {
        if rustix::process::geteuid().is_root() {
            return Err("it is used by ordinary users only, not by root".to_owned());
        }
        Self::Landlock.tried()
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bubblewrap(_) => "bubblewrap",
            Self::Landlock => "Landlock",
        }
    }

    /// A shell that runs `script` in a folder, not yet started. Its process leads a group of its own, and dies with the
    /// thread that starts it.
    pub fn shell(&self, folder: &Path, script: &str) -> Result<Command, String> {
        let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
        let mut command = match self {
            Self::Bubblewrap(program) => bubblewrap::command(program, folder),
            Self::Landlock => Command::new(shell),
        };
        command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").env("TERM", "dumb");
        match self {
            Self::Bubblewrap(_) => {
                command.env("HOME", bubblewrap::FOLDER).arg(shell);
                child::confine(&mut command, None);
            }
            Self::Landlock => {
                command.env("HOME", folder).env("TMPDIR", folder).current_dir(folder);
                child::confine(&mut command, Some(landlock::Rules::new(folder)?));
            }
        }
        command.arg("-c").arg(script);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// This, if a command runs in it.
    fn tried(self) -> Result<Self, String> {
        let mut command = self.shell(&std::env::temp_dir(), "exit 42")?;
        command.stdout(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let began = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if began.elapsed() < TRIAL => std::thread::sleep(Duration::from_millis(2)),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err("a trial command did not end".to_owned());
                }
            }
        };
        if status.code() == Some(42) {
            return Ok(self);
        }
        let mut words = String::new();
        if let Some(errors) = child.stderr.take() {
            // What it says in a line or two.
            let _ = std::io::Read::read_to_string(&mut std::io::Read::take(errors, 1000), &mut words);
        }
        Err(format!("a trial command failed: {status} {}", words.trim().replace('\n', " ")))
    }
}
