//! Commands of a model, run for real in each sandbox that this machine has: what they can reach, what they may use, and
//! that they are gone when nobody waits for them. Bubblewrap must be here; Landlock where the kernel has it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use skein_engine::ids::DocumentId;
use skein_worker::tools::folder::{Folder, Folders};
use skein_worker::tools::run::Run;
use skein_worker::tools::sandbox::Sandbox;
use skein_worker::tools::{Outcome, Output, Tool};

/// Set by whoever can't have a sandbox on their machine, so that nobody goes without one unknowingly.
const WITHOUT: &str = "SKEIN_TESTS_WITHOUT_SANDBOX";

struct Stage {
    run: Run,
    folder: Folder,
    root: tempfile::TempDir,
}

/// A stage in each sandbox. Root has one only: what the other is like for ordinary users, one test runs all others for.
fn stages() -> Vec<Stage> {
    let mut found = vec![("bubblewrap", Sandbox::bubblewrap())];
    if !is_root() {
        found.push(("Landlock", Sandbox::landlock()));
    }
    let sandboxes = found.into_iter().filter_map(|(name, found)| match found {
        Ok(sandbox) => Some(sandbox),
        Err(why) if std::env::var_os(WITHOUT).is_some() => {
            eprintln!("{name}: skipped, {why}");
            None
        }
        Err(why) => panic!("{name} doesn't work here: {why}. Install it, or set {WITHOUT} to go without it"),
    });
    let stage = |sandbox| {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("secret"), "outside").unwrap();
        let folder = Folders::new(root.path().join("work")).of(DocumentId::from_bytes([1; 16]));
        folder.open().unwrap();
        Stage { run: Run { sandbox, folder: folder.clone() }, folder, root }
    };
    sandboxes.map(stage).collect()
}

impl Stage {
    fn name(&self) -> &'static str {
        self.run.sandbox.name()
    }

    async fn run(&self, script: &str) -> Outcome {
        self.run_for(script, 20, &Output::default()).await
    }

    async fn run_for(&self, script: &str, seconds: u64, output: &Output) -> Outcome {
        let input = serde_json::json!({ "command": script, "timeout": seconds }).to_string();
        self.run.run(&input, output).await
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A number of seconds that stands in no command line but this process's own.
fn seconds(whole: u32) -> String {
    format!("{whole}.{}", std::process::id())
}

/// Processes whose command line has this word, found from outside.
fn processes_with(word: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let lines = ids.filter_map(|id| std::fs::read_to_string(format!("/proc/{id}/cmdline")).ok());
    lines.map(|line| line.replace('\0', " ")).filter(|line| line.contains(word)).collect()
}

/// Waits until none of these are there.
async fn all_gone(word: &str) {
    let began = Instant::now();
    while !processes_with(word).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(5), "still there: {:?}", processes_with(word));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_command_prints_and_how_it_ended_is_said() {
    for stage in stages() {
        let outcome = stage.run("echo out; echo err >&2; exit 0").await;
        assert!(!outcome.is_error && outcome.content.ends_with("\n[exit code 0]"), "{}: {outcome:?}", stage.name());
        assert!(outcome.content.contains("out\n") && outcome.content.contains("err\n"));
        assert_eq!(stage.run("true").await, Outcome::ok("[no output]\n[exit code 0]"));
        assert_eq!(stage.run("echo no; exit 3").await, Outcome::error("no\n[exit code 3]"));
        assert!(stage.run("kill -9 $$").await.content.contains("137") || stage.name() == "Landlock");
        assert!(stage.run("no-such-program").await.content.contains("not found"));
        assert_eq!(stage.run("cat").await, Outcome::ok("[no output]\n[exit code 0]"), "nothing to read");
        let binary = stage.run("echo before; head -c 1000 /dev/zero; sleep 0.1; echo after").await.content;
        assert!(binary.contains("[1000 bytes of binary output]") || binary.contains("[1007 bytes of binary output]"));
        assert!(binary.ends_with("after\n[exit code 0]"), "{}: {binary:?}", stage.name());
        let cut = stage.run(r"printf '\303'; sleep 0.1; printf '\251t\303\251'; printf '\377\376' >&2").await.content;
        assert!(cut.contains("été") && cut.contains("[2 bytes of binary output]"), "{}: {cut:?}", stage.name());
        for (input, words) in [
            ("{}", "\"command\" is missing"),
            (r#"{"command":" "}"#, "must not be empty"),
            (r#"{"command":"true","timeout":601}"#, "from 1 to 600"),
            (r#"{"command":["true"]}"#, "must be a string"),
        ] {
            let outcome = stage.run.run(input, &Output::default()).await;
            assert!(outcome.is_error && outcome.content.contains(words), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn only_the_sessions_folder_can_be_written_and_no_home_is_seen() {
    let mine = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    for stage in stages() {
        let outcome = stage.run("mkdir -p a/b && echo kept > a/b/c && pwd && echo $HOME && cd ~ && ls").await;
        assert!(!outcome.is_error, "{}: {outcome:?}", stage.name());
        assert_eq!(std::fs::read_to_string(stage.folder.path().join("a/b/c")).unwrap(), "kept\n");
        let secret = stage.root.path().join("secret");
        let other = stage.folder.path().parent().unwrap().join("other");
        for script in [
            format!("cat {}", secret.display()),
            "cat ../../secret || cat ../secret".to_owned(),
            format!("echo x > {}", secret.display()),
            format!("echo x > {}", other.display()),
            format!("ln -s {} link && cat link", secret.display()),
            "echo x > /usr/bin/skein-was-here".to_owned(),
            "echo x > /etc/skein-was-here".to_owned(),
            "touch /skein-was-here".to_owned(),
            format!("ls {mine}/.[a-z]*"),
            "cat /etc/shadow".to_owned(),
            "cat /proc/1/environ | tr '\\0' '\\n' | grep CARGO".to_owned(),
            "mknod disk b 8 0".to_owned(),
            "ls /proc/sysrq-trigger && test -w /proc/sysrq-trigger".to_owned(),
            // What is there already.
            "grep . /proc/sys/kernel/core_pattern > own; cat own > /proc/sys/kernel/core_pattern".to_owned(),
            "mount -t tmpfs none /usr".to_owned(),
            "mount -o remount,bind,rw /usr && echo x > /usr/skein-was-here".to_owned(),
            "mount -o remount,bind,rw /proc".to_owned(),
            "unshare -r -m mount -t tmpfs none /usr".to_owned(),
            "grep -q 'CapEff:.*[1-9a-f]' /proc/self/status".to_owned(),
            "chroot / true".to_owned(),
        ] {
            let outcome = stage.run(&script).await;
            assert!(
                outcome.is_error && !outcome.content.contains("outside"),
                "{}: {script}: {outcome:?}",
                stage.name()
            );
        }
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "outside");
        for path in ["/usr/bin/skein-was-here", "/etc/skein-was-here", "/skein-was-here"] {
            assert!(!Path::new(path).exists(), "{path}");
        }
        assert!(!other.exists());
    }
}

#[tokio::test]
async fn the_environment_holds_no_secret() {
    for stage in stages() {
        let names = stage.run("env | cut -d= -f1 | sort").await.content;
        for name in names.lines().filter(|line| !line.starts_with('[')) {
            let plain = ["HOME", "LANG", "PATH", "PWD", "OLDPWD", "SHLVL", "TERM", "TMPDIR", "_"].contains(&name);
            assert!(plain, "{}: {name}", stage.name());
        }
        assert!(names.contains("HOME") && !names.contains("CARGO"));
    }
}

#[tokio::test]
async fn there_is_no_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    for stage in stages() {
        let outcome = stage.run(&format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected")).await;
        assert!(outcome.is_error && !outcome.content.contains("connected"), "{}: {outcome:?}", stage.name());
        let udp = stage.run("exec 3<>/dev/udp/10.0.0.1/53 && echo hello >&3 && echo sent").await;
        assert!(udp.is_error && !udp.content.contains("sent\n"), "{}: {udp:?}", stage.name());
        assert!(listener.accept().is_err());
    }
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_all_that_it_started() {
    for (index, stage) in stages().into_iter().enumerate() {
        let index = u32::try_from(index).unwrap();
        let [first, second, third] = [1, 2, 3].map(|number| seconds(7_000 + 10 * index + number));
        let script = format!(
            "echo begun; sleep {first} & (setsid sleep {second} 2>/dev/null || sleep {second}) & nohup sleep {third} >/dev/null 2>&1 & wait"
        );
        // Nobody waits any more: a pause does this.
        let output = Output::default();
        let begun = async {
            while !output.text().contains("begun")
                || [&first, &second, &third].iter().any(|number| processes_with(&format!("sleep {number}")).len() < 2)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            outcome = stage.run_for(&script, 60, &output) => panic!("{}: {outcome:?}", stage.name()),
            done = tokio::time::timeout(Duration::from_secs(10), begun) => done.unwrap(),
        }
        for number in [&first, &second, &third] {
            all_gone(number).await;
        }
        // Its time is up.
        let began = Instant::now();
        let outcome = stage.run_for(&script, 1, &Output::default()).await;
        assert!(outcome.is_error && began.elapsed() < Duration::from_secs(8));
        assert_eq!(outcome.content, "begun\n[the command was ended: it took longer than 1 seconds]");
        all_gone(&first).await;
        // It ends by itself, and leaves something running.
        let outcome = stage.run(&format!("sleep {first} & echo done")).await;
        assert_eq!(outcome, Outcome::ok("done\n[exit code 0]"), "{}", stage.name());
        all_gone(&first).await;
    }
}

#[tokio::test]
async fn a_flood_is_ended_and_its_ends_are_kept() {
    for stage in stages() {
        let outcome = stage.run("echo first; yes flood").await;
        assert!(outcome.is_error && outcome.content.starts_with("first\nflood"), "{}", stage.name());
        assert!(outcome.content.ends_with("[the command was ended: it printed more than 64 MiB]"));
        assert!(outcome.content.len() < 3 << 20 && outcome.content.contains("bytes left out"));
    }
}

#[tokio::test]
async fn a_fork_bomb_is_ended() {
    for stage in stages() {
        let began = Instant::now();
        // Some 1,000 processes at most: if nothing ended it, this machine would live on.
        let sleep = format!("sleep {}", seconds(8_765));
        let bomb = format!(
            "bomb() {{ if [ $1 = 9 ]; then {sleep}; else bomb $(($1+1)) | bomb $(($1+1)) & fi; }}; bomb 0; sleep 20"
        );
        let outcome = stage.run(&bomb).await;
        let text = &outcome.content[outcome.content.len().saturating_sub(200)..];
        assert!(text.contains("more than 256 processes"), "{}: {text}", stage.name());
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        all_gone(&sleep).await;
    }
}

#[tokio::test]
async fn memory_and_the_size_of_files_have_limits() {
    for stage in stages() {
        let eater = stage.run("perl -e '$x = \"x\" x 3_000_000_000; print \"eaten\"'").await;
        assert!(eater.is_error && !eater.content.contains("eaten"), "{}: {eater:?}", stage.name());
        let several = "for i in 1 2 3; do perl -e '$x = \"x\" x 900_000_000; sleep 15' & done; wait";
        let several = stage.run(several).await;
        assert!(several.content.contains("more than 2048 MiB of memory"), "{}: {several:?}", stage.name());
        let file = stage.run("truncate -s 1100M large && echo written").await;
        assert!(file.is_error && !file.content.contains("written"), "{}: {file:?}", stage.name());
        assert!(std::fs::metadata(stage.folder.path().join("large")).map_or(0, |large| large.len()) <= 1 << 30);
    }
}

#[tokio::test]
async fn everything_dies_with_the_worker() {
    // This test, started again as a process of its own that runs a command and is killed.
    if let Ok(sleep) = std::env::var("SKEIN_TEST_VICTIM") {
        let stage = stages().into_iter().next().unwrap();
        stage.run_for(&format!("{sleep} & {sleep}"), 60, &Output::default()).await;
        return;
    }
    // Under Landlock the shell dies, and what it started lives on: only a namespace ends as a whole.
    if stages().first().is_none_or(|stage| stage.name() != "bubblewrap") {
        return;
    }
    let sleep = format!("sleep {}", seconds(6_543));
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", "everything_dies_with_the_worker"]).env("SKEIN_TEST_VICTIM", &sleep);
    let mut victim = victim.process_group(0).spawn().unwrap();
    let began = Instant::now();
    while !processes_with(&sleep).iter().any(|line| line.starts_with("sleep")) {
        assert!(began.elapsed() < Duration::from_secs(10), "it never began");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    all_gone(&sleep).await;
}

#[test]
fn a_worker_of_an_ordinary_user_confines_them_as_well() {
    const NOBODY: u32 = 65_534;
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (tests, own) = (place.path().join("tests"), place.path().join("own"));
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    std::fs::set_permissions(&tests, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut all = Command::new(tests);
    all.arg("--test-threads=2").uid(NOBODY).gid(NOBODY).current_dir(&own).env("TMPDIR", &own).env("HOME", &own);
    let ended = all.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && said.contains("test result: ok"), "{said}");
}

#[tokio::test]
async fn files_of_tools_and_of_commands_are_each_others() {
    for stage in stages() {
        stage.folder.write("a/b/by-tool", b"one\n").unwrap();
        let outcome = stage.run("cat a/b/by-tool && echo two >> a/b/by-tool && echo three > a/b/by-command").await;
        assert!(!outcome.is_error, "{}: {outcome:?}", stage.name());
        assert_eq!(std::fs::read_to_string(stage.folder.path().join("a/b/by-tool")).unwrap(), "one\ntwo\n");
        stage.folder.write("a/b/by-command", b"four\n").unwrap();
        let outcome = stage.run("echo five >> a/b/by-command && cat a/b/by-command && id -u").await;
        assert!(outcome.content.starts_with("four\nfive\n") && !outcome.content.contains("\n0\n"), "{outcome:?}");
    }
}
