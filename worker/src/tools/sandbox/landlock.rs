//! The sandbox by Landlock: the kernel lets the process, and whatever it starts, write in the session's folder only, read
//! and execute parts of the system, and signal nobody outside. A seccomp filter takes what Landlock doesn't govern: every
//! socket, leaving the group of processes, and calls that no ordinary program needs.
//!
//! It needs Linux 6.12 (Landlock's sixth version): before it, a command could kill processes of the same user.

use std::collections::BTreeMap;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::{MERGED, SETTINGS, SYSTEM};

/// Devices that do nothing but give or take bytes.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// What is refused. Sockets are made by nobody: a path to one (of a container engine, say) is not a file that is opened,
/// so Landlock alone would let a command connect. A session or group of its own would escape the kill.
const REFUSED: [i64; 24] = [
    libc::SYS_socket,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_io_uring_setup,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
];
/// The bit of calls by x86-64's other numbering, which would pass a filter of the first.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// What a process gives up.
pub struct Rules {
    files: RulesetCreated,
    calls: BpfProgram,
}

impl Rules {
    /// For a command in a folder.
    pub fn new(folder: &Path) -> Result<Self, String> {
        Ok(Self {
            files: files(folder).map_err(|error| error.to_string())?,
            calls: calls().map_err(|error| error.to_string())?,
        })
    }

    /// Takes effect on this thread, and on all that it starts, for ever.
    pub fn apply(self) -> std::io::Result<()> {
        self.files.restrict_self().map_err(std::io::Error::other)?;
        seccompiler::apply_filter(&self.calls).map_err(std::io::Error::other)
    }
}

fn files(folder: &Path) -> Result<RulesetCreated, landlock::RulesetError> {
    let abi = ABI::V6;
    let own = AccessFs::from_all(abi) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let system = SYSTEM.into_iter().chain(MERGED).chain(SETTINGS);
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(system, AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules([folder], own))
}

fn calls() -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.into_iter().map(|call| (call, Vec::new())).collect();
    // A pair of connected sockets is how some programs talk to their children; one of datagrams could be sent from.
    let others = [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET];
    let refused = others.into_iter().map(|kind| {
        let kind = u64::from(kind.cast_unsigned());
        SeccompRule::new(vec![SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(0xf), kind)?])
    });
    rules.insert(libc::SYS_socketpair, refused.collect::<Result<_, _>>()?);
    #[cfg(target_arch = "x86_64")]
    rules.append(&mut rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect());
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}
