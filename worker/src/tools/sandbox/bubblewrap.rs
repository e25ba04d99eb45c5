//! The sandbox by bubblewrap: a root of its own with nothing in it but parts of the system (read-only) and the session's
//! folder, and namespaces of its own for processes, network, users and the rest. When its first process dies, all do.
//!
//! Of a worker that runs as root, commands run as nobody: the kernel holds root to no limit of processes, and lets it
//! write its own settings whatever rights it has given up. The folder then belongs to nobody, too.

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
    let as_root = rustix::process::geteuid().is_root();
    command.args(["--die-with-parent", "--cap-drop", "ALL"]);
    if as_root {
        command.args(["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]);
        // To go into nobody's folder, and to become nobody, which ends them.
        for right in ["CAP_DAC_READ_SEARCH", "CAP_SETUID", "CAP_SETGID"] {
            command.args(["--cap-add", right]);
        }
    } else {
        command.arg("--unshare-all");
    }
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
    command.args(["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]);
    for temporary in ["/dev/shm", "/tmp"] {
        command.args(["--perms", "1777", "--size", &size, "--tmpfs", temporary]);
    }
    command.arg("--bind").arg(folder).args([FOLDER, "--remount-ro", "/", "--chdir", FOLDER, "--"]);
    if as_root {
        let nobody = folder::NOBODY.to_string();
        command.args(["setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--inh-caps=-all", "--"]);
    }
    command
}
