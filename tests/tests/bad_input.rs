//! What arrives on the wire that no client of good will sends: each ends its connection at most. Everyone else goes on,
//! and memory comes back.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{AutomergeError, ROOT};
use ciborium::Value;
use futures_util::future::join_all;
use rand::RngExt;
use skein_engine::ids::DocumentId;
use skein_tests::peer::{Event, Peer, encode};
use skein_tests::raw::{RawSocket, frame, header, http};
use skein_tests::stage::Stage;
use skein_tests::within;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const BINARY: u8 = 2;
const PING: u8 = 9;

fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

fn leb128(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A well-made sync frame with any `data`.
fn sync_frame(peer: &Peer, document: &str, data: Value) -> Vec<u8> {
    encode(vec![
        ("type", Value::from("sync")),
        ("senderId", Value::from(peer.id.as_str())),
        ("targetId", Value::from(peer.relay.as_str())),
        ("documentId", Value::from(document)),
        ("data", data),
    ])
}

/// CBOR that is none, or not of the shape.
fn nonsense() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..60).map(|n| random_bytes(n * 7)).collect();
    // Bare values.
    all.extend(
        [&[0xf6][..], &[0xf7], &[0x00], &[0x80], &[0xa0], &[0x60], &[0x40], &[0xf9, 0x7e, 0x00]].map(<[u8]>::to_vec),
    );
    // Lengths of 2^60: bytes, text, array, map; and endless ones.
    for major in [0x5b, 0x7b, 0x9b, 0xbb] {
        all.push([&[major][..], &(1_u64 << 60).to_be_bytes()].concat());
        all.push([&[0xa1, 0x64, b't', b'y', b'p', b'e', major][..], &(1_u64 << 60).to_be_bytes()].concat());
    }
    all.extend([&[0x9f][..], &[0xbf], &[0x5f], &[0x7f], &[0xff]].map(<[u8]>::to_vec));
    // 100,000 levels deep: arrays, maps, tags, alone and within a field.
    for level in [&[0x81][..], &[0xa1, 0x60], &[0xc1], &[0x9f]] {
        let deep = [&level.repeat(100_000)[..], &[0xf6]].concat();
        all.push([&[0xa1, 0x64, b't', b'y', b'p', b'e'][..], &deep].concat());
        all.push(deep);
    }
    // Fields missing or of the wrong type.
    let wrong = || {
        [Value::Null, Value::from(7), Value::from("?"), Value::Bytes(vec![1]), Value::Array(vec![]), Value::Map(vec![])]
    };
    for kind in [
        "join",
        "peer",
        "request",
        "sync",
        "ephemeral",
        "doc-unavailable",
        "error",
        "leave",
        "hello",
        "claim",
        "begin",
        "?",
    ] {
        all.push(encode(vec![("type", Value::from(kind))]));
        for field in
            ["senderId", "targetId", "documentId", "data", "supportedProtocolVersions", "version", "ask", "session"]
        {
            all.extend(wrong().map(|value| encode(vec![("type", Value::from(kind)), (field, value)])));
        }
    }
    all.extend(wrong().map(|value| encode(vec![("type", value)])));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_a_joined_connection() {
    let mut stage = Stage::set().await;
    let good = sync_frame(&stage.bystander, &DocumentId::random().to_string(), Value::Bytes(vec![0x42, 0, 0, 0, 0]));
    let truncated = (0..good.len()).step_by(3).map(|length| good[..length].to_vec());
    // Each on a connection of its own, since the one before may have ended it.
    for some in nonsense().into_iter().chain(truncated).collect::<Vec<_>>().chunks(8) {
        join_all(some.iter().map(|bytes| async { stage.peer().await.says(bytes.clone()).await })).await;
    }
    for text in ["", "hello", "{\"type\":\"join\"}"] {
        stage.peer().await.send_text(text).await.unwrap();
    }
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_in_place_of_the_first_message() {
    let mut stage = Stage::set().await;
    let (address, token) = (stage.skein.address, stage.skein.token());
    for path in ["/sync", "/catalog"] {
        for some in nonsense().chunks(8) {
            let opened = some.iter().map(|bytes| async {
                let mut socket = RawSocket::open(address, path, &token).await;
                socket.write(&frame(BINARY, bytes)).await;
                let _ = socket.0.shutdown().await;
                assert!(socket.closes().await, "the relay keeps a connection whose other end has gone");
            });
            join_all(opened).await;
        }
    }
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_messages_that_lie() {
    let mut stage = Stage::set().await;
    let huge = leb128(1 << 32);
    let no_hashes = [0_u8];
    let mut lies: Vec<Vec<u8>> = (0..100).map(|length| [&[0x42], &random_bytes(length)[..]].concat()).collect();
    lies.extend((0..50).map(random_bytes));
    for version in [0x42_u8, 0x43] {
        // 2^32 heads, needs, haves, changes; with and without something behind them.
        let prefixes = [vec![], vec![no_hashes], vec![no_hashes; 2], vec![no_hashes; 3]];
        for prefix in prefixes {
            for behind in [0, 32, 4096] {
                lies.push([&[version], &prefix.concat()[..], &huge, &random_bytes(behind)].concat());
            }
        }
        // A filter that claims 2^32 entries of 2^32 bits each, and one change of 2^60 bytes.
        lies.push([&[version, 0, 0, 1, 0][..], &leb128(5 + 5 + 1), &huge, &huge, &[7]].concat());
        lies.push([&[version, 0, 0, 0, 1][..], &leb128(1 << 60), &[1, 2, 3]].concat());
        lies.push([&[version, 0, 0, 0, 1][..], &leb128(1 << 60)].concat());
    }
    // Of a document that the relay has, and of one that it hasn't.
    for document in [stage.document, DocumentId::random()] {
        for some in lies.chunks(8) {
            let told = some.iter().map(|lie| async {
                let peer = stage.peer().await;
                let frame = sync_frame(&peer, &document.to_string(), Value::Bytes(lie.clone()));
                peer.says(frame).await;
            });
            join_all(told).await;
        }
    }
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_were_tampered_with_reach_nobody() {
    let mut stage = Stage::set().await;
    // Changes on top of the shared document, each with some bytes changed, in otherwise right messages.
    for round in 0..200 {
        let mut peer = stage.peer().await;
        peer.sync(stage.document).await;
        let heads = stage.bystander.document(stage.document).get_heads();
        peer.until("the document came", stage.document, |document| document.get_heads() == heads).await;
        let replica = peer.document(stage.document);
        replica.transact::<_, _, AutomergeError>(|tx| tx.put(ROOT, "tampered", round)).unwrap();
        let hash = replica.get_heads();
        let mut change = replica.get_change_by_hash(&hash[0]).unwrap().raw_bytes().to_vec();
        let at = rand::rng().random_range(0..change.len());
        change[at] ^= 1 << rand::rng().random_range(0..8);
        let message = [&[0x42, 1][..], &hash[0].0, &[0, 0, 1], &leb128(change.len() as u64), &change].concat();
        let _ = peer.send_about("sync", stage.document, message).await;
        // It may be told so, or be cut off.
        let _ = tokio::time::timeout(Duration::from_millis(5), peer.next()).await;
        if round % 40 == 0 {
            stage.bystander_goes_on().await;
        }
    }
    stage.is_unharmed().await;
    use automerge::ReadDoc;
    assert!(stage.bystander.document(stage.document).get(ROOT, "tampered").unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn document_ids_that_are_none() {
    let mut stage = Stage::set().await;
    let long = "1".repeat(1 << 20);
    let good = DocumentId::random().to_string();
    let wrong_check = format!("{}{}", &good[..good.len() - 1], if good.ends_with('2') { '3' } else { '2' });
    for id in ["", "x", "automerge:", "../../etc/passwd", "\0", "🧶", long.as_str(), wrong_check.as_str()] {
        for kind in ["sync", "request", "ephemeral", "doc-unavailable"] {
            let mut peer = stage.peer().await;
            let message = encode(vec![
                ("type", Value::from(kind)),
                ("senderId", Value::from(peer.id.as_str())),
                ("targetId", Value::from(peer.relay.as_str())),
                ("documentId", Value::from(id)),
                ("sessionId", Value::from("s")),
                ("count", Value::from(1)),
                ("data", Value::Bytes(vec![0x42, 0, 0, 0, 0])),
            ]);
            peer.send_bytes(message).await.unwrap();
        }
    }
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_sender_id() {
    let mut stage = Stage::set().await;
    let mut listener = stage.peer().await;
    listener.sync(stage.document).await;
    let heads = stage.bystander.document(stage.document).get_heads();
    listener.until("the listener follows", stage.document, |document| document.get_heads() == heads).await;

    // In the bystander's name: an ephemeral message to all, and its farewell.
    let mut liar = stage.peer().await;
    liar.sync(stage.document).await;
    let in_anothers_name = |kind: &str| {
        encode(vec![
            ("type", Value::from(kind)),
            ("senderId", Value::from(stage.bystander.id.as_str())),
            ("targetId", Value::from(liar.relay.as_str())),
            ("documentId", Value::from(stage.document.to_string())),
            ("sessionId", Value::from("forged")),
            ("count", Value::from(1)),
            ("data", Value::Bytes(vec![0xf6])),
        ])
    };
    let (forged, farewell) = (in_anothers_name("ephemeral"), in_anothers_name("leave"));
    let _ = liar.send_bytes(forged).await;
    let _ = liar.send_bytes(farewell).await;

    // What follows it to the listener comes through, and nothing forged before it.
    stage.bystander.broadcast(stage.document, vec![0x07]).await;
    loop {
        match within("an ephemeral message", listener.next()).await {
            Event::Ephemeral { data, .. } => {
                assert_eq!(data, [0x07], "a forged message was passed on");
                break;
            }
            Event::Closed => panic!("the listener was cut off"),
            _ => {}
        }
    }

    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_version_that_is_not_spoken_is_named() {
    let mut stage = Stage::set().await;
    let mut peer = stage.peer().await;
    // A second join, with another version: on a connection of its own it would be the first.
    let mut socket = RawSocket::open(stage.skein.address, "/sync", &stage.skein.token()).await;
    let versions = Value::Array(vec![Value::from("2")]);
    let join = encode(vec![
        ("type", Value::from("join")),
        ("senderId", Value::from("from the future")),
        ("supportedProtocolVersions", versions),
    ]);
    socket.write(&frame(BINARY, &join)).await;
    let mut said = Vec::new();
    let answer = async {
        use tokio::io::AsyncReadExt;
        let _ = socket.0.read_to_end(&mut said).await;
    };
    within("the refusal", answer).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("error") && said.contains("version"), "{said}");

    let _ = peer.send_bytes(join).await;
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_unknown_documents() {
    let mut stage = Stage::set().await;
    let mut peer = stage.peer().await;
    for _ in 0..5_000 {
        peer.sync(DocumentId::random()).await;
    }
    stage.bystander_goes_on().await;
    let mut unavailable = 0;
    let answered = async {
        while unavailable < 5_000 {
            match peer.next().await {
                Event::Unavailable(_) => unavailable += 1,
                Event::Closed => break,
                _ => {}
            }
        }
    };
    within("5,000 answers", answered).await;
    drop(peer);
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_200_megabytes_is_not_taken_into_memory() {
    let mut stage = Stage::set().await;
    let before = stage.skein.memory().resident;
    let mut socket = RawSocket::open(stage.skein.address, "/sync", &stage.skein.token()).await;
    let size: u64 = 200 << 20;
    socket.write(&[&header(0x80 | BINARY, true, size)[..], &[0; 4]].concat()).await;
    let piece = vec![0; 1 << 20];
    let sent = async {
        for _ in 0..200 {
            if !socket.write(&piece).await {
                return;
            }
        }
    };
    within("the end of the frame", sent).await;
    assert!(socket.closes().await, "the connection is still open");
    let peak = stage.skein.memory().peak;
    assert!(peak < before + (96 << 20), "{before} bytes became {peak}");

    // The same in 200 pieces of one message.
    let mut socket = RawSocket::open(stage.skein.address, "/sync", &stage.skein.token()).await;
    let sent = async {
        for n in 0..200 {
            let first = if n == 0 { BINARY } else { 0 };
            let head = [&header(first, true, piece.len() as u64)[..], &[0; 4]].concat();
            if !socket.write(&head).await || !socket.write(&piece).await {
                return;
            }
        }
    };
    within("the end of the message", sent).await;
    assert!(socket.closes().await, "the connection is still open");
    let peak = stage.skein.memory().peak;
    assert!(peak < before + (96 << 20), "{before} bytes became {peak}");
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_websocket_frames_end_their_connection() {
    let mut stage = Stage::set().await;
    let masked = |head: Vec<u8>, payload: &[u8]| [&head[..], &[0; 4], payload].concat();
    let malformed: Vec<(&str, Vec<u8>)> = vec![
        ("an oversized ping", frame(PING, &[0; 126])),
        ("a ping in fragments", masked(header(PING, true, 4), &[0; 4])),
        ("reserved bits", masked(header(0x80 | 0x70 | BINARY, true, 4), &[0; 4])),
        ("a compressed frame that was not agreed on", masked(header(0x80 | 0x40 | BINARY, true, 4), &[0; 4])),
        ("an unknown opcode", frame(3, &[0; 4])),
        ("an unknown control opcode", frame(0xb, &[0; 4])),
        ("no mask", [&header(0x80 | BINARY, false, 4)[..], &[0; 4]].concat()),
        ("a length of 2^62", masked(header(0x80 | BINARY, true, 1 << 62), &[0; 64])),
        ("a length of 2^63", masked(header(0x80 | BINARY, true, 1 << 63), &[0; 64])),
        ("a continuation of nothing", frame(0, &[0; 4])),
        ("a message within another", [masked(header(BINARY, true, 1), &[0]), frame(BINARY, &[0])].concat()),
        ("text that is not UTF-8", frame(1, &[0xff, 0xfe, 0xc0])),
        ("a close frame of one byte", frame(8, &[0])),
        ("a close code that does not exist", frame(8, &[0x03, 0xff])),
    ];
    for path in ["/sync", "/catalog"] {
        for (what, bytes) in &malformed {
            let mut socket = RawSocket::open(stage.skein.address, path, &stage.skein.token()).await;
            socket.write(bytes).await;
            assert!(socket.closes().await, "{path} goes on after {what}");
        }
    }
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_connections_that_say_nothing() {
    let mut stage = Stage::set().await;
    let (address, token) = (stage.skein.address, stage.skein.token());
    let mut silent = Vec::new();
    let mut sockets = Vec::new();
    for _ in 0..150 {
        silent.push(TcpStream::connect(address).await.unwrap());
        sockets.push(RawSocket::open(address, "/sync", &token).await);
    }
    // One that stops in the middle of its request, for good measure.
    silent[0].write_all(b"GET /sync HTTP/1.1\r\nHost:").await.unwrap();
    stage.bystander_goes_on().await;
    let mut newcomer = stage.peer().await;
    newcomer.sync(stage.document).await;
    let heads = stage.bystander.document(stage.document).get_heads();
    newcomer.until("a newcomer is served beside them", stage.document, |document| document.get_heads() == heads).await;
    drop((silent, sockets));
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_never_reads() {
    let mut stage = Stage::set().await;
    let before = stage.skein.memory().resident;
    // It follows the document, and then its socket is never read again.
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut peer = stage.peer().await;
        peer.sync(stage.document).await;
        let heads = stage.bystander.document(stage.document).get_heads();
        peer.until("it follows", stage.document, |document| document.get_heads() == heads).await;
        peer.stop_reading();
        deaf.push(peer);
    }
    // 30 MB for each: 600 MB if they were queued, of which the system's own buffers take some.
    let text: String = random_bytes(250_000).iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    for _ in 0..120 {
        stage.bystander_writes(&text).await;
    }
    let now = stage.skein.memory().resident;
    assert!(now < before + (160 << 20), "{before} bytes became {now}");
    stage.bystander_goes_on().await;

    // One that reads again has everything.
    let mut awake = deaf.pop().unwrap();
    awake.read_again();
    let heads = stage.bystander.document(stage.document).get_heads();
    awake.until("it catches up", stage.document, |document| document.get_heads() == heads).await;
    drop((deaf, awake));
    stage.bystander_goes_on().await;
    let log = stage.skein.home.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_http_that_are_none() {
    let mut stage = Stage::set().await;
    let (address, token) = (stage.skein.address, stage.skein.token());
    let bearer = format!("Authorization: Bearer {token}");
    let client_error = |what: &str, answer: skein_tests::raw::Answer| {
        assert!((400..500).contains(&answer.status), "{what}: {}", answer.head);
    };
    for body in [&b""[..], b"null", b"{\"code\": 7}", b"{\"code\": \"x\", \"name\": null}", b"\xff\xfe", b"[[[[[[["] {
        let json = "Content-Type: application/json";
        client_error("a pairing of nonsense", http(address, "POST", "/pair", &[json], body).await);
    }
    let zeros = "0".repeat(64);
    client_error(
        "a blob by another's hash",
        http(address, "PUT", &format!("/blobs/{zeros}"), &[&bearer], b"text").await,
    );
    client_error("a blob by no hash", http(address, "PUT", "/blobs/x", &[&bearer], b"text").await);
    client_error("a blob without a token", http(address, "GET", &format!("/blobs/{zeros}"), &[], b"").await);
    client_error("a missing asset", http(address, "GET", "/assets/none.js", &[], b"").await);
    for path in
        ["/../../../../etc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/assets/..%2f..%2fCargo.toml"]
    {
        client_error(path, http(address, "GET", path, &[], b"").await);
    }
    for path in ["/sync", "/catalog", "/whoami"] {
        client_error(path, http(address, "GET", path, &["Authorization: Bearer wrong"], b"").await);
    }
    // No web page reaches a relay on this machine: neither by its own name for it, nor from its own origin.
    let answer = http(address, "GET", "/health", &["Host: evil.example"], b"").await;
    assert!(String::from_utf8_lossy(&answer.body).contains("evil.example"), "{}", answer.head);
    client_error("another's host", answer);
    let answer = http(address, "POST", "/tickets", &[&bearer, "Origin: http://evil.example"], b"").await;
    client_error("another's origin", answer);
    stage.is_unharmed().await;
}
