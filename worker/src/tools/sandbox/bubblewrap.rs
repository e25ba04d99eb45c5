//! The sandbox by bubblewrap: a root of its own with nothing in it but parts of the system (read-only) and the session's
//! folder, and namespaces of its own for processes, network, users and the rest. When its first process dies, all do.

use std::path::Path;
use std::process::Command;

use super::{MERGED, SETTINGS, SYSTEM};
use crate::tools::folder;

/// Where the session's folder stands within.
pub const FOLDER: &str = folder::SHOWN;
/// The most bytes in `/tmp` and in `/dev/shm`, which are memory.
const TEMPORARY: u64 = 256 << 20;

/// Bubblewrap with all of its arguments; what is to run comes after.
pub fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    // Of a worker that runs as root, the rights within its namespaces are dropped too: they could undo what is read-only.
    command.args(["--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]);
    for path in SYSTEM.into_iter().chain(SETTINGS) {
        command.args(["--ro-bind-try", path, path]);
    }
    for path in MERGED {
        match std::fs::read_link(path) {
            Ok(target) => command.arg("--symlink").arg(target).arg(path),
            Err(_) => command.args(["--ro-bind-try", path, path]),
        };
    }
    let size = TEMPORARY.to_string();
    // The settings of the kernel in it could be written by root, even without rights.
    command.args(["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]);
    command.args(["--size", &size, "--tmpfs", "/dev/shm", "--size", &size, "--tmpfs", "/tmp"]);
    command.arg("--bind").arg(folder).args([FOLDER, "--remount-ro", "/", "--chdir", FOLDER, "--"]);
    command
}
