//! Programs that chores call, and where things lie. A program that is missing ends in one sentence that says what to
//! install.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::step::{Failure, Outcome, step};

/// The repository's top folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_owned()
}

/// Where cargo builds the workspace.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A per-user folder that outlives the repository.
pub fn cache() -> Outcome<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .ok_or_else(|| Failure("neither HOME nor XDG_CACHE_HOME is set: set one of them".to_owned()))?;
    Ok(base.join("skein"))
}

/// A command that runs in `directory` (relative to [`root`]).
pub fn command(program: impl AsRef<OsStr>, directory: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root().join(directory));
    command
}

/// The cargo that runs this, for the workspace.
pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), "")
}

/// Runs a command to its end; its output is the terminal's.
pub fn run(command: &mut Command) -> Outcome {
    let status = command.stdin(Stdio::null()).status().map_err(|error| cannot_start(command, &error))?;
    if status.success() { Ok(()) } else { Err(Failure(format!("{} ended with {status}", shown(command)))) }
}

/// Runs a command and returns what it printed.
pub fn read(command: &mut Command) -> Outcome<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| cannot_start(command, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure(format!("{} ended with {}: {}", shown(command), output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a program answers to `--version`.
pub fn has(program: &str) -> bool {
    let quiet = |stream: &mut Command| stream.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status();
    quiet(Command::new(program).arg("--version")).is_ok_and(|status| status.success())
}

/// Ends unless Node.js 20 or later is here.
pub fn need_node() -> Outcome {
    let version = read(Command::new("node").arg("--version"))?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(20..) => Ok(()),
        _ => Err(Failure(format!(
            "the web client needs Node.js 20 or later, and this is {version}: install a newer one"
        ))),
    }
}

/// Installs Debian packages, or says how.
pub fn apt_install(what_for: &str, packages: &[&str]) -> Outcome {
    let how = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !has("apt-get") {
        return Err(Failure(format!("{what_for} is missing; on Debian it comes by `{how}`: install its like here")));
    }
    if read(Command::new("id").arg("-u"))? != "0" {
        return Err(Failure(format!("{what_for} is missing: run `sudo {how}`, then this command again")));
    }
    step(&format!("installing {what_for} ({how})"), || {
        run(Command::new("apt-get").args(["-qq", "update"]))?;
        run(Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "install", "-y", "--no-install-recommends"])
            .args(packages)
            .stdout(Stdio::null()))
    })
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Failure {
    let program = command.get_program().to_string_lossy().into_owned();
    if error.kind() != ErrorKind::NotFound {
        return Failure(format!("{program} could not be started: {error}"));
    }
    let how = match program.as_str() {
        "node" | "npm" | "npx" => "install Node.js 20 or later with npm (on Debian: apt-get install nodejs npm)",
        "rustup" | "cargo" | "rustc" => "install Rust with rustup (https://rustup.rs)",
        "python3" => "install Python 3 (on Debian: apt-get install python3 python3-venv)",
        _ => "install it",
    };
    Failure(format!("{program} is not here: {how}, then run this again"))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
