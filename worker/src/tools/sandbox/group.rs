//! All processes of a command, whoever started them: found in `/proc`, counted, and killed as a whole.
//!
//! A process is of the command if it is in the group of its first one, or its parent is of the command. None escapes:
//! in bubblewrap's namespace orphans are given to the first process in it, and under Landlock none may leave the group.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;

/// The most processes of one command.
pub const PROCESSES: usize = 256;
/// The most bytes of memory that all of them hold.
pub const MEMORY: u64 = 2 << 30;

/// How often it is looked what commands hold.
const LOOK: Duration = Duration::from_millis(50);
/// How much whoever looks stands before others, where it may: of hundreds of processes it should be heard first.
const PRIORITY: i32 = -15;

/// The processes of a command.
#[derive(Debug)]
pub struct Group {
    leader: Pid,
    /// Whether the leader's id may be another's by now.
    over: Mutex<bool>,
}

/// What a command holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Ids of its processes.
    pub processes: HashSet<i32>,
    /// Bytes of memory; what several of them share counts for each.
    pub memory: u64,
}

impl Group {
    /// Of the process that leads it, which must not be waited for before [`Group::end`].
    pub fn of(leader: Pid) -> Self {
        Self { leader, over: Mutex::new(false) }
    }

    /// Kills all of them.
    pub fn kill(&self) {
        self.kill_and(|_| {});
    }

    /// Kills all of them, and never anything again.
    pub fn end(&self) {
        self.kill_and(|over| *over = true);
    }

    fn kill_and(&self, then: impl FnOnce(&mut bool)) {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if !*over {
            // Gone already is as good.
            let _ = rustix::process::kill_process_group(self.leader, Signal::KILL);
        }
        then(&mut over);
    }

    fn is_over(&self) -> bool {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static WATCHED: Mutex<Watched> = Mutex::new(Watched { groups: Vec::new(), looking: false });

/// Groups that are looked after.
struct Watched {
    groups: Vec<(Arc<Group>, oneshot::Sender<String>)>,
    /// Whether a thread does.
    looking: bool,
}

/// Kills a group once it holds more than it may, and then says which limit it passed.
pub fn watch(group: &Arc<Group>) -> std::io::Result<oneshot::Receiver<String>> {
    let (say, said) = oneshot::channel();
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.groups.push((group.clone(), say));
    if !watched.looking {
        std::thread::Builder::new().name("commands".into()).spawn(look_after)?;
        watched.looking = true;
    }
    Ok(said)
}

fn look_after() {
    // Whoever may not raise it goes without.
    let _ = rustix::process::setpriority_process(None, PRIORITY);
    loop {
        std::thread::sleep(LOOK);
        let all = processes();
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        for (group, say) in std::mem::take(&mut watched.groups) {
            if group.is_over() {
                continue;
            }
            match held(&all, group.leader.as_raw_nonzero().get()).excess() {
                Some(excess) => {
                    let _ = say.send(excess);
                    group.kill();
                }
                None => watched.groups.push((group, say)),
            }
        }
        if watched.groups.is_empty() {
            watched.looking = false;
            return;
        }
    }
}

impl Held {
    /// Which limit is passed, in words.
    pub fn excess(&self) -> Option<String> {
        if self.processes.len() > PROCESSES {
            Some(format!("it had more than {PROCESSES} processes"))
        } else if self.memory > MEMORY {
            Some(format!("it used more than {} MiB of memory", MEMORY >> 20))
        } else {
            None
        }
    }
}

/// One process, of `/proc/PID/stat`.
struct Process {
    parent: i32,
    group: i32,
    memory: u64,
}

fn held(all: &HashMap<i32, Process>, leader: i32) -> Held {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (id, process) in all {
        children.entry(process.parent).or_default().push(*id);
    }
    let mut held = Held::default();
    let mut found: Vec<i32> =
        all.iter().filter(|(id, process)| **id == leader || process.group == leader).map(|(id, _)| *id).collect();
    while let Some(id) = found.pop() {
        if held.processes.insert(id) {
            held.memory += all.get(&id).map_or(0, |process| process.memory);
            found.extend(children.remove(&id).unwrap_or_default());
        }
    }
    held
}

fn processes() -> HashMap<i32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    // First all of them, then what they are: reading may be slower than forking, and a bomb would never be counted to its end.
    let ids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // One that is gone by now is none.
    let read = |id: i32| read(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?);
    ids.into_iter().filter_map(|id| Some((id, read(id)?))).collect()
}

/// `1234 (any name) S 1 1234 …`: the 3rd field is the state, the 24th the pages in memory. A zombie is none.
fn read(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let pages: u64 = fields.get(21)?.parse().ok()?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    Some(Process { parent: fields.get(1)?.parse().ok()?, group: fields.get(2)?.parse().ok()?, memory: pages * page })
}
