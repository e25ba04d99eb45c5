//! A native replica and a real relay: what waits on the device reaches it once, and what takes room is let go.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use skein_client::{Client, ClientConfig};
use skein_engine::blob::BlobId;
use skein_engine::device::Keeps;
use skein_engine::ids::DocumentId;
use skein_engine::session::Command;
use skein_engine::session::command::{Attachment, Draft, NewSession};
use skein_engine::session::conversation::Content;
use skein_relay::{Relay, RelayConfig};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

struct Stage {
    relay: Relay,
    folder: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let config = RelayConfig::new("127.0.0.1:0".parse().unwrap(), folder.path().join("relay"));
        Self { relay: skein_relay::start(config).await.unwrap(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn client(&self, data: Option<&Path>, offline: bool, keeps: Keeps) -> Client {
        let config = ClientConfig {
            relay: format!("http://{}", self.relay.address()),
            token: Some(self.relay.owner_token().to_owned()),
            data: data.map(Path::to_owned),
            keeps,
            offline,
        };
        let client = Client::open(config).await.unwrap();
        if !offline {
            client.connected(PATIENCE).await.unwrap();
            until(&client, |device| device.sync_state().caught_up).await;
        }
        client
    }

    async fn online(&self, data: &str) -> Client {
        self.client(Some(&self.path(data)), false, Keeps::Opened).await
    }

    async fn offline(&self, data: &str) -> Client {
        self.client(Some(&self.path(data)), true, Keeps::Opened).await
    }

    /// A client that has nothing on this machine.
    async fn elsewhere(&self) -> Client {
        self.client(None, false, Keeps::Opened).await
    }
}

async fn until(client: &Client, done: impl Fn(&mut skein_engine::device::Device) -> bool) {
    let found = client.until(PATIENCE, |device, _| done(device).then_some(())).await;
    assert!(found.is_some(), "it takes too long: {:?}", client.read(|device, _| device.sync_state()));
}

async fn create(client: &Client, message: &str) -> DocumentId {
    let new = NewSession { message: Some(message.into()), ..NewSession::default() };
    let id = client.act(|device, now| device.create(now, &new)).await.unwrap();
    until(client, |device| device.acknowledged(id)).await;
    id
}

async fn texts(client: &Client, id: DocumentId) -> Vec<String> {
    client.cast(|device, now| device.open(now, id));
    until(client, |device| device.document(id).is_ok() && device.up_to_date(id)).await;
    let conversation = client.read(|device, now| device.conversation(now, id)).unwrap();
    let parts = conversation.messages.iter().chain(&conversation.queued).flat_map(|message| &message.parts);
    let texts = parts.filter_map(|part| match &part.content {
        Content::Text { text } => Some(text.clone()),
        _ => None,
    });
    texts.collect()
}

fn attached(text: &str, blob: BlobId) -> Command {
    let file = Attachment { blob: blob.to_string(), mime: "text/plain".into(), name: "notes.txt".into(), size: 5 };
    Command::Send(Draft { text: text.into(), attachments: Some(vec![file]), ..Draft::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_attached_offline_is_there_for_all_before_its_message() {
    let stage = Stage::new().await;
    let ann = stage.online("ann").await;
    let id = create(&ann, "hello").await;
    ann.close().await;

    let ann = stage.offline("ann").await;
    ann.cast(|device, now| device.open(now, id));
    until(&ann, |device| device.document(id).is_ok()).await;
    let blob = ann.put_blob(&b"notes"[..]).await.unwrap();
    ann.act(|device, now| device.command(now, id, &attached("see the notes", blob))).await.unwrap();
    assert_eq!(ann.get_blob(blob).await.unwrap().as_deref(), Some(&b"notes"[..]), "it is here at once");
    assert_eq!(ann.read(|device, _| device.sync_state()).uploads, 1);
    ann.close().await;

    let bob = stage.elsewhere().await;
    assert_eq!(texts(&bob, id).await, ["hello"]);
    let mut notices = bob.notices();
    let ann = stage.online("ann").await;
    while texts(&bob, id).await.len() < 2 {
        notices.next().await.unwrap();
    }
    assert_eq!(bob.get_blob(blob).await.unwrap().as_deref(), Some(&b"notes"[..]), "whoever reads of it can fetch it");
    until(&ann, |device| device.acknowledged(id) && device.sync_state().uploads == 0).await;
    ann.close().await;
    let ann = stage.offline("ann").await;
    assert_eq!(ann.read(|device, _| device.sync_state()).uploads, 0, "it is not sent again");
    assert!(ann.put_blob(vec![0; (64 << 20) + 1]).await.is_err(), "one that is too large is refused at once");
    stage.relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waited_is_done_once_though_two_processes_find_it() {
    let stage = Stage::new().await;
    let elsewhere = stage.elsewhere().await;
    let id = create(&elsewhere, "hello").await;
    // The device has seen the list, and nothing else.
    let ann = stage.online("ann").await;
    until(&ann, |device| device.summaries(skein_engine::ids::Timestamp(1)).len() == 1).await;
    ann.close().await;

    let ann = stage.offline("ann").await;
    let wait = |text: &str| Command::send(text);
    for text in ["one", "two"] {
        ann.act(|device, now| device.command_later(now, id, &wait(text))).await.unwrap();
    }
    assert_eq!(ann.read(|device, _| device.sync_state()).waiting, 2);
    ann.close().await;

    let (first, second) = tokio::join!(stage.online("ann"), stage.online("ann"));
    for client in [&first, &second] {
        until(client, |device| device.sync_state().waiting == 0).await;
    }
    until(&first, |device| device.up_to_date(id) && device.sync_state().pending == 0).await;
    until(&second, |device| device.up_to_date(id) && device.sync_state().pending == 0).await;
    assert_eq!(texts(&stage.elsewhere().await, id).await, ["hello", "one", "two"]);
    first.close().await;
    second.close().await;
    assert_eq!(stage.offline("ann").await.read(|device, _| device.sync_state()).waiting, 0);
    stage.relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_let_go_comes_back_and_what_is_kept_takes_less_room() {
    let stage = Stage::new().await;
    let elsewhere = stage.elsewhere().await;
    let mut sessions = Vec::new();
    for n in 0..5 {
        sessions.push(create(&elsewhere, &format!("session {n}")).await);
    }
    let data = stage.path("bob");
    let bob = stage.client(Some(&data), false, Keeps::All).await;
    let fetched = |device: &mut skein_engine::device::Device| {
        let kept = device.kept_documents();
        sessions.iter().all(|id| kept.iter().any(|kept| kept.document == *id && !kept.heads.is_empty()))
            && sessions.iter().all(|id| device.document(*id).is_err())
    };
    until(&bob, fetched).await;
    bob.close().await;

    let bob = stage.online("bob").await;
    let limits = Keeps::Recent { sessions: 2, bytes: u64::MAX };
    let other = stage.offline("bob").await;
    let collected = bob.collect(limits).await.unwrap();
    assert!(collected.in_use && collected.dropped.is_empty(), "someone may be looking: {collected:?}");
    assert!(collected.bytes_after < collected.bytes_before, "{collected:?}");
    other.close().await;
    let collected = bob.collect(limits).await.unwrap();
    assert_eq!((collected.in_use, collected.dropped.len()), (false, 3), "{collected:?}");
    for (n, id) in sessions.iter().enumerate() {
        assert_eq!(texts(&bob, *id).await, [format!("session {n}")]);
    }
    bob.close().await;
    stage.relay.shutdown().await;
}
