//! Workspaces, members, tokens and pairing: what each may do, and that what is taken away ends at once.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ROOT, ReadDoc};
use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use skein_engine::ids::{DocumentId, Epoch, PeerId, random_actor, random_id};
use skein_engine::session::conversation::{MemberRole, WriterKind};
use skein_engine::wire::catalog::{FromRelay, ToRelay};
use skein_engine::wire::frame::{Frame, SyncFrame};
use skein_relay::Relay;
use support::{Catalog, Peer, Socket, bring, client, dial, next, open, relay, session, status, within};
use tokio_tungstenite::tungstenite::Message;

/// Someone with a token.
struct Who<'a> {
    relay: &'a Relay,
    token: String,
}

impl<'a> Who<'a> {
    fn owner(relay: &'a Relay) -> Self {
        Self { relay, token: relay.owner_token().to_owned() }
    }

    fn with(&self, token: &Value) -> Self {
        Self { relay: self.relay, token: token.as_str().unwrap().to_owned() }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = client().request(method, format!("http://{}{path}", self.relay.address()));
        let request = request.bearer_auth(&self.token);
        let answer = if body.is_null() { request } else { request.json(&body) }.send().await.unwrap();
        let status = answer.status();
        let body = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.ask(Method::POST, path, body).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body
    }

    async fn refused(&self, method: Method, path: &str, body: Value) -> (u16, String) {
        let (status, body) = self.ask(method, path, body).await;
        (status.as_u16(), body["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    async fn add(&self, name: &str, role: &str) -> (String, Self) {
        let added = self.post("/members", json!({ "name": name, "role": role })).await;
        (added["id"].as_str().unwrap().to_owned(), self.with(&added["token"]))
    }
}

/// Waits until the relay closes; the reason that it gave.
async fn end(socket: &mut Socket) -> String {
    within("the end of a connection", async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|f| f.reason.to_string()).unwrap_or_default(),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return String::new(),
            }
        }
    })
    .await
}

fn kind(document: &AutoCommit) -> Option<String> {
    document.get(ROOT, "kind").unwrap().and_then(|(value, _)| value.into_string().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_have_roles_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let owner = Who::owner(&relay);
    let mut watching = Catalog::open(relay.address(), relay.owner_token(), None).await;
    let (bob, bobs) = owner.add("Bob", "member").await;
    let told = watching.told(|told| matches!(told, FromRelay::Members { .. })).await;
    let FromRelay::Members { members } = told else { unreachable!() };
    assert!(members.iter().any(|member| member.id == bob && member.name == "Bob"));
    let listed = bobs.get("/members").await;
    assert_eq!(listed[1], json!({ "id": bob, "name": "Bob", "role": "member", "you": true }));
    assert_eq!(bobs.get("/whoami").await["memberName"], "Bob");

    // Bob has a profile of his own, and shares the sessions.
    let catalog = Catalog::open(relay.address(), &bobs.token, None).await;
    let mut profile = Peer::join(relay.address(), &bobs.token, catalog.welcome.profile.unwrap()).await;
    profile.until(|document| kind(document).as_deref() == Some("profile")).await;
    let hers = bring(&relay, "hello").await;
    let mut reads = Peer::join(relay.address(), &bobs.token, hers.document).await;
    reads.until(|document| kind(document).as_deref() == Some("session")).await;
    reads.content.put(ROOT, "position", "1").unwrap();
    reads.until_acknowledged().await;

    for (method, path, body) in [
        (Method::POST, "/members".to_owned(), json!({ "name": "Eve" })),
        (Method::PATCH, format!("/members/{bob}"), json!({ "role": "owner" })),
        (Method::DELETE, format!("/members/{bob}"), Value::Null),
        (Method::POST, "/workspaces".to_owned(), json!({ "name": "Bob's" })),
        (Method::POST, "/tokens".to_owned(), json!({ "name": "mine", "kind": "worker" })),
    ] {
        assert_eq!(bobs.refused(method, &path, body).await, (403, "forbidden".into()), "{path}");
    }
    assert_eq!(owner.refused(Method::POST, "/members", json!({ "name": "bob" })).await, (409, "name-taken".into()));
    assert_eq!(owner.refused(Method::POST, "/members", json!({ "name": "\u{7}" })).await, (400, "bad-request".into()));
    let unknown = format!("/members/{}", random_id());
    assert_eq!(owner.refused(Method::DELETE, &unknown, Value::Null).await, (404, "not-found".into()));
    let me = owner.get("/whoami").await["member"].as_str().unwrap().to_owned();
    let last = owner.refused(Method::DELETE, &format!("/members/{me}"), Value::Null).await;
    assert_eq!(last, (409, "last-owner".into()));

    let (status, _) = owner.ask(Method::DELETE, &format!("/members/{bob}"), Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(owner.get("/members").await.as_array().unwrap().len(), 1);
    assert_eq!(bobs.refused(Method::GET, "/whoami", Value::Null).await, (401, "token".into()));
    // What he wrote keeps his name.
    let catalog = Catalog::open(relay.address(), relay.owner_token(), None).await;
    assert!(catalog.welcome.members.iter().any(|member| member.id == bob && member.name == "Bob"));
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_ends_when_a_member_is_removed_a_token_revoked_or_a_role_changed() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let owner = Who::owner(&relay);
    let (bob, bobs) = owner.add("Bob", "member").await;
    let (_, carols) = owner.add("Carol", "member").await;
    let tool = bobs.post("/tokens", json!({ "name": "script", "kind": "tool" })).await;
    let tool_token = tool["token"].as_str().unwrap();
    let mut stays = Catalog::open(relay.address(), &carols.token, None).await;

    // Revoked: the token's two sockets, and no other of the member.
    let mut with_tool = Peer::join(relay.address(), tool_token, DocumentId::random()).await;
    let mut tools_catalog = Catalog::open(relay.address(), tool_token, None).await;
    let mut bobs_sync = Peer::join(relay.address(), &bobs.token, relay.workspace_document()).await;
    let path = format!("/tokens/{}", tool["id"].as_str().unwrap());
    assert_eq!(carols.refused(Method::DELETE, &path, Value::Null).await, (404, "not-found".into()));
    assert_eq!(bobs.ask(Method::DELETE, &path, Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(end(&mut with_tool.socket).await, "this token was revoked");
    assert_eq!(end(&mut tools_catalog.socket).await, "this token was revoked");
    let bearer = format!("Bearer {tool_token}");
    assert_eq!(status(open(relay.address(), "/sync", &[("authorization", &bearer)]).await), 401);

    // Another role: it begins anew, and is a viewer's from its first message on.
    bobs_sync.until(|document| kind(document).is_some()).await;
    let (status, _) = owner.ask(Method::PATCH, &format!("/members/{bob}"), json!({ "role": "viewer" })).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(end(&mut bobs_sync.socket).await, "this member's role was changed");
    let again = Catalog::open(relay.address(), &bobs.token, None).await;
    assert_eq!(again.welcome.role, MemberRole::Viewer);

    // Removed.
    let mut bobs_sync = Peer::join(relay.address(), &bobs.token, relay.workspace_document()).await;
    let (status, _) = owner.ask(Method::DELETE, &format!("/members/{bob}"), Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(end(&mut bobs_sync.socket).await, "this member was removed from the workspace");

    // Nobody else noticed.
    stays.say(&ToRelay::Follow { document: relay.workspace_document() }).await;
    stays.told(|told| matches!(told, FromRelay::Writers { .. })).await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_after_a_removal_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let owner = Who::owner(&relay);
    let mut hers = bring(&relay, "hello").await;
    for round in 0..5 {
        let (bob, bobs) = owner.add(&format!("Bob {round}"), "member").await;
        let mut peer = Peer::join(relay.address(), &bobs.token, hers.document).await;
        peer.until(|document| kind(document).is_some()).await;
        peer.until_acknowledged().await;
        let (status, _) = owner.ask(Method::DELETE, &format!("/members/{bob}"), Value::Null).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        // The answer is there: whatever he says from now on is too late, though his socket may still be open.
        peer.content.put(ROOT, "deletedAt", 1).unwrap();
        let message = peer.message().unwrap();
        let _ = peer.socket.send(Message::Binary(message.into())).await;
        end(&mut peer.socket).await;
    }
    hers.content.put(ROOT, "position", "1").unwrap();
    hers.until_acknowledged().await;
    let mut fresh = Peer::join(relay.address(), relay.owner_token(), hers.document).await;
    fresh.until(|document| document.get(ROOT, "position").unwrap().is_some()).await;
    assert_eq!(fresh.content.get_heads(), hers.content.get_heads());
    assert!(fresh.content.get(ROOT, "deletedAt").unwrap().is_none());
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_listed_with_what_they_are_and_when_they_were_used() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let owner = Who::owner(&relay);
    let (bob, bobs) = owner.add("Bob", "member").await;
    let made = bobs.post("/tokens", json!({ "name": "reports", "kind": "tool", "readOnly": true })).await;
    let reports = bobs.with(&made["token"]);
    let find = |list: &Value| list.as_array().unwrap().iter().find(|row| row["id"] == made["id"]).cloned();
    let row = find(&bobs.get("/tokens").await).unwrap();
    assert_eq!((row["name"].as_str(), row["kind"].as_str()), (Some("reports"), Some("tool")));
    assert_eq!((row["readOnly"].as_bool(), row["current"].as_bool()), (Some(true), Some(false)));
    assert_eq!((row["member"].as_str(), row["memberName"].as_str()), (Some(bob.as_str()), Some("Bob")));
    assert!(row["created"].as_u64().is_some() && row["lastUsed"].is_null() && row.get("hash").is_none());
    assert_eq!(reports.get("/whoami").await["kind"], "tool");
    let row = find(&owner.get("/tokens").await).unwrap();
    assert!(row["lastUsed"].as_u64() >= row["created"].as_u64(), "an owner sees everyone's: {row}");
    let bobs_rows = bobs.get("/tokens").await;
    let bobs_rows = bobs_rows.as_array().unwrap();
    assert!(bobs_rows.len() == 2 && bobs_rows.iter().all(|row| row["member"] == bob.as_str()));
    assert_eq!(bobs_rows.iter().filter(|row| row["current"] == true).count(), 1);
    // A tool makes nothing of its own.
    for (path, body) in [("/tokens", json!({ "name": "x", "kind": "tool" })), ("/codes", json!({}))] {
        assert_eq!(reports.refused(Method::POST, path, body).await, (403, "forbidden".into()));
    }
    // It reads, is told that it may not write, and has no profile.
    let hers = bring(&relay, "hello").await;
    let mut reads = Peer::join(relay.address(), &reports.token, hers.document).await;
    reads.until(|document| kind(document).is_some()).await;
    assert!(reads.may_only_read());
    let catalog = Catalog::open(relay.address(), &reports.token, None).await;
    assert_eq!(catalog.welcome.profile, None);

    // After a restart it is known when it was used.
    let (token, address) = (owner.token.clone(), folder.path());
    relay.shutdown().await;
    let relay = support::relay(address).await;
    let owner = Who { relay: &relay, token };
    assert!(find(&owner.get("/tokens").await).unwrap()["lastUsed"].is_u64());
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_code_signs_a_device_of_the_same_member_in_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = support::config(folder.path());
    config.public_url = Some("https://skein.example.org/".to_owned());
    let relay = skein_relay::start(config).await.unwrap();
    let owner = Who::owner(&relay);
    let (bob, bobs) = owner.add("Bob", "viewer").await;
    let code = bobs.post("/codes", json!({})).await;
    let link = format!("https://skein.example.org/#/sign-in?code={}", code["code"].as_str().unwrap());
    assert_eq!(code["link"], link.as_str());
    assert!(code["expires"].is_u64());
    let pairing = json!({ "code": code["code"], "name": "Phone" });
    let (status, paired) = owner.ask(Method::POST, "/pair", pairing.clone()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(owner.with(&paired["token"]).get("/whoami").await["member"], bob.as_str());
    assert_eq!(owner.refused(Method::POST, "/pair", pairing).await, (410, "used".into()));
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_wrong_tokens_or_codes_have_to_wait_and_a_right_token_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let owner = Who::owner(&relay);
    let wrong = Who { relay: &relay, token: "skein_wrong".into() };
    let mut answers = Vec::new();
    for n in 0..40 {
        answers.push(match n % 2 {
            0 => wrong.refused(Method::GET, "/whoami", Value::Null).await.0,
            _ => status(open(relay.address(), "/sync?access_token=wrong", &[]).await),
        });
    }
    assert!(answers[..30].iter().all(|status| *status == 401) && answers[39] == 429, "{answers:?}");
    let request = client().get(format!("http://{}/whoami", relay.address())).bearer_auth("skein_wrong");
    let answer = request.send().await.unwrap();
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    let code = owner.post("/codes", json!({})).await;
    let pairing = json!({ "code": code["code"], "name": "Phone" });
    assert_eq!(wrong.refused(Method::POST, "/pair", pairing).await, (429, "throttled".into()));
    assert_eq!(owner.get("/whoami").await["role"], "owner");
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_workspace_has_its_own_owner_documents_and_list() {
    let folder = tempfile::tempdir().unwrap();
    let first = relay(folder.path()).await;
    let owner = Who::owner(&first);
    let made = owner.post("/workspaces", json!({ "name": "Family" })).await;
    let theirs = owner.with(&made["token"]);
    let who = theirs.get("/whoami").await;
    assert_eq!((who["workspace"].as_str(), who["role"].as_str()), (made["id"].as_str(), Some("owner")));
    assert_eq!(
        owner.refused(Method::POST, "/workspaces", json!({ "name": "family" })).await,
        (409, "name-taken".into())
    );
    // Its owner is none of the first: sees it alone, and makes no other.
    assert_eq!(owner.get("/workspaces").await.as_array().unwrap().len(), 2);
    let seen = theirs.get("/workspaces").await;
    assert_eq!(seen, json!([{ "id": made["id"], "name": "Family", "document": made["document"], "yours": true }]));
    let refused = theirs.refused(Method::POST, "/workspaces", json!({ "name": "Third" })).await;
    assert_eq!(refused, (403, "forbidden".into()));

    // Its sessions are its own.
    let socket = dial(first.address(), "/sync", &theirs.token).await;
    let mut peer = Peer::over(socket, PeerId::from(random_id()), DocumentId::random(), session("ours")).await;
    peer.until_acknowledged().await;
    let mut catalog = Catalog::open(first.address(), &theirs.token, None).await;
    catalog.row(peer.document, |row| row.summary.is_some()).await;
    let workspace: DocumentId = made["document"].as_str().unwrap().parse().unwrap();
    catalog.row(workspace, |row| !row.heads.is_empty()).await;
    let (theirs, document) = (theirs.token.clone(), peer.document);
    first.shutdown().await;

    let again = relay(folder.path()).await;
    let catalog = Catalog::open(again.address(), &theirs, None).await;
    assert!(catalog.rows.contains_key(&document) && catalog.rows.contains_key(&workspace));
    let catalog = Catalog::open(again.address(), again.owner_token(), None).await;
    assert!(!catalog.rows.contains_key(&document) && !catalog.rows.contains_key(&workspace));
    again.shutdown().await;
}

/// Everything that `/sync` says to a request for a document, until it says that there is none, without the document's
/// own id and the relay's.
async fn asked_for(relay: &Relay, token: &str, document: DocumentId) -> Vec<String> {
    let mut peer = Peer::join(relay.address(), token, document).await;
    peer.say().await;
    let mut said = Vec::new();
    loop {
        let bytes = next(&mut peer.socket).await.unwrap();
        match Frame::decode(&bytes).unwrap() {
            Frame::DocUnavailable { document: of, .. } => {
                assert_eq!(of, document);
                said.push("unavailable".to_owned());
                return said;
            }
            Frame::Sync(SyncFrame { data, .. }) => said.push(format!("sync of {} bytes", data.len())),
            other => said.push(format!("{other:?}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_of_what_lies_in_another_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let owner = Who::owner(&relay);
    let made = owner.post("/workspaces", json!({ "name": "Other" })).await;
    let eve = owner.with(&made["token"]);
    let mut hers = bring(&relay, "secret").await;
    let profile = Catalog::open(relay.address(), relay.owner_token(), None).await.welcome.profile.unwrap();
    let nothing = DocumentId::random();

    // /sync: word for word what is said of a document that is nowhere.
    let of_nothing = asked_for(&relay, &eve.token, nothing).await;
    assert_eq!(of_nothing, ["unavailable"]);
    for document in [hers.document, profile, relay.workspace_document()] {
        assert_eq!(asked_for(&relay, &eve.token, document).await, of_nothing);
    }
    // The same within a workspace, of another's profile.
    let (_, bob) = owner.add("Bob", "member").await;
    assert_eq!(asked_for(&relay, &bob.token, profile).await, of_nothing);

    // Ephemeral messages reach nobody there, and a change under the same id is another document.
    let mut eves = Peer::join(relay.address(), &eve.token, hers.document).await;
    eves.content = session("eve's");
    eves.until_acknowledged().await;
    let ephemeral = Frame::Ephemeral {
        sender: eves.id.clone(),
        target: PeerId::from("*"),
        document: hers.document,
        session: "s".into(),
        count: 1,
        data: vec![0x01].into(),
    };
    eves.socket.send(Message::Binary(ephemeral.encode().into())).await.unwrap();
    hers.content.put(ROOT, "position", "1").unwrap();
    hers.until_acknowledged().await;
    assert!(!hers.heard_ephemeral);
    let mut fresh = Peer::join(relay.address(), relay.owner_token(), hers.document).await;
    fresh.until(|document| document.get(ROOT, "position").unwrap().is_some()).await;
    assert_eq!(fresh.content.get_heads(), hers.content.get_heads());

    // /catalog: rows, writers and claims.
    let worker = eve.post("/tokens", json!({ "name": "worker", "kind": "worker" })).await;
    let mut catalog = Catalog::open(relay.address(), worker["token"].as_str().unwrap(), None).await;
    assert!(!catalog.rows.contains_key(&profile) && !catalog.rows.contains_key(&relay.workspace_document()));
    let other = bring(&relay, "another").await.document;
    for document in [other, profile, nothing] {
        catalog.say(&ToRelay::Follow { document }).await;
        let told = catalog.told(|told| matches!(told, FromRelay::Writers { .. })).await;
        assert_eq!(told, FromRelay::Writers { document, rows: vec![] });
        let claim = ToRelay::Claim { ask: 7, session: document, actor: random_actor(), epoch: Epoch(0) };
        catalog.say(&claim).await;
        let told = catalog.told(|told| matches!(told, FromRelay::Busy { .. } | FromRelay::Granted { .. })).await;
        assert_eq!(told, FromRelay::Busy { ask: 7, reason: "there is no such session".into() });
    }

    // Blobs.
    let content = b"secret".as_slice();
    let id = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(content));
    let url = format!("http://{}/blobs/{id}", relay.address());
    let put = client().put(&url).bearer_auth(&owner.token).body(content).send().await.unwrap();
    assert_eq!(put.status(), StatusCode::CREATED);
    let theirs = eve.ask(Method::GET, &format!("/blobs/{id}"), Value::Null).await;
    let missing = eve.ask(Method::GET, &format!("/blobs/{}", hex::encode([7; 32])), Value::Null).await;
    assert_eq!((theirs.0, &theirs), (StatusCode::NOT_FOUND, &missing));
    let put = client().put(&url).bearer_auth(&eve.token).body(content).send().await.unwrap();
    assert_eq!(put.status(), StatusCode::CREATED, "as if it had never been seen here");
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_holds_up_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let mut slow = tokio::net::TcpStream::connect(relay.address()).await.unwrap();
    let head = format!("POST /pair HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n", relay.address());
    slow.write_all(format!("{head}content-length: 100\r\n\r\n{{").as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(40), slow.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_turned_out_before_the_body_is_there_does_nothing_more() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let owner = Who::owner(&relay);
    let (eve, eves) = owner.add("Eve", "owner").await;
    let mut slow = tokio::net::TcpStream::connect(relay.address()).await.unwrap();
    let head = format!("POST /members HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", relay.address());
    let head = format!("{head}authorization: Bearer {}\r\ncontent-type: application/json\r\n", eves.token);
    let body = json!({ "name": "Mallory", "role": "owner" }).to_string();
    slow.write_all(format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
    // Long enough for the head to be read.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (status, _) = owner.ask(Method::DELETE, &format!("/members/{eve}"), Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    slow.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(owner.get("/members").await.as_array().unwrap().len(), 1);
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wrote_is_who_they_were_at_their_first_change() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let owner = Who::owner(&relay);
    let (bob, bobs) = owner.add("Bob", "member").await;
    let socket = dial(relay.address(), "/sync", &bobs.token).await;
    let mut peer = Peer::over(socket, PeerId::from(random_id()), DocumentId::random(), session("mine")).await;
    peer.until_acknowledged().await;
    let actor = peer.content.get_actor().clone();
    let (status, _) = owner.ask(Method::PATCH, &format!("/members/{bob}"), json!({ "role": "owner" })).await;
    assert_eq!(status, StatusCode::OK);
    let socket = dial(relay.address(), "/sync", &bobs.token).await;
    let mut peer = Peer::over(socket, PeerId::from(random_id()), peer.document, peer.content.clone()).await;
    peer.content.put(ROOT, "position", "1").unwrap();
    peer.until_acknowledged().await;
    let mut catalog = Catalog::open(relay.address(), &owner.token, None).await;
    catalog.say(&ToRelay::Follow { document: peer.document }).await;
    let told = catalog.told(|told| matches!(told, FromRelay::Writers { .. })).await;
    let FromRelay::Writers { rows, .. } = told else { unreachable!() };
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((&row.actor, row.writer.kind, row.writer.role), (&actor, WriterKind::Member, MemberRole::Member));
    relay.shutdown().await;
}
