//! `/sync` with peers that speak automerge's own protocol, and who is let in.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ROOT, ReadDoc};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use skein_engine::ids::{DocumentId, PeerId, random_bytes, random_id};
use support::{Peer, bring, dial, open, relay, session, status, within};
use tokio_tungstenite::tungstenite::Message;

fn kind(document: &AutoCommit) -> Option<String> {
    document.get(ROOT, "kind").unwrap().and_then(|(value, _)| value.into_string().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_peer_brings_another_reads_edits_and_sends_back() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut one = bring(&relay, "hello").await;
    let mut two = Peer::join(relay.address(), relay.owner_token(), one.document).await;
    two.until(|document| kind(document).as_deref() == Some("session")).await;
    two.content.put(ROOT, "position", "0000000001").unwrap();
    two.until_acknowledged().await;
    one.until(|document| document.get(ROOT, "position").unwrap().is_some()).await;
    assert_eq!(one.content.get_heads(), two.content.get_heads());
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_document_is_unavailable_and_one_that_is_just_coming_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut lost = Peer::join(relay.address(), relay.owner_token(), DocumentId::random()).await;
    lost.say().await;
    assert!(!lost.hear().await);

    let document = DocumentId::random();
    let mut early = Peer::join(relay.address(), relay.owner_token(), document).await;
    early.say().await;
    let socket = dial(relay.address(), "/sync", relay.owner_token()).await;
    let mut creator = Peer::over(socket, PeerId::from(random_id()), document, session("hello")).await;
    creator.until_acknowledged().await;
    early.until(|document| kind(document).as_deref() == Some("session")).await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = relay(folder.path()).await;
    let peer = bring(&first, "hello").await;
    let (token, workspace) = (first.owner_token().to_owned(), first.workspace_document());
    first.shutdown().await;
    let second = relay(folder.path()).await;
    assert_eq!((second.owner_token(), second.workspace_document()), (token.as_str(), workspace));
    let mut fresh = Peer::join(second.address(), &token, peer.document).await;
    fresh.until(|document| kind(document).as_deref() == Some("session")).await;
    let mut fresh = Peer::join(second.address(), &token, workspace).await;
    fresh.until(|document| kind(document).as_deref() == Some("workspace")).await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_by_header_by_ticket_or_in_the_address_and_nobody_else_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let (address, token) = (relay.address(), relay.owner_token().to_owned());
    let bearer = format!("Bearer {token}");

    assert_eq!(status(open(address, "/sync", &[("authorization", &bearer)]).await), 101);
    assert_eq!(status(open(address, &format!("/sync?access_token={token}"), &[]).await), 101);
    assert_eq!(status(open(address, &format!("/catalog?access_token={token}"), &[]).await), 401);
    for path in ["/sync", "/catalog", "/sync?access_token=wrong", "/sync?ticket=wrong", "/catalog?ticket=wrong"] {
        assert_eq!(status(open(address, path, &[]).await), 401, "{path}");
    }
    assert_eq!(status(open(address, "/sync", &[("authorization", "Bearer wrong")]).await), 401);

    for path in ["/sync", "/catalog"] {
        let answer = support::client().post(format!("http://{address}/tickets")).bearer_auth(&token).send().await;
        let answer: Value = answer.unwrap().json().await.unwrap();
        let path = format!("{path}?ticket={}", answer["ticket"].as_str().unwrap());
        assert_eq!(status(open(address, &path, &[]).await), 101);
        assert_eq!(status(open(address, &path, &[]).await), 401, "a ticket is used once");
    }
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_of_another_site_opens_a_socket() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let bearer = format!("Bearer {}", relay.owner_token());
    let own = format!("http://{}", relay.address());
    for (origin, expected) in [(own.as_str(), 101), ("http://evil.example", 403), ("null", 403)] {
        let opened = open(relay.address(), "/sync", &[("authorization", &bearer), ("origin", origin)]).await;
        assert_eq!(status(opened), expected, "{origin}");
    }
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_its_connection_and_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut good = bring(&relay, "hello").await;
    let nonsense = [
        Message::Text("{}".into()),
        Message::Binary(vec![0xf6].into()),
        Message::Binary(vec![0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0].into()),
        Message::Binary([vec![0x81; 100_000], vec![0]].concat().into()),
    ];
    for path in ["/sync", "/catalog"] {
        for message in &nonsense {
            let mut socket = dial(relay.address(), path, relay.owner_token()).await;
            socket.send(message.clone()).await.unwrap();
            // An error may be said first; then it is over.
            within("the end of a bad connection", async {
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() {
                        break;
                    }
                }
            })
            .await;
        }
    }
    good.content.put(ROOT, "position", "0000000001").unwrap();
    good.until_acknowledged().await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_are_ended() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut silent = Vec::new();
    for path in ["/sync", "/catalog"].repeat(20) {
        silent.push(dial(relay.address(), path, relay.owner_token()).await);
    }
    let mut bare = tokio::net::TcpStream::connect(relay.address()).await.unwrap();
    within("the end of silence", async {
        for mut socket in silent {
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() {
                    break;
                }
            }
        }
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut bare, &mut Vec::new()).await;
    })
    .await;
    bring(&relay, "hello").await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_never_reads_holds_up_nobody_and_catches_up_when_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut writer = bring(&relay, "hello").await;
    let mut deaf = Peer::join(relay.address(), relay.owner_token(), writer.document).await;
    deaf.until(|document| kind(document).as_deref() == Some("session")).await;
    let mut reader = Peer::join(relay.address(), relay.owner_token(), writer.document).await;
    reader.until(|document| kind(document).as_deref() == Some("session")).await;
    // 14 MB that don't compress: more than sockets buffer, less than this client takes in one message.
    for n in 0..28_i64 {
        let noise: Vec<u8> = (0..16_384).flat_map(|_| random_bytes::<32>()).collect();
        writer.content.put(ROOT, "noise", automerge::ScalarValue::Bytes(noise)).unwrap();
        writer.content.put(ROOT, "n", n).unwrap();
        writer.until_acknowledged().await;
    }
    let last =
        |document: &AutoCommit| document.get(ROOT, "n").unwrap().and_then(|(value, _)| value.as_i64()) == Some(27);
    reader.until(last).await;
    deaf.until(last).await;
    relay.shutdown().await;
}
