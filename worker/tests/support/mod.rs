//! What the tests of whole turns share: a real relay, real workers and a person's device in one process, and a model's
//! server that answers byte for byte what a test says.

#![allow(dead_code, clippy::unwrap_used)]

pub mod calls;
pub mod model;
pub mod wire;

use std::time::Duration;

use skein_client::{Client, ClientConfig};
use skein_engine::device::Keeps;
use skein_engine::ids::DocumentId;
use skein_engine::session::command::{Done, NewSession};
use skein_engine::session::conversation::{Content, Conversation, Status};
use skein_engine::session::{Command, Summary};
use skein_relay::{Relay, RelayConfig};
use skein_worker::{Settings, WorkerConfig};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Long enough for a busy machine; every wait ends at once when what it waits for is there.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A relay and a person.
pub struct Stage {
    pub relay: Relay,
    pub url: String,
    pub person: Client,
    pub worker_token: String,
    _data: tempfile::TempDir,
}

/// A worker under way.
pub struct Worker {
    task: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Worker {
    /// Ends it as SIGKILL would: nothing more is said or written.
    pub fn kill(self) {
        self.task.abort();
    }

    /// Ends it in order.
    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.task.await.unwrap();
    }
}

/// Settings whose demo writes so many tokens a second.
pub fn demo(speed: f64) -> Settings {
    Settings::from_toml(&format!("[worker]\ndemo_speed = {speed:.1}")).unwrap()
}

/// Settings with one provider.
pub fn provider(kind: &str, address: std::net::SocketAddr, more: &str) -> Settings {
    Settings::from_toml(&format!(
        "[worker]\nmodel = \"test/some-model\"\n[[provider]]\nname = \"test\"\nkind = \"{kind}\"\n\
         base_url = \"http://{address}/v1\"\n{more}"
    ))
    .unwrap()
}

impl Stage {
    pub async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let relay = skein_relay::start(RelayConfig::new("127.0.0.1:0".parse().unwrap(), data.path())).await.unwrap();
        let url = format!("http://{}", relay.address());
        let person = device(&url, relay.owner_token()).await;
        let worker_token = relay.mint_worker_token().await.unwrap();
        Self { relay, url, person, worker_token, _data: data }
    }

    /// Starts a worker.
    pub fn worker(&self, settings: Settings) -> Worker {
        self.worker_at(self.url.clone(), settings)
    }

    /// Starts a worker that knows the relay under this address.
    pub fn worker_at(&self, relay_url: String, settings: Settings) -> Worker {
        let (stop, stopped) = oneshot::channel();
        let config = WorkerConfig { relay_url, token: self.worker_token.clone(), settings };
        let task = tokio::spawn(async move {
            let shutdown = async {
                // A dropped sender (a test that failed) stops it too.
                let _ = stopped.await;
            };
            skein_worker::run(config, shutdown).await.unwrap();
        });
        Worker { task, stop: Some(stop) }
    }

    pub async fn new_session(&self, message: &str) -> DocumentId {
        let new = NewSession { message: Some(message.into()), ..NewSession::default() };
        self.person.act(|device, now| device.create(now, &new)).await.unwrap()
    }

    /// A blob of the relay.
    pub async fn blob(&self, hash: &str) -> String {
        let address = format!("{}/blobs/{hash}", self.url);
        let answer = reqwest::Client::new().get(address).bearer_auth(self.relay.owner_token()).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    pub async fn command(&self, session: DocumentId, command: Command) -> Done {
        self.person.act(|device, now| device.command(now, session, &command)).await.unwrap()
    }

    pub async fn send(&self, session: DocumentId, text: &str) -> Done {
        self.command(session, Command::send(text)).await
    }

    /// Waits until the conversation is as wanted.
    pub async fn until<T>(
        &self,
        session: DocumentId,
        what: &str,
        mut wanted: impl FnMut(&Conversation) -> Option<T>,
    ) -> T {
        let found = self.person.until(PATIENCE, |device, now| wanted(&device.conversation(now, session).ok()?)).await;
        match found {
            Some(found) => found,
            None => panic!("never {what}: {:#?}", self.conversation(session)),
        }
    }

    /// Waits for a status with nothing queued.
    pub async fn settled(&self, session: DocumentId, status: Status) -> Conversation {
        self.until(session, &format!("{status:?}"), |conversation| {
            // Lease and document come over two sockets: a turn has settled when its end stands in the document.
            let ended = conversation.turns.iter().all(|turn| turn.ended_at.is_some());
            let idle = conversation.queued.is_empty() && !conversation.turns.is_empty() && ended;
            (idle && conversation.status == status).then(|| conversation.clone())
        })
        .await
    }

    /// Waits until at least so many bytes of the last answer's text are to be seen, live or committed.
    pub async fn spoken(&self, session: DocumentId, bytes: usize) -> String {
        self.until(session, "so much text", |conversation| {
            Some(answer(conversation)).filter(|text| text.len() >= bytes)
        })
        .await
    }

    pub fn conversation(&self, session: DocumentId) -> Option<Conversation> {
        self.person.read(|device, now| device.conversation(now, session).ok())
    }

    pub fn summary(&self, session: DocumentId) -> Option<Summary> {
        self.person.read(|device, now| device.summary(now, session))
    }
}

pub async fn device(url: &str, token: &str) -> Client {
    let config = ClientConfig {
        relay: url.to_owned(),
        token: Some(token.to_owned()),
        data: None,
        keeps: Keeps::default(),
        offline: false,
    };
    let client = Client::open(config).await.unwrap();
    client.connected(PATIENCE).await.unwrap();
    client
}

/// The words of the last turn's answer, its messages joined.
pub fn answer(conversation: &Conversation) -> String {
    let Some(turn) = conversation.turns.last() else { return String::new() };
    let own = conversation
        .messages
        .iter()
        .filter(|message| message.role == skein_engine::session::model::Role::Assistant)
        .filter(|message| message.turn.as_deref() == Some(&*turn.id));
    own.flat_map(|message| &message.parts)
        .filter_map(|part| match &part.content {
            Content::Text { text } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

/// Every part of assistant messages.
pub fn parts(conversation: &Conversation) -> Vec<Content> {
    let own = conversation.messages.iter().filter(|m| m.role == skein_engine::session::model::Role::Assistant);
    own.flat_map(|message| message.parts.iter().map(|part| part.content.clone())).collect()
}
