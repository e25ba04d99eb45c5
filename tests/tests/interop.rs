//! Stock JavaScript clients (`@automerge/automerge-repo` 2.5 with its own WebSocket adapter) against the real relay:
//! what they write is read by others and survives the relay, and a session needs nothing else than a document.

#![allow(clippy::unwrap_used)]

use automerge::transaction::Transactable;
use automerge::{Automerge, ROOT, ReadDoc};
use serde_json::json;
use skein_engine::ids::DocumentId;
use skein_tests::js::Js;
use skein_tests::peer::{Event, Peer};
use skein_tests::skein::Home;
use skein_tests::within;

fn read_text(document: &Automerge, key: &str) -> Option<String> {
    match document.get(ROOT, key).unwrap()? {
        (automerge::Value::Object(_), text) => Some(document.text(text).unwrap()),
        (value, _) => value.as_str().map(str::to_owned),
    }
}

fn put(document: &mut Automerge, key: &str, value: &str) {
    document.transact::<_, _, automerge::AutomergeError>(|tx| tx.put(ROOT, key, value)).unwrap();
}

#[tokio::test]
async fn what_javascript_writes_rust_reads_and_a_fresh_client_finds_after_a_restart() {
    let skein = Home::new().serve().await;
    let mut js = Js::connect(&skein.sync_url()).await;
    let id = js.create(json!({"from": "JavaScript", "numbers": [1, 2, 3]})).await;
    let document: DocumentId = id.parse().unwrap();

    let mut rust = Peer::join(&skein.sync_url()).await;
    rust.sync(document).await;
    rust.until("Rust reads what JavaScript wrote", document, |document| {
        read_text(document, "from").as_deref() == Some("JavaScript")
    })
    .await;

    put(rust.document(document), "answer", "Rust");
    rust.until_acknowledged(document).await;
    let seen = js.until(&id, "document => document.answer === 'Rust'").await;
    assert_eq!(seen["numbers"], json!([1, 2, 3]));

    let skein = skein.crash_and_restart().await;
    let mut fresh = Js::connect(&skein.sync_url()).await;
    let found = fresh.find(&id).await.expect("a fresh client finds the document");
    assert_eq!(found, json!({"from": "JavaScript", "numbers": [1, 2, 3], "answer": "Rust"}));
}

#[tokio::test]
async fn ephemeral_messages_pass_both_ways() {
    let skein = Home::new().serve().await;
    let mut first = Js::connect(&skein.sync_url()).await;
    let id = first.create(json!({"kind": "anything"})).await;
    let document: DocumentId = id.parse().unwrap();
    let mut second = Js::connect(&skein.sync_url()).await;
    second.find(&id).await.expect("the second client finds it");
    let mut rust = Peer::join(&skein.sync_url()).await;
    rust.sync(document).await;
    rust.until("Rust has the document", document, |document| read_text(document, "kind").is_some()).await;

    first.broadcast(&id, json!({"cursor": 7})).await;
    assert_eq!(second.hear(&id).await, json!({"cursor": 7}));
    second.broadcast(&id, json!({"cursor": 8})).await;
    assert_eq!(first.hear(&id).await, json!({"cursor": 8}));

    let mut heard = Vec::new();
    while heard.len() < 2 {
        match within("two ephemeral messages for Rust", rust.next()).await {
            Event::Ephemeral { data, .. } => {
                heard.push(ciborium::from_reader::<serde_json::Value, _>(&data[..]).unwrap())
            }
            Event::Closed => panic!("the connection ended"),
            _ => {}
        }
    }
    assert_eq!(heard, [json!({"cursor": 7}), json!({"cursor": 8})]);

    let mut payload = Vec::new();
    ciborium::into_writer(&json!({"from": "Rust"}), &mut payload).unwrap();
    rust.broadcast(document, payload).await;
    assert_eq!(first.hear(&id).await, json!({"from": "Rust"}));
    assert_eq!(second.hear(&id).await, json!({"from": "Rust"}));
}

#[tokio::test]
async fn an_unknown_document_is_unavailable() {
    let skein = Home::new().serve().await;
    let mut js = Js::connect(&skein.sync_url()).await;
    assert_eq!(js.find(&DocumentId::random().to_string()).await, None);
}

#[tokio::test]
async fn a_document_is_found_whose_creator_is_just_bringing_it() {
    let skein = Home::new().serve().await;
    let document = DocumentId::random();
    let mut creator = Peer::join(&skein.sync_url()).await;
    let mut js = Js::connect(&skein.sync_url()).await;
    let id = document.to_string();
    // The question is on its way before the document is.
    let (found, ()) = tokio::join!(js.find(&id), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        put(creator.document(document), "late", "but here");
        creator.until_acknowledged(document).await;
    });
    assert_eq!(found, Some(json!({"late": "but here"})));
}

#[tokio::test]
async fn clients_that_were_connected_before_a_crash_come_back_by_themselves() {
    let skein = Home::new().serve().await;
    let mut first = Js::connect(&skein.sync_url()).await;
    let mut second = Js::connect(&skein.sync_url()).await;
    let id = first.create(json!({"lines": ["before the crash"]})).await;
    second.find(&id).await.expect("the second client finds it");

    let listen = skein.address.to_string();
    let home = skein.kill().await;
    first.change(&id, "document => { document.lines.push('while it was down') }").await;
    let _skein = home.start("serve", &listen).await;

    let seen = second.until(&id, "document => document.lines.length === 2").await;
    assert_eq!(seen["lines"][1], "while it was down");
    second.change(&id, "document => { document.lines.push('after it') }").await;
    first.until(&id, "document => document.lines.length === 3").await;
}

#[tokio::test]
async fn a_stock_client_creates_a_session_and_gets_the_workers_answer() {
    let skein = Home::new().serve().await;
    let mut js = Js::connect(&skein.sync_url()).await;
    // The least session that a foreign client may write.
    let id = js
        .create(json!({
            "schema": 1,
            "kind": "session",
            "messages": [{
                "id": "aaaaaaaaaaaaaaaaaaaaaa",
                "role": "user",
                "parts": [{"type": "text", "chunks": ["Good morning, who are you?"]}],
            }],
            "runs": {},
            "requests": {},
        }))
        .await;
    let answered = js
        .until(
            &id,
            "document => Object.values(document.runs).some(run => run.state === 'completed' && run.answers.length)",
        )
        .await;
    let answers: Vec<_> =
        answered["messages"].as_array().unwrap().iter().filter(|m| m["role"] == "assistant").collect();
    assert!(!answers.is_empty(), "{answered}");

    // What it reads in the document is what the command line shows.
    skein.session(&["wait", &id]).await;
    let shown = skein.session_json(&["show", &id]).await;
    let texts = |message: &serde_json::Value| -> String {
        let parts = message["parts"].as_array().unwrap().iter().filter(|part| part["type"] == "text");
        parts
            .map(|part| match part["chunks"].as_array() {
                Some(chunks) => chunks.iter().map(|chunk| chunk.as_str().unwrap()).collect::<String>(),
                None => part["text"].as_str().unwrap().to_owned(),
            })
            .collect()
    };
    let in_document: String = answers.iter().map(|message| texts(message)).collect();
    let messages = shown["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "user");
    assert_eq!(texts(&messages[0]), "Good morning, who are you?");
    let on_screen: String = messages.iter().filter(|m| m["role"] == "assistant").map(texts).collect();
    assert!(!in_document.is_empty());
    assert_eq!(on_screen, in_document);
}
