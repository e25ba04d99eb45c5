//! The figures of the worker: `cargo xtask bench worker [--json FILE]`. Relay, model and person are in this process, the
//! worker is a process of its own (this program once more), so that its processor time and memory are its alone, and so
//! that it can be killed. Not a test: nothing here passes or fails, and what is printed is what this machine did just now.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command as Program, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use skein_client::Event;
use skein_engine::device::Notice;
use skein_engine::ids::{DocumentId, random_bytes};
use skein_engine::session::Command;
use skein_engine::session::command::NewSession;
use skein_engine::session::conversation::{Content, Conversation, Reason, ShownCallState, Status};
use skein_engine::session::model::{PartKind, Role};
use skein_worker::{Settings, WorkerConfig};
use support::calls::set_agent;
use support::{Stage, answer, model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How far apart tokens are: 60 a second.
const PACE: Duration = Duration::from_micros(16_667);
/// Tokens of the answer whose latency is measured.
const TOKENS: usize = 1_200;
/// How often a person pauses.
const PAUSES: usize = 100;
/// Turns at once.
const TURNS: usize = 200;
/// Messages in each of their sessions.
const MESSAGES: usize = 100;
/// For how long the worker is watched while all of them stream.
const WATCHED: Duration = Duration::from_secs(15);
/// How often the worker is killed, in how many turns each time.
const KILLS: usize = 10;
const KILLED_TURNS: usize = 10;
/// How long a turn is that may be killed: tokens, a command, tokens.
const KILLED_TOKENS: usize = 30;

/// One line of the result.
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    target: Option<f64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["worker", url, token, file] => runtime.block_on(be_worker(url, token, Path::new(file))),
        [] => runtime.block_on(measure(None)),
        ["--json", file] => runtime.block_on(measure(Some(file))),
        _ => {
            eprintln!("usage: bench_worker [--json FILE]");
            std::process::exit(2);
        }
    }
}

async fn be_worker(url: &str, token: &str, file: &Path) {
    let settings = Settings::from_toml(&std::fs::read_to_string(file).unwrap()).unwrap();
    let config = WorkerConfig { relay_url: url.to_owned(), token: token.to_owned(), settings };
    skein_worker::run(config, std::future::pending()).await.unwrap();
}

async fn measure(json_file: Option<&str>) {
    let bench = Bench::new().await;
    let mut figures = Vec::new();
    bench.latency(&mut figures).await;
    bench.pauses(&mut figures).await;
    bench.many(&mut figures).await;
    bench.kills(&mut figures).await;
    for Figure { name, value, unit, target } in &figures {
        let target = target.map(|target| format!("  (target: at most {target} {unit})")).unwrap_or_default();
        println!("{name:<64} {value:>12.2} {unit}{target}");
    }
    if let Some(file) = json_file {
        let rows = figures
            .iter()
            .map(|row| json!({"figure": row.name, "value": row.value, "unit": row.unit, "target": row.target}));
        std::fs::write(file, serde_json::to_vec_pretty(&rows.collect::<Vec<_>>()).unwrap()).unwrap();
    }
}

/// What all measurements share.
struct Bench {
    stage: Stage,
    clock: Instant,
    /// When the model's server found that it was hung up on, in order.
    hung_up: Arc<Mutex<Vec<Instant>>>,
    folder: tempfile::TempDir,
}

/// A worker's process, killed when it is dropped.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Worker {
    /// Seconds of processor time so far.
    fn busy(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // proc(5): utime and stime are fields 14 and 15, in ticks of which Linux gives user space 100 a second.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
    }

    /// MiB that were in memory at most.
    fn most_memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
    }
}

impl Bench {
    async fn new() -> Self {
        let (stage, clock, hung_up) = (Stage::new().await, Instant::now(), Arc::<Mutex<Vec<Instant>>>::default());
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        std::fs::write(folder.path().join("skein.toml"), settings(address, folder.path())).unwrap();
        let told = hung_up.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, clock, told.clone()));
            }
        });
        set_agent(&stage, json!([{"tools": ["*"]}])).await;
        Self { stage, clock, hung_up, folder }
    }

    fn worker(&self) -> Worker {
        let file = self.folder.path().join("skein.toml");
        let mut program = Program::new(std::env::current_exe().unwrap());
        program.arg("worker").arg(&self.stage.url).arg(&self.stage.worker_token).arg(file).stdin(Stdio::null());
        Worker(program.spawn().unwrap())
    }

    async fn session(&self, message: &str) -> DocumentId {
        let new = NewSession { name: Some("Bench".into()), message: Some(message.into()), ..NewSession::default() };
        self.stage.person.act(|device, now| device.create(now, &new)).await.unwrap()
    }

    /// How long a token takes from the model's socket to a person's device.
    async fn latency(&self, figures: &mut Vec<Figure>) {
        let _worker = self.worker();
        let mut notices = self.stage.person.notices();
        let session = self.session("bench-clock").await;
        let person = self.stage.person.clone();
        let clock = self.clock;
        let viewer = tokio::spawn(async move {
            let (mut latencies, mut text) = (Vec::new(), String::new());
            while latencies.len() < TOKENS {
                let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(3), notices.next()).await else { break };
                // Whoever watches keeps it open.
                if let Event::Notice(Notice::Document(_)) = &event {
                    person.read(|device, now| device.conversation(now, session).is_ok());
                }
                let Event::Notice(Notice::Grew { session: of, text: new, .. }) = event else { continue };
                if of == session {
                    let now = clock.elapsed().as_micros();
                    text.push_str(&new);
                    while let Some((time, rest)) = text.split_once(' ') {
                        if let Ok(sent) = time.parse::<u128>() {
                            latencies.push(now.saturating_sub(sent) as f64 / 1e3);
                        }
                        text = rest.to_owned();
                    }
                }
            }
            latencies
        });
        self.stage.settled(session, Status::Active).await;
        let mut latencies = viewer.await.unwrap();
        let seen = 100.0 * latencies.len() as f64 / TOKENS as f64;
        let [half, most] = percentiles(&mut latencies);
        figures.extend([
            Figure { name: "a model's byte to a viewer's patch, p50", value: half, unit: "ms", target: None },
            Figure { name: "a model's byte to a viewer's patch, p99", value: most, unit: "ms", target: Some(10.0) },
            Figure { name: "tokens seen live, of all", value: seen, unit: "%", target: None },
        ]);
    }

    /// From a person's pause to the model's server being hung up on.
    async fn pauses(&self, figures: &mut Vec<Figure>) {
        let _worker = self.worker();
        let mut times = Vec::new();
        for _ in 0..PAUSES {
            let session = self.session("bench-hold").await;
            self.stage.spoken(session, 40).await;
            let before = self.hung_up.lock().unwrap().len();
            let clicked = Instant::now();
            self.stage.command(session, Command::Pause).await;
            while self.hung_up.lock().unwrap().len() == before {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            times.push((self.hung_up.lock().unwrap()[before] - clicked).as_secs_f64() * 1e3);
        }
        let [half, most] = percentiles(&mut times);
        figures.extend([
            Figure { name: "click to provider cut, p50", value: half, unit: "ms", target: None },
            Figure { name: "click to provider cut, p99", value: most, unit: "ms", target: Some(300.0) },
        ]);
    }

    /// What many turns at once cost their worker.
    async fn many(&self, figures: &mut Vec<Figure>) {
        let worker = self.worker();
        let session = self.session("bench-quick").await;
        self.stage.settled(session, Status::Active).await;
        while self.stage.conversation(session).unwrap().messages.len() < MESSAGES {
            let before = self.stage.conversation(session).unwrap().turns.len();
            self.stage.send(session, "bench-quick").await;
            self.stage
                .until(session, "answered", |conversation| {
                    (conversation.turns.len() > before && conversation.status == Status::Active).then_some(())
                })
                .await;
        }
        let mut sessions = vec![session];
        while sessions.len() < TURNS {
            sessions.push(self.stage.person.act(|device, now| device.duplicate(now, session, None)).await.unwrap());
        }
        drop(worker);
        let worker = self.worker();
        for session in &sessions {
            self.stage.send(*session, "bench-pace").await;
        }
        for session in &sessions {
            self.stage.until(*session, "begun", |found| (answer(found).len() > 20).then_some(())).await;
        }
        let (begun, before) = (Instant::now(), worker.busy());
        tokio::time::sleep(WATCHED).await;
        let streaming = sessions.iter().filter(|session| {
            self.stage.conversation(**session).is_some_and(|found| found.status == Status::Streaming)
        });
        let streaming = streaming.count();
        let cores = (worker.busy() - before) / begun.elapsed().as_secs_f64();
        figures.extend([
            Figure {
                name: "turns that streamed at once in one worker",
                value: streaming as f64,
                unit: "",
                target: None,
            },
            Figure { name: "its processor time", value: cores, unit: "cores", target: Some(1.0) },
            Figure { name: "its memory, at most", value: worker.most_memory(), unit: "MiB", target: Some(256.0) },
        ]);
        for session in &sessions {
            self.stage.command(*session, Command::Pause).await;
        }
        for session in &sessions {
            self.stage.until(*session, "paused", |found| (found.status == Status::Paused).then_some(())).await;
        }
    }

    /// A worker that is killed in the middle: what is lost, and what becomes of the sessions.
    async fn kills(&self, figures: &mut Vec<Figure>) {
        let (mut points, mut lost, mut asked, mut done, mut failed, mut twice) = (0_usize, 0.0_f64, 0, 0, 0, 0);
        for _ in 0..KILLS {
            let worker = self.worker();
            let mut sessions = Vec::new();
            for byte in random_bytes::<KILLED_TURNS>() {
                sessions.push(self.session("bench-tools").await);
                tokio::time::sleep(Duration::from_millis(u64::from(byte))).await;
            }
            drop(worker);
            tokio::time::sleep(Duration::from_millis(50)).await;
            sessions.retain(|session| {
                let found = self.stage.conversation(*session);
                !found.is_some_and(|found| found.turns.iter().any(|turn| turn.ended_at.is_some()))
            });
            points += sessions.len();
            for session in &sessions {
                let shown = self.stage.conversation(*session).map(|found| answer(&found).len()).unwrap_or_default();
                let tokens = shown.saturating_sub(self.committed(*session)) as f64 / TOKEN.len() as f64;
                lost = lost.max(tokens * PACE.as_secs_f64());
            }
            let _worker = self.worker();
            for session in &sessions {
                let end = self.stage.until(*session, "in a clear state", state).await;
                match end {
                    Status::Active => done += 1,
                    Status::Paused => asked += 1,
                    _ => failed += 1,
                }
                let log = self.folder.path().join("work").join(session.to_string()).join("log");
                let ran = std::fs::read_to_string(log).unwrap_or_default().lines().count();
                twice += usize::from(ran > 1);
            }
        }
        let count = |name, value: usize, target| Figure { name, value: value as f64, unit: "", target };
        figures.extend([
            count("turns whose worker was killed", points, None),
            count("… that were taken up and completed", done, None),
            count("… that ask about a call in doubt", asked, None),
            count("… that failed", failed, None),
            count("… whose command ran twice", twice, Some(0.0)),
            Figure { name: "of a stream lost at most", value: lost, unit: "s", target: Some(2.5) },
        ]);
    }

    /// Bytes of text that stand in the document.
    fn committed(&self, session: DocumentId) -> usize {
        self.stage.person.read(|device, _| {
            let Ok(found) = device.session(session) else { return 0 };
            let own = found.messages.iter().filter(|message| message.role == Role::Assistant);
            let texts = own.flat_map(|message| &message.parts).map(|part| match &part.kind {
                PartKind::Text(text) => text.len(),
                _ => 0,
            });
            texts.sum()
        })
    }
}

/// How a session has ended, if it has: completed, asking about a call in doubt, or failed.
fn state(found: &Conversation) -> Option<Status> {
    let ended = !found.turns.is_empty() && found.turns.iter().all(|turn| turn.ended_at.is_some());
    let parts = || found.messages.iter().flat_map(|message| &message.parts);
    let in_doubt =
        parts().any(|part| matches!(&part.content, Content::ToolCall { state: ShownCallState::InDoubt, .. }));
    match found.status {
        Status::Active | Status::Failed if ended => Some(found.status),
        Status::Paused if in_doubt && matches!(found.reason, Some(Reason::Approval { .. })) => Some(found.status),
        _ => None,
    }
}

fn percentiles(values: &mut [f64]) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [0.5, 0.99].map(|share| values[((values.len().saturating_sub(1)) as f64 * share) as usize])
}

fn settings(model: SocketAddr, folder: &Path) -> String {
    let work = folder.join("work");
    format!(
        "[worker]\nmodel = \"bench/bench\"\nfolder = {work:?}\n[[provider]]\nname = \"bench\"\nkind = \"openai\"\n\
         base_url = \"http://{model}/v1\"\n[tools]\nenabled = [\"run\"]\nworkspaces = [\"*\"]\n"
    )
}

/// What every token says where it doesn't matter.
const TOKEN: &str = "token ";

/// Answers by what the conversation asks for.
async fn serve(mut socket: TcpStream, clock: Instant, hung_up: Arc<Mutex<Vec<Instant>>>) {
    let Some((_, body)) = model::request(&mut socket).await else { return };
    let said = async {
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await?;
        let token = model::openai(&[TOKEN], None);
        // The last that was asked for decides.
        let asked = ["clock", "hold", "pace", "tools", "quick"];
        let asked = asked.into_iter().max_by_key(|word| body.rfind(&format!("bench-{word}"))).unwrap();
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        match asked {
            "clock" => {
                for _ in 0..TOKENS {
                    pace.tick().await;
                    let now = format!("{} ", clock.elapsed().as_micros());
                    socket.write_all(model::openai(&[&now], None).as_bytes()).await?;
                }
            }
            "hold" => {
                for _ in 0..10 {
                    pace.tick().await;
                    socket.write_all(token.as_bytes()).await?;
                }
                let mut byte = [0];
                let _ = socket.read(&mut byte).await;
                hung_up.lock().unwrap().push(Instant::now());
                return Ok(());
            }
            "pace" => loop {
                pace.tick().await;
                socket.write_all(token.as_bytes()).await?;
            },
            "tools" => {
                for _ in 0..KILLED_TOKENS {
                    pace.tick().await;
                    socket.write_all(token.as_bytes()).await?;
                }
                if !body.contains("\"role\":\"tool\"") {
                    let input = json!({"command": "echo ran >> log; sleep 0.3"}).to_string();
                    let function = json!({"name": "run", "arguments": input});
                    let call = json!({"index": 0, "id": "call", "type": "function", "function": function});
                    let delta = json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]});
                    let stop = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]});
                    return socket
                        .write_all(format!("data: {delta}\n\ndata: {stop}\n\ndata: [DONE]\n\n").as_bytes())
                        .await;
                }
            }
            _ => {}
        }
        socket.write_all(model::openai(&["Done."], Some("stop")).as_bytes()).await
    };
    let _: std::io::Result<()> = said.await;
}
