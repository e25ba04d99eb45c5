//! A relay in this process, and clients that owe nothing to Skein's own: automerge's sync protocol over a bare
//! WebSocket, catalog frames, plain HTTP.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use automerge::sync::{Message as SyncMessage, State, SyncDoc};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ObjType, ROOT};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use skein_engine::ids::{DocumentId, PeerId, random_actor, random_id};
use skein_engine::wire::catalog::{FromRelay, Row, ToRelay, VERSION};
use skein_engine::wire::cbor;
use skein_engine::wire::frame::{Frame, PROTOCOL_VERSION, SyncFrame};
use skein_relay::{Relay, RelayConfig};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} took too long"))
}

/// An HTTP client.
pub fn client() -> reqwest::Client {
    // An error says that another test of this process has done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

pub fn config(data: &Path) -> RelayConfig {
    RelayConfig::new("127.0.0.1:0".parse().unwrap(), data)
}

pub async fn relay(data: &Path) -> Relay {
    skein_relay::start(config(data)).await.unwrap()
}

/// Opens a WebSocket with these headers.
pub async fn open(address: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
}

/// Opens it with a token.
pub async fn dial(address: SocketAddr, path: &str, token: &str) -> Socket {
    open(address, path, &[("authorization", &format!("Bearer {token}"))]).await.unwrap()
}

/// The HTTP status with which a WebSocket was refused.
pub fn status(result: Result<Socket, Error>) -> u16 {
    match result {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
        Ok(_) => 101,
    }
}

/// The next binary message; `None` when the relay has closed.
pub async fn next(socket: &mut Socket) -> Option<Bytes> {
    loop {
        match within("a message", socket.next()).await? {
            Ok(Message::Binary(bytes)) => return Some(bytes),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// A peer with one document, as automerge-repo would be.
pub struct Peer {
    pub socket: Socket,
    pub id: PeerId,
    pub document: DocumentId,
    pub content: AutoCommit,
    /// Whether an ephemeral message has come.
    pub heard_ephemeral: bool,
    state: State,
    first: bool,
    relay: PeerId,
}

impl Peer {
    /// Joins with an empty copy of a document.
    pub async fn join(address: SocketAddr, token: &str, document: DocumentId) -> Self {
        let socket = dial(address, "/sync", token).await;
        Self::over(socket, PeerId::from(random_id()), document, AutoCommit::new()).await
    }

    /// Joins over a socket with what it has of a document.
    pub async fn over(mut socket: Socket, id: PeerId, document: DocumentId, content: AutoCommit) -> Self {
        let join = Frame::Join { sender: id.clone(), versions: vec![PROTOCOL_VERSION.to_owned()] };
        socket.send(Message::Binary(join.encode().into())).await.unwrap();
        let Some(answer) = next(&mut socket).await else { panic!("the relay closed instead of greeting") };
        let Ok(Frame::Peer { sender, .. }) = Frame::decode(&answer) else { panic!("no greeting") };
        Self { socket, id, document, content, heard_ephemeral: false, state: State::new(), first: true, relay: sender }
    }

    /// Whether the relay has said that it takes no changes.
    pub fn may_only_read(&self) -> bool {
        self.state.is_peer_read_only()
    }

    /// What it has to say, as a frame.
    pub fn message(&mut self) -> Option<Vec<u8>> {
        let message = self.content.sync().generate_sync_message(&mut self.state)?;
        let empty = self.content.get_heads().is_empty();
        let frame = SyncFrame {
            sender: self.id.clone(),
            target: self.relay.clone(),
            document: self.document,
            data: message.encode().into(),
        };
        let frame = if self.first && empty { Frame::Request(frame) } else { Frame::Sync(frame) };
        self.first = false;
        Some(frame.encode())
    }

    /// Sends what it has to say.
    pub async fn say(&mut self) -> bool {
        let Some(message) = self.message() else { return false };
        self.socket.send(Message::Binary(message.into())).await.unwrap();
        true
    }

    /// Takes one message of the relay; `false`: the document is unavailable.
    pub async fn hear(&mut self) -> bool {
        let bytes = next(&mut self.socket).await.expect("the relay is there");
        match Frame::decode(&bytes).unwrap() {
            Frame::Sync(frame) => {
                let message = SyncMessage::decode(&frame.data).unwrap();
                self.content.sync().receive_sync_message(&mut self.state, message).unwrap();
                true
            }
            Frame::DocUnavailable { .. } => false,
            Frame::Error { message, .. } => panic!("the relay says: {message}"),
            Frame::Ephemeral { .. } => {
                self.heard_ephemeral = true;
                true
            }
            _ => true,
        }
    }

    /// Talks until the relay has everything that this peer has: an acknowledgement names it in its heads.
    pub async fn until_acknowledged(&mut self) {
        within("an acknowledgement", async {
            loop {
                self.say().await;
                let heads = self.content.get_heads();
                if self.state.their_heads.as_ref().is_some_and(|theirs| *theirs == heads) {
                    return;
                }
                assert!(self.hear().await, "it has the document");
            }
        })
        .await;
    }

    /// Talks until the document satisfies this.
    pub async fn until(&mut self, satisfied: impl Fn(&AutoCommit) -> bool) {
        within("the document", async {
            while !satisfied(&self.content) {
                self.say().await;
                self.hear().await;
            }
        })
        .await;
    }
}

/// A session as a foreign client would write it, with one message.
pub fn session(text: &str) -> AutoCommit {
    let mut document = AutoCommit::new().with_actor(random_actor());
    document.put(ROOT, "schema", 1).unwrap();
    document.put(ROOT, "kind", "session").unwrap();
    for name in ["runs", "requests", "names"] {
        document.put_object(ROOT, name, ObjType::Map).unwrap();
    }
    let messages = document.put_object(ROOT, "messages", ObjType::List).unwrap();
    let message = document.insert_object(&messages, 0, ObjType::Map).unwrap();
    document.put(&message, "id", random_id()).unwrap();
    document.put(&message, "role", "user").unwrap();
    let parts = document.put_object(&message, "parts", ObjType::List).unwrap();
    let part = document.insert_object(&parts, 0, ObjType::Map).unwrap();
    document.put(&part, "type", "text").unwrap();
    let chunks = document.put_object(&part, "chunks", ObjType::List).unwrap();
    document.insert(&chunks, 0, text).unwrap();
    document.commit();
    document
}

/// Brings a session to the relay; returns the peer that still follows it.
pub async fn bring(relay: &Relay, text: &str) -> Peer {
    let socket = dial(relay.address(), "/sync", relay.owner_token()).await;
    let mut peer = Peer::over(socket, PeerId::from(random_id()), DocumentId::random(), session(text)).await;
    peer.until_acknowledged().await;
    peer
}

/// A client of the catalog.
pub struct Catalog {
    pub socket: Socket,
    pub welcome: skein_engine::wire::catalog::Welcome,
    pub rows: std::collections::BTreeMap<DocumentId, Row>,
    pub cursor: u64,
    pub resets: u32,
    /// Rows that it was sent.
    pub heard: usize,
    /// Everything else that it was told.
    pub told: std::collections::VecDeque<FromRelay>,
}

impl Catalog {
    pub async fn open(address: SocketAddr, token: &str, cursor: Option<u64>) -> Self {
        Self::over(dial(address, "/catalog", token).await, PeerId::from(random_id()), cursor).await
    }

    /// Says hello and reads rows until it is up to date.
    pub async fn over(mut socket: Socket, peer: PeerId, cursor: Option<u64>) -> Self {
        let hello = cbor::encode(&ToRelay::Hello { version: VERSION, peer, cursor });
        socket.send(Message::Binary(hello.into())).await.unwrap();
        let welcome = match cbor::decode(&next(&mut socket).await.unwrap()).unwrap() {
            FromRelay::Welcome(welcome) => welcome,
            other => panic!("no welcome but {other:?}"),
        };
        let told = std::collections::VecDeque::new();
        let mut catalog = Self { socket, welcome, rows: Default::default(), cursor: 0, resets: 0, heard: 0, told };
        while !catalog.hear().await {}
        catalog
    }

    pub async fn say(&mut self, message: &ToRelay) {
        self.socket.send(Message::Binary(cbor::encode(message).into())).await.unwrap();
    }

    /// Takes one message. Whether it completed a batch of rows.
    pub async fn hear(&mut self) -> bool {
        match cbor::decode(&next(&mut self.socket).await.expect("the relay is there")).unwrap() {
            FromRelay::Rows { cursor, reset, rows, complete } => {
                if reset {
                    self.rows.clear();
                    self.resets += 1;
                }
                self.cursor = cursor;
                self.heard += rows.len();
                self.rows.extend(rows.into_iter().map(|row| (row.document, row)));
                complete
            }
            other => {
                self.told.push_back(other);
                false
            }
        }
    }

    /// Waits for something other than rows.
    pub async fn told(&mut self, wanted: impl Fn(&FromRelay) -> bool) -> FromRelay {
        within("an answer", async {
            loop {
                if let Some(at) = self.told.iter().position(&wanted) {
                    return self.told.remove(at).unwrap();
                }
                self.hear().await;
            }
        })
        .await
    }

    /// Waits until a document's row satisfies this.
    pub async fn row(&mut self, document: DocumentId, wanted: impl Fn(&Row) -> bool) -> Row {
        within("a row", async {
            loop {
                if let Some(row) = self.rows.get(&document).filter(|row| wanted(row)) {
                    return row.clone();
                }
                self.hear().await;
            }
        })
        .await
    }
}

/// The change that a worker would begin a run with, on these heads.
pub fn run_change(content: &mut AutoCommit, actor: &ActorId) -> Bytes {
    let mut copy = content.fork().with_actor(actor.clone());
    let runs = automerge::ReadDoc::get(&copy, ROOT, "runs").unwrap().unwrap().1;
    let run = copy.put_object(&runs, format!("turn/{}", random_id()), ObjType::Map).unwrap();
    copy.put(&run, "state", "streaming").unwrap();
    copy.commit();
    Bytes::copy_from_slice(copy.get_last_local_change().unwrap().raw_bytes())
}
