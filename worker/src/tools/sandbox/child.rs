//! What a new process gives up between its start and the program that it becomes: its parent's group, its parent's long
//! life, memory and files without end, and, under Landlock, most of the system.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal};

use super::landlock::Rules;

/// The most bytes of memory of one process that it can write to. All of a command's together: [`super::group::MEMORY`].
const MEMORY: u64 = super::group::MEMORY;
/// The most bytes of one file.
const FILE: u64 = 1 << 30;
/// The most open files of one process.
const OPEN_FILES: u64 = 1_024;
/// How many more processes and threads the user may have than the whole system has now: the kernel's own limit, for what
/// is faster than whoever looks at [`super::group::PROCESSES`]. It counts all of the user's, so that it can't be lower.
const THREADS: u64 = 4_096;
/// How much it stands back behind others.
const NICE: i32 = 19;

/// Makes a command do all of this when it is started.
#[allow(unsafe_code)]
pub fn confine(command: &mut Command, rules: Option<Rules>) {
    let threads = threads_of_the_system() + THREADS;
    let mut rules = rules;
    let confine = move || give_up(&mut rules, threads);
    // SAFETY: between fork and exec of a process with several threads only calls that take no lock are safe. `give_up`
    // makes system calls on values that were made before the fork.
    unsafe { command.pre_exec(confine) };
}

fn give_up(rules: &mut Option<Rules>, threads: u64) -> io::Result<()> {
    rustix::process::setsid()?;
    // With the thread that started it: the tools are driven by threads that live as long as the worker.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::nice(NICE)?;
    lower(Resource::Core, 0)?;
    lower(Resource::Data, MEMORY)?;
    lower(Resource::Fsize, FILE)?;
    lower(Resource::Nofile, OPEN_FILES)?;
    lower(Resource::Nproc, threads)?;
    if let Some(rules) = rules.take() {
        // What it starts can't win any rights.
        rustix::thread::set_no_new_privs(true)?;
        rules.apply()?;
    }
    Ok(())
}

/// Lowers a limit; one that is lower already stays.
fn lower(resource: Resource, most: u64) -> io::Result<()> {
    let most = rustix::process::getrlimit(resource).maximum.map_or(most, |before| before.min(most));
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

/// As `/proc/loadavg` counts them: `0.00 0.01 0.05 1/412 7077`.
fn threads_of_the_system() -> u64 {
    let loads = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let count = loads.split_whitespace().nth(3).and_then(|counts| counts.split_once('/')?.1.parse().ok());
    count.unwrap_or(4_096)
}
