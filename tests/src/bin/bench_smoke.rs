//! The figures of the walking skeleton: `cargo xtask bench smoke [--json FILE]`. Not a test: nothing here passes or
//! fails, and what is printed is what this machine did just now.
//!
//! The model is a server in this process that writes, as each token, the time at which it does; viewers are sync peers
//! in the same process, so that one clock tells how long a token took: model → worker → relay → viewer.

// A benchmark's output is meant for a terminal, and it ends where something can't be done.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use automerge::transaction::Transactable;
use automerge::{AutomergeError, ObjType, ROOT, ReadDoc};
use serde_json::{Value, json};
use skein_engine::ids::DocumentId;
use skein_engine::wire::cbor;
use skein_engine::wire::ephemeral::{Ephemeral, TailKind};
use skein_tests::peer::{Event, Peer};
use skein_tests::raw::http;
use skein_tests::skein::{Home, Skein, binary};
use skein_tests::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Tokens of the streamed answer, and how far apart.
const TOKENS: usize = 600;
const PACE: Duration = Duration::from_millis(20);
/// How many watch it.
const VIEWERS: usize = 4;
/// Sessions for the measurement of memory.
const SESSIONS: usize = 100;

/// One line of the result.
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    target: Option<f64>,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json_file = match arguments.as_slice() {
        [] => None,
        [option, file] if option == "--json" => Some(file.clone()),
        _ => {
            eprintln!("usage: bench-smoke [--json FILE]");
            std::process::exit(2);
        }
    };
    let mut figures = Vec::new();
    start(&mut figures).await;
    stream(&mut figures).await;
    memory(&mut figures).await;
    sizes(&mut figures);

    for Figure { name, value, unit, target } in &figures {
        let target = target.map(|target| format!("  (target: at most {target} {unit})")).unwrap_or_default();
        println!("{name:<64} {value:>12.1} {unit}{target}");
    }
    if let Some(file) = json_file {
        let rows: Vec<Value> = figures
            .iter()
            .map(|row| json!({"figure": row.name, "value": row.value, "unit": row.unit, "target": row.target}))
            .collect();
        std::fs::write(&file, serde_json::to_vec_pretty(&rows).unwrap())
            .unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

/// From the start of the process to the first answer over HTTP: an empty folder, then one that is there.
async fn start(figures: &mut Vec<Figure>) {
    let home = Home::new();
    for name in ["start to first request served, new data folder", "start to first request served"] {
        let begun = Instant::now();
        let skein = home.serve().await;
        let answer = http(skein.address, "GET", "/health", &[], b"").await;
        let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
        assert_eq!(answer.status, 200, "{}", answer.head);
        figures.push(Figure { name, value: milliseconds, unit: "ms", target: None });
        skein.terminate().await;
    }
}

/// One streamed answer, watched by all viewers.
async fn stream(figures: &mut Vec<Figure>) {
    let clock = Instant::now();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, clock));
        }
    });
    let home = Home::new();
    home.write(
        "skein.toml",
        &format!(
            "[worker]\nmodel = \"clock/clock\"\n\n[[provider]]\nname = \"clock\"\nkind = \"openai\"\nbase_url = \"{url}\"\n"
        ),
    );
    let skein = home.serve().await;
    let stored_before = folder_size(&home.path("data"));
    let made = skein.session_json(&["new", "--name", "Latency", "--message", "What time is it?"]).await;
    let document: DocumentId = made["id"].as_str().unwrap().parse().unwrap();

    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        let mut viewer = Peer::join(&skein.sync_url()).await;
        viewer.sync(document).await;
        viewers.push(tokio::spawn(view(viewer, document, clock)));
    }
    let (mut latencies, mut received, mut change_bytes) = (Vec::new(), 0, 0);
    for viewer in viewers {
        let seen = viewer.await.unwrap();
        latencies.extend(seen.latencies);
        received += seen.received;
        change_bytes = seen.change_bytes;
    }
    skein.session(&["wait", &document.to_string(), "--timeout", "30"]).await;
    let (home, _) = skein.terminate().await;
    let stored = folder_size(&home.path("data")).saturating_sub(stored_before);

    latencies.sort_by(f64::total_cmp);
    let percentile = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    let tokens = TOKENS as f64;
    for (name, value, unit, target) in [
        ("token latency, model to viewer, p50", percentile(0.5), "ms", None),
        ("token latency, model to viewer, p99", percentile(0.99), "ms", Some(50.0)),
        ("tokens seen live, of all", 100.0 * latencies.len() as f64 / (tokens * VIEWERS as f64), "%", None),
        ("on the wire, per token and viewer", received as f64 / tokens / VIEWERS as f64, "bytes", None),
        ("changes of the document, per token", change_bytes as f64 / tokens, "bytes", None),
        ("data folder after a clean end, growth per token", stored as f64 / tokens, "bytes", None),
    ] {
        figures.push(Figure { name, value, unit, target });
    }
}

struct Seen {
    /// Milliseconds, one for each token that came live.
    latencies: Vec<f64>,
    /// Bytes of all messages.
    received: u64,
    /// Bytes of the document's changes.
    change_bytes: usize,
}

/// Watches until the run has ended.
async fn view(mut viewer: Peer, document: DocumentId, clock: Instant) -> Seen {
    let mut latencies = Vec::new();
    loop {
        match within("the stream", viewer.next()).await {
            Event::Ephemeral { data, .. } => {
                let now = clock.elapsed().as_micros() as f64;
                if let Ok(Ephemeral::Tail(tail)) = cbor::decode::<Ephemeral>(&data)
                    && tail.kind == TailKind::Text
                {
                    let times = tail.text.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
                    latencies.extend(times.map(|emitted| (now - emitted) / 1e3));
                }
            }
            Event::Synced(_) if ended(viewer.document(document)) => break,
            Event::Closed => panic!("the relay ended the viewer's connection"),
            _ => {}
        }
    }
    let received = viewer.received;
    let changes = viewer.document(document).get_changes(&[]);
    Seen { latencies, received, change_bytes: changes.iter().map(|change| change.raw_bytes().len()).sum() }
}

fn ended(document: &automerge::Automerge) -> bool {
    let Ok(Some((_, runs))) = document.get(ROOT, "runs") else { return false };
    document.values(&runs).any(|(_, run)| {
        matches!(document.get(&run, "state"), Ok(Some((state, _))) if matches!(state.as_str(), Some("completed" | "failed")))
    })
}

/// An OpenAI-compatible answer whose tokens are the microseconds at which they are written.
async fn answer(mut stream: TcpStream, clock: Instant) {
    stream.set_nodelay(true).unwrap();
    let mut request = vec![0; 65_536];
    let _ = stream.read(&mut request).await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let _ = stream.write_all(head.as_bytes()).await;
    // Time for all viewers to find their places.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut pace = tokio::time::interval(PACE);
    for _ in 0..TOKENS {
        pace.tick().await;
        let delta =
            json!({"choices": [{"index": 0, "delta": {"content": format!("{:09} ", clock.elapsed().as_micros())}}]});
        if stream.write_all(format!("data: {delta}\n\n").as_bytes()).await.is_err() {
            return;
        }
    }
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": TOKENS, "total_tokens": TOKENS + 10}});
    let _ = stream.write_all(format!("data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n").as_bytes()).await;
}

/// Resident memory, idle and after many sessions.
async fn memory(figures: &mut Vec<Figure>) {
    let relay = Home::new().start("relay", "127.0.0.1:0").await;
    settle().await;
    push_memory(figures, "memory of a relay, idle", &relay);
    let mut peer = Peer::join(&relay.sync_url()).await;
    write_sessions(&mut peer).await;
    settle().await;
    push_memory(figures, "memory of a relay, after 100 sessions", &relay);
    relay.terminate().await;

    let home = Home::new();
    home.write("skein.toml", "[worker]\ndemo_speed = 5000\n");
    let serve = home.serve().await;
    settle().await;
    push_memory(figures, "memory of relay and worker in one process, idle", &serve);
    let mut peer = Peer::join(&serve.sync_url()).await;
    for document in write_sessions(&mut peer).await {
        peer.until("the demo's answer", document, ended).await;
    }
    settle().await;
    push_memory(figures, "memory of both, after 100 answered sessions", &serve);
    serve.terminate().await;
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

fn push_memory(figures: &mut Vec<Figure>, name: &'static str, skein: &Skein) {
    figures.push(Figure { name, value: skein.memory().resident as f64 / 1e6, unit: "MB", target: None });
}

/// Creates sessions as a foreign client may, each with one message.
async fn write_sessions(peer: &mut Peer) -> Vec<DocumentId> {
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let document = DocumentId::random();
        let made = peer.document(document).transact::<_, _, AutomergeError>(|tx| {
            tx.put(ROOT, "schema", 1)?;
            tx.put(ROOT, "kind", "session")?;
            let messages = tx.put_object(ROOT, "messages", ObjType::List)?;
            let message = tx.insert_object(&messages, 0, ObjType::Map)?;
            tx.put(&message, "id", format!("{number:022}"))?;
            tx.put(&message, "role", "user")?;
            let parts = tx.put_object(&message, "parts", ObjType::List)?;
            let part = tx.insert_object(&parts, 0, ObjType::Map)?;
            tx.put(&part, "type", "text")?;
            let chunks = tx.put_object(&part, "chunks", ObjType::List)?;
            tx.insert(&chunks, 0, "Good morning!")?;
            tx.put_object(ROOT, "runs", ObjType::Map)?;
            tx.put_object(ROOT, "requests", ObjType::Map)?;
            Ok(())
        });
        made.unwrap();
        peer.until_acknowledged(document).await;
        sessions.push(document);
    }
    sessions
}

/// What a person downloads.
fn sizes(figures: &mut Vec<Figure>) {
    let kilobytes = |bytes: u64| bytes as f64 / 1e3;
    let mut push = |name, bytes| figures.push(Figure { name, value: kilobytes(bytes), unit: "KB", target: None });
    push("the binary, web client included", std::fs::metadata(binary()).unwrap().len());
    if let Ok(module) = std::env::var("SKEIN_WASM_SIZE") {
        let sizes: Vec<u64> = module.split(' ').filter_map(|size| size.parse().ok()).collect();
        if let [raw, brotli] = sizes[..] {
            push("the wasm module", raw);
            push("the wasm module, brotli", brotli);
        }
    }
    if let Some(dist) = std::env::var_os("SKEIN_WEB_DIST") {
        let (mut raw, mut brotli) = (0, 0);
        each_file(Path::new(&dist), &mut |path, size| {
            let name = path.to_string_lossy();
            raw += if name.ends_with(".js") { size } else { 0 };
            brotli += if name.ends_with(".js.br") { size } else { 0 };
        });
        push("all JavaScript", raw);
        push("all JavaScript, brotli", brotli);
    }
}

fn folder_size(folder: &Path) -> u64 {
    let mut sum = 0;
    each_file(folder, &mut |_, size| sum += size);
    sum
}

fn each_file(folder: &Path, visit: &mut impl FnMut(&Path, u64)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => each_file(&entry.path(), visit),
            Ok(metadata) => visit(&entry.path(), metadata.len()),
            Err(_) => {}
        }
    }
}
