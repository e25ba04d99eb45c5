//! `run`: a shell command in the session's folder, in a sandbox, within limits. What it says is shown as it comes.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::folder::Folder;
use super::input::Input;
use super::sandbox::Sandbox;
use super::sandbox::group::{Group, watch};
use super::{Outcome, Output, Policy, Running, Tool};
use crate::providers::prompt::ToolDefinition;

/// How long a command may take, in seconds, unless it says otherwise; and the most that it may say.
const TIME: u64 = 120;
const MOST_TIME: u64 = 600;
/// The most bytes that a command may say; of them [`super::output::MOST`] are kept.
const SAID: u64 = 64 << 20;
/// How often it is looked how much it has said.
const LOOK: Duration = Duration::from_millis(200);
/// How long what it had said before it ended may take to come.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct Run {
    /// Where it is confined.
    pub sandbox: Sandbox,
    /// Where it runs.
    pub folder: Folder,
}

impl Tool for Run {
    fn definition(&self) -> ToolDefinition {
        ToolDefinition {
            name: "run".into(),
            description: "Runs a shell command in this session's folder, and answers with what it prints and its exit \
                code. It has no network, can write in that folder only, reads nothing from standard input, and what it \
                leaves running is ended with it."
                .into(),
            schema: r#"{"type":"object","properties":{"command":{"type":"string"},"timeout":{"type":"integer","minimum":1,"maximum":600,"description":"Seconds; default 120"}},"required":["command"],"additionalProperties":false}"#.into(),
        }
    }

    /// It is off unless the operator lists it, and reaches nothing but the session's folder.
    fn policy(&self) -> Policy {
        Policy::Allow
    }

    fn run<'a>(&'a self, input: &'a str, output: &'a Output) -> Running<'a> {
        Box::pin(async move { self.carry_out(input, output).await.unwrap_or_else(Outcome::error) })
    }
}

impl Run {
    async fn carry_out(&self, input: &str, output: &Output) -> Result<Outcome, String> {
        let input = Input::read(input, &["command", "timeout"])?;
        let script = input.needed("command")?;
        if script.trim().is_empty() || script.contains('\0') {
            return Err("\"command\" must not be empty, and has no zero byte.".to_owned());
        }
        let time = input.number("timeout", 1..=MOST_TIME)?.unwrap_or(TIME);
        self.folder.open()?;
        let cannot = |error: String| {
            tracing::warn!(error, sandbox = self.sandbox.name(), "a command can't be started");
            format!("The command can't be started: {error}.")
        };
        let command = self.sandbox.shell(self.folder.path(), script).map_err(cannot)?;
        let under_way = UnderWay::start(command.into()).map_err(|error| cannot(error.to_string()))?;
        Ok(under_way.until_its_end(Duration::from_secs(time), output).await)
    }
}

/// A command that was started. Dropping it ends it, with everything that it started.
struct UnderWay {
    group: Arc<Group>,
    /// Done when its first process has ended.
    ended: JoinHandle<()>,
    /// Says which limit it passed.
    excess: oneshot::Receiver<String>,
    child: Child,
}

impl Drop for UnderWay {
    /// Before the child is given up: its id is still its own.
    fn drop(&mut self) {
        self.group.end();
    }
}

impl UnderWay {
    fn start(mut command: Command) -> std::io::Result<Self> {
        let child = command.kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let id = id.ok_or_else(|| std::io::Error::other("it was gone at once"))?;
        let group = Arc::new(Group::of(id));
        let ended = tokio::task::spawn_blocking(move || {
            // Without taking its end away, so that its id stays its own.
            let _ = rustix::process::waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        });
        let excess = watch(&group).inspect_err(|_| group.end())?;
        Ok(Self { group, ended, excess, child })
    }

    async fn until_its_end(mut self, time: Duration, output: &Output) -> Outcome {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let said = Said::default();
        let words = async { tokio::join!(said.by(stdout, output), said.by(stderr, output)) };
        tokio::pin!(words);
        let (mut silent, deadline) = (false, Instant::now() + time);
        let mut look = tokio::time::interval(LOOK);
        let stopped = loop {
            tokio::select! {
                biased;
                Ok(excess) = &mut self.excess => break Some(excess),
                _ = &mut self.ended => break None,
                _ = &mut words, if !silent => silent = true,
                () = tokio::time::sleep_until(deadline) => {
                    break Some(format!("it took longer than {} seconds", time.as_secs()));
                }
                _ = look.tick() => if said.bytes() > SAID {
                    break Some(format!("it printed more than {} MiB", SAID >> 20));
                }
            }
        };
        // What it left running goes with it, before its id can be another's.
        self.group.end();
        if !silent {
            let _ = tokio::time::timeout(LAST_WORDS, words).await;
        }
        let status = self.child.wait().await;
        let text = output.text();
        let text = if text.is_empty() { "[no output]" } else { text.trim_end_matches('\n') };
        match (stopped, status) {
            (Some(why), _) => Outcome::error(format!("{text}\n[the command was ended: {why}]")),
            (None, Ok(status)) if status.success() => Outcome::ok(format!("{text}\n[exit code 0]")),
            (None, Ok(status)) => Outcome::error(format!("{text}\n[{}]", ending(status))),
            (None, Err(error)) => Outcome::error(format!("{text}\n[it is not known how it ended: {error}]")),
        }
    }
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

/// How much was said.
#[derive(Default)]
struct Said(std::sync::atomic::AtomicU64);

impl Said {
    fn bytes(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Passes on what comes, as text.
    async fn by(&self, pipe: Option<impl AsyncRead + Unpin>, output: &Output) {
        let Some(mut pipe) = pipe else { return };
        let (mut text, mut buffer) = (Text::default(), vec![0; 16 << 10]);
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            self.0.fetch_add(read as u64, std::sync::atomic::Ordering::Relaxed);
            output.push(&text.of(&buffer[..read]));
        }
        output.push(&text.end());
    }
}

/// Bytes to text, whatever they are and wherever they are cut.
#[derive(Default)]
struct Text {
    /// The beginning of a character whose rest is to come.
    begun: Vec<u8>,
    /// Bytes that are no text, since the last text.
    binary: u64,
}

impl Text {
    fn of(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&all) {
            Ok(_) => all.len(),
            // A character that is cut at the end.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => {
                self.binary += all.len() as u64;
                return String::new();
            }
        };
        if all[..whole].contains(&0) {
            self.binary += all.len() as u64;
            return String::new();
        }
        self.begun = all.split_off(whole);
        let mut text = self.end_of_binary();
        text.push_str(&String::from_utf8_lossy(&all));
        text
    }

    fn end(&mut self) -> String {
        self.binary += std::mem::take(&mut self.begun).len() as u64;
        self.end_of_binary()
    }

    fn end_of_binary(&mut self) -> String {
        match std::mem::take(&mut self.binary) {
            0 => String::new(),
            bytes => format!("[{bytes} bytes of binary output]\n"),
        }
    }
}
