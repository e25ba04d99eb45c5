//! A sync peer on automerge's own sync protocol and plain CBOR: an independent reading of automerge-repo's protocol,
//! with a record, outside the relay, of what the relay has acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use automerge::sync::{Message, State, SyncDoc};
use automerge::{Automerge, ChangeHash};
use ciborium::Value;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use skein_engine::ids::DocumentId;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::within;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connection to `/sync`, with the documents that it follows. Its socket is read all the time, also while nobody asks
/// for the next event.
pub struct Peer {
    /// How it calls itself.
    pub id: String,
    /// How the relay calls itself.
    pub relay: String,
    sink: SplitSink<Socket, tungstenite::Message>,
    frames: mpsc::UnboundedReceiver<Vec<u8>>,
    reading: watch::Sender<bool>,
    reader: JoinHandle<()>,
    documents: BTreeMap<DocumentId, Followed>,
    session: String,
    count: u64,
    /// Bytes of the messages received so far.
    pub received: u64,
}

/// One document of a [`Peer`].
#[derive(Default)]
pub struct Followed {
    /// The replica.
    pub document: Automerge,
    /// Every hash that the relay has named in its heads: it is durable there.
    pub named: BTreeSet<ChangeHash>,
    state: State,
    first_was_sent: bool,
}

/// What came.
#[derive(Debug)]
pub enum Event {
    /// A sync message; the replica holds what it brought, and was answered.
    Synced(DocumentId),
    /// An ephemeral message.
    Ephemeral {
        /// On which document.
        document: DocumentId,
        /// Who claims to have sent it.
        sender: String,
        /// Its payload.
        data: Vec<u8>,
    },
    /// The relay has no such document.
    Unavailable(DocumentId),
    /// The relay says what is wrong.
    Error(String),
    /// The connection is over.
    Closed,
}

/// Why there is no connection.
pub type ConnectError = Box<tungstenite::Error>;

impl Peer {
    /// Connects and joins under a random name.
    pub async fn join(sync_url: &str) -> Self {
        let id = format!("peer-{:016x}", rand::random::<u64>());
        within("joining", Self::join_as(sync_url, &id)).await.unwrap()
    }

    /// Connects and joins under a given name.
    pub async fn join_as(sync_url: &str, id: &str) -> Result<Self, ConnectError> {
        // A document may come in one message, however large.
        let no_limits = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let request = sync_url.into_client_request().unwrap();
        let (socket, _) =
            tokio_tungstenite::connect_async_with_config(request, Some(no_limits), true).await.map_err(Box::new)?;
        let (sink, stream) = socket.split();
        let (frames_in, frames) = mpsc::unbounded_channel();
        let reading = watch::Sender::new(true);
        let reader = tokio::spawn(read(stream, frames_in, reading.subscribe()));
        let mut peer = Self {
            id: id.to_owned(),
            relay: String::new(),
            sink,
            frames,
            reading,
            reader,
            documents: BTreeMap::new(),
            session: format!("{:016x}", rand::random::<u64>()),
            count: 0,
            received: 0,
        };
        let versions = Value::Array(vec![Value::from("1")]);
        peer.send(vec![
            ("type", Value::from("join")),
            ("senderId", Value::from(id)),
            ("supportedProtocolVersions", versions),
        ])
        .await?;
        let answer = peer.frame().await.ok_or(tungstenite::Error::ConnectionClosed).map_err(Box::new)?;
        assert_eq!(text(&answer, "type").as_deref(), Some("peer"), "the answer to join is {answer:?}");
        peer.relay = text(&answer, "senderId").expect("the relay's name");
        Ok(peer)
    }

    /// A followed document.
    pub fn followed(&mut self, document: DocumentId) -> &mut Followed {
        self.documents.entry(document).or_default()
    }

    /// The replica of a document.
    pub fn document(&mut self, document: DocumentId) -> &mut Automerge {
        &mut self.followed(document).document
    }

    /// Begins to follow a document, or tells the relay of local changes.
    pub async fn sync(&mut self, document: DocumentId) {
        // A connection that has ended shows in the next event.
        let _ = self.try_sync(document).await;
    }

    async fn try_sync(&mut self, document: DocumentId) -> Result<(), ConnectError> {
        let followed = self.documents.entry(document).or_default();
        let Some(message) = followed.document.generate_sync_message(&mut followed.state) else { return Ok(()) };
        let unknown =
            !std::mem::replace(&mut followed.first_was_sent, true) && followed.document.get_heads().is_empty();
        let kind = if unknown { "request" } else { "sync" };
        self.send_about(kind, document, message.encode()).await
    }

    /// Sends an ephemeral message.
    pub async fn broadcast(&mut self, document: DocumentId, data: Vec<u8>) {
        self.count += 1;
        let fields = vec![
            ("type", Value::from("ephemeral")),
            ("senderId", Value::from(self.id.as_str())),
            ("targetId", Value::from(self.relay.as_str())),
            ("documentId", Value::from(document.to_string())),
            ("sessionId", Value::from(self.session.as_str())),
            ("count", Value::from(self.count)),
            ("data", Value::Bytes(data)),
        ];
        self.send(fields).await.unwrap();
    }

    /// Sends a message of `kind` about a document, whatever `data` holds.
    pub async fn send_about(&mut self, kind: &str, document: DocumentId, data: Vec<u8>) -> Result<(), ConnectError> {
        let fields = vec![
            ("type", Value::from(kind)),
            ("senderId", Value::from(self.id.as_str())),
            ("targetId", Value::from(self.relay.as_str())),
            ("documentId", Value::from(document.to_string())),
            ("data", Value::Bytes(data)),
        ];
        self.send(fields).await
    }

    /// Sends a CBOR map.
    pub async fn send(&mut self, fields: Vec<(&str, Value)>) -> Result<(), ConnectError> {
        self.send_bytes(encode(fields)).await
    }

    /// Sends a binary message.
    pub async fn send_bytes(&mut self, bytes: Vec<u8>) -> Result<(), ConnectError> {
        self.sink.send(tungstenite::Message::Binary(bytes.into())).await.map_err(Box::new)
    }

    /// Sends a binary message and closes the connection behind it; returns when the relay has dealt with both.
    pub async fn says(mut self, bytes: Vec<u8>) {
        self.send_bytes(bytes).await.expect("the connection is fresh");
        // A relay that has ended it already doesn't take a farewell.
        let _ = self.sink.send(tungstenite::Message::Close(None)).await;
        assert!(self.closes().await, "the relay keeps a connection that was closed");
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: &str) -> Result<(), ConnectError> {
        self.sink.send(tungstenite::Message::Text(text.into())).await.map_err(Box::new)
    }

    /// Waits for what comes next.
    pub async fn next(&mut self) -> Event {
        loop {
            let Some(frame) = self.frame().await else { return Event::Closed };
            let document = text(&frame, "documentId").and_then(|id| id.parse().ok());
            match (text(&frame, "type").unwrap_or_default().as_str(), document) {
                ("sync" | "request", Some(document)) => {
                    let message =
                        Message::decode(&bytes(&frame, "data")).expect("the relay's sync messages are well made");
                    let followed = self.documents.entry(document).or_default();
                    followed.named.extend(message.heads.iter().copied());
                    let Followed { document: replica, state, .. } = followed;
                    replica.receive_sync_message(state, message).expect("the relay's changes apply");
                    self.sync(document).await;
                    return Event::Synced(document);
                }
                ("ephemeral", Some(document)) => {
                    let sender = text(&frame, "senderId").unwrap_or_default();
                    return Event::Ephemeral { document, sender, data: bytes(&frame, "data") };
                }
                ("doc-unavailable", Some(document)) => return Event::Unavailable(document),
                ("error", _) => return Event::Error(text(&frame, "message").unwrap_or_default()),
                _ => {}
            }
        }
    }

    /// Goes on until the replica of `document` is as wanted.
    pub async fn until(&mut self, what: &str, document: DocumentId, mut wanted: impl FnMut(&Automerge) -> bool) {
        let awaited = async {
            while !wanted(self.document(document)) {
                match self.next().await {
                    Event::Closed => panic!("the connection ended before {what}"),
                    Event::Error(message) => panic!("the relay refused before {what}: {message}"),
                    _ => {}
                }
            }
        };
        within(what, awaited).await;
    }

    /// Tells the relay of local changes, and goes on until it has named all of the replica's heads.
    pub async fn until_acknowledged(&mut self, document: DocumentId) {
        self.sync(document).await;
        let awaited = async {
            loop {
                let followed = self.followed(document);
                if followed.document.get_heads().iter().all(|head| followed.named.contains(head)) {
                    return;
                }
                match self.next().await {
                    Event::Closed => panic!("the connection ended before the change was acknowledged"),
                    Event::Error(message) => panic!("the relay refused: {message}"),
                    _ => {}
                }
            }
        };
        within("the acknowledgement of a change", awaited).await;
    }

    /// Goes on until the connection ends; whether it does within the time.
    pub async fn closes(&mut self) -> bool {
        tokio::time::timeout(crate::PATIENCE, async { while !matches!(self.next().await, Event::Closed) {} })
            .await
            .is_ok()
    }

    /// Stops reading the socket; a frame that is under way may still come.
    pub fn stop_reading(&mut self) {
        self.reading.send_replace(false);
    }

    /// Reads on.
    pub fn read_again(&mut self) {
        self.reading.send_replace(true);
    }

    async fn frame(&mut self) -> Option<Value> {
        let bytes = self.frames.recv().await?;
        self.received += bytes.len() as u64;
        Some(ciborium::from_reader(&bytes[..]).expect("the relay's frames are CBOR"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Hands on what comes, until the connection ends; waits while nothing shall be read.
async fn read(
    mut stream: SplitStream<Socket>,
    frames: mpsc::UnboundedSender<Vec<u8>>,
    mut reading: watch::Receiver<bool>,
) {
    loop {
        if reading.wait_for(|reading| *reading).await.is_err() {
            return;
        }
        let message = tokio::select! {
            message = stream.next() => message,
            // Looks again at whether to read.
            _ = reading.changed() => continue,
        };
        match message {
            Some(Ok(tungstenite::Message::Binary(bytes))) => {
                if frames.send(bytes.to_vec()).is_err() {
                    return;
                }
            }
            Some(Ok(tungstenite::Message::Close(_)) | Err(_)) | None => return,
            Some(Ok(_)) => {}
        }
    }
}

/// A CBOR map as a message.
pub fn encode(fields: Vec<(&str, Value)>) -> Vec<u8> {
    let map = fields.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
    let mut bytes = Vec::new();
    ciborium::into_writer(&Value::Map(map), &mut bytes).unwrap();
    bytes
}

fn field<'a>(frame: &'a Value, name: &str) -> Option<&'a Value> {
    frame.as_map()?.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

fn text(frame: &Value, name: &str) -> Option<String> {
    field(frame, name)?.as_text().map(str::to_owned)
}

fn bytes(frame: &Value, name: &str) -> Vec<u8> {
    // JavaScript's encoder may wrap bytes in the tag for typed arrays.
    match field(frame, name) {
        Some(Value::Bytes(bytes)) => bytes.clone(),
        Some(Value::Tag(_, inner)) => inner.as_bytes().cloned().unwrap_or_default(),
        _ => Vec::new(),
    }
}
