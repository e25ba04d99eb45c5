//! The relay over HTTP: `HEAD`, `PUT` and `GET /blobs/{sha256}`, the task that empties the outbox while there is a link,
//! and what is only asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use skein_engine::blob::{BlobId, MAX_BYTES};

use crate::connection::Target;
use crate::dial::Problem;
use crate::shared::{Link, Shared};
use crate::{Client, ClientError};

/// The relay may take so long for an answer, besides a second for each [`SLOWEST`] bytes.
const ANSWER: Duration = Duration::from_secs(20);
const SLOWEST: u64 = 64 << 10;
/// The first wait after an upload that failed; doubled up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The relay's blobs.
pub(crate) struct Remote {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

impl Remote {
    /// Those of this relay.
    pub(crate) fn new(target: &Target) -> Result<Self, Problem> {
        // Does nothing if the program has chosen a provider of its own.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let build = |only_plain: bool| {
            // The token must not follow a redirect to another host.
            let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
            if only_plain { builder.tls_certs_only([]) } else { builder }.build()
        };
        // On a machine without certificates of authorities plain HTTP still works.
        let http = build(false).or_else(|_| build(true));
        let http = http.map_err(|error| Problem::lasting(format!("HTTP can't be spoken here: {error}")))?;
        Ok(Self { http, base: target.address.http(), token: target.token.clone() })
    }

    fn request(&self, method: Method, id: BlobId, bytes: u64) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}/blobs/{id}", self.base));
        self.signed(request.timeout(ANSWER + Duration::from_secs(bytes / SLOWEST)))
    }

    fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// What the relay says at a path.
    async fn say(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Bytes, Problem> {
        let address = reqwest::Url::parse_with_params(&format!("{}{path}", self.base), parameters);
        let address = address.map_err(|error| Problem::lasting(format!("\"{path}\" is no address: {error}")))?;
        let request = self.signed(self.http.get(address).timeout(ANSWER));
        let answer = request.send().await.map_err(|error| unreachable(&error))?;
        match answer.status() {
            status if status.is_success() => answer.bytes().await.map_err(|error| unreachable(&error)),
            status => Err(refused(status, "to answer", &answer.text().await.unwrap_or_default())),
        }
    }

    /// Stores a blob; durable on the relay on return.
    pub(crate) async fn put(&self, id: BlobId, bytes: Bytes) -> Result<(), Problem> {
        let known = self.request(Method::HEAD, id, 0).send().await.map_err(|error| unreachable(&error))?;
        if known.status().is_success() {
            return Ok(());
        }
        let request = self.request(Method::PUT, id, bytes.len() as u64).body(bytes);
        let answer = request.send().await.map_err(|error| unreachable(&error))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(refused(status, "the blob", &answer.text().await.unwrap_or_default())),
        }
    }

    /// A blob, if the relay has it.
    pub(crate) async fn get(&self, id: BlobId) -> Result<Option<Bytes>, Problem> {
        let answer = self.request(Method::GET, id, MAX_BYTES).send().await.map_err(|error| unreachable(&error))?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let bytes = answer.bytes().await.map_err(|error| unreachable(&error))?;
                if BlobId::of(&bytes) != id {
                    return Err(Problem::passing("what the relay sent is not this blob"));
                }
                Ok(Some(bytes))
            }
            status => Err(refused(status, "the blob", &answer.text().await.unwrap_or_default())),
        }
    }
}

fn unreachable(error: &reqwest::Error) -> Problem {
    Problem::passing(format!("the relay can't be reached: {error}"))
}

fn refused(status: StatusCode, what: &str, body: &str) -> Problem {
    let said = serde_json::from_str::<serde_json::Value>(body).ok();
    let said = said.as_ref().and_then(|said| said["error"]["message"].as_str()).unwrap_or("it gave no reason");
    let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
    let sentence = format!("the relay refused {what} ({}): {said}", status.as_u16());
    if passing { Problem::passing(sentence) } else { Problem::lasting(sentence) }
}

impl Client {
    /// Keeps a blob on this device, durably, and brings it to the relay when there is a link. A change that names it is
    /// sent after it. At most 64 MiB.
    pub async fn put_blob(&self, bytes: impl Into<Bytes>) -> Result<BlobId, ClientError> {
        let bytes = checked(bytes.into())?;
        let outbox = self.shared.outbox.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let id = BlobId::of(&bytes);
            outbox.put(id, &bytes).map(|()| id)
        });
        let id = kept.await.map_err(|_| ClientError::Closing)??;
        self.shared.step(|device, _| device.blob_waits(id));
        self.shared.uploads.notify_one();
        Ok(id)
    }

    /// Stores a blob on the relay, past the outbox: durable there on return. For who is of no use without a link.
    pub async fn send_blob(&self, bytes: impl Into<Bytes>) -> Result<BlobId, ClientError> {
        let bytes = checked(bytes.into())?;
        let id = BlobId::of(&bytes);
        self.remote()?.put(id, bytes).await.map_err(ClientError::Relay)?;
        Ok(id)
    }

    /// A blob: from this device, else from the relay. `None`: neither has it.
    pub async fn get_blob(&self, id: BlobId) -> Result<Option<Bytes>, ClientError> {
        let outbox = self.shared.outbox.clone();
        let here = tokio::task::spawn_blocking(move || outbox.get(id)).await.map_err(|_| ClientError::Closing)??;
        if here.is_some() {
            return Ok(here);
        }
        let fetched = self.remote()?.get(id).await.map_err(ClientError::Relay)?;
        if let Some(bytes) = fetched.clone() {
            let outbox = self.shared.outbox.clone();
            let kept = tokio::task::spawn_blocking(move || outbox.keep(id, &bytes)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(%error, "a blob can't be kept on this device");
            }
        }
        Ok(fetched)
    }

    /// What the relay says over HTTP at a path, such as `/query/cost`: the body of its answer. `docs/http.md` describes
    /// each.
    pub async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Bytes, ClientError> {
        self.remote()?.say(path, parameters).await.map_err(ClientError::Relay)
    }

    fn remote(&self) -> Result<Arc<Remote>, ClientError> {
        match &self.shared.remote {
            Some(remote) => remote.clone().map_err(ClientError::Relay),
            None => Err(ClientError::Relay(Problem::lasting("this device is offline by choice"))),
        }
    }
}

fn checked(bytes: Bytes) -> Result<Bytes, ClientError> {
    if bytes.len() as u64 > MAX_BYTES { Err(ClientError::TooLarge) } else { Ok(bytes) }
}

/// Brings what is in the outbox to the relay whenever there is a link; runs until it is dropped.
pub(crate) async fn upload(shared: Arc<Shared>) {
    let Some(Ok(remote)) = shared.remote.clone() else { return };
    let mut link = shared.link.subscribe();
    let mut wait = SHORTEST;
    loop {
        if link.wait_for(|link| *link == Link::Up).await.is_err() {
            return;
        }
        let failed = match upload_all(&shared, &remote).await {
            Ok(()) => {
                wait = SHORTEST;
                None
            }
            Err(problem) => {
                tracing::warn!(%problem, "a blob can't be brought to the relay yet");
                let pause = if problem.is_final { LONGEST } else { wait };
                wait = (wait * 2).min(LONGEST);
                Some(pause)
            }
        };
        tokio::select! {
            () = shared.uploads.notified() => {}
            () = async {
                match failed {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

/// One after the other; one that is refused keeps no other back.
async fn upload_all(shared: &Arc<Shared>, remote: &Remote) -> Result<(), Problem> {
    let on_disk = |error: crate::StoreError| Problem::passing(error.to_string());
    let mut outcome = Ok(());
    // Asked before the notes are read: a blob has its note before the device knows of it.
    let known: Vec<BlobId> = shared.device().waiting_blobs().collect();
    let waiting = shared.outbox.waiting().map_err(on_disk)?;
    for id in known.into_iter().filter(|id| !waiting.contains(id)) {
        // Another process has brought it: only then does a note go.
        shared.step(|device, _| device.blob_sent(id));
    }
    for id in waiting {
        let outbox = shared.outbox.clone();
        let read = tokio::task::spawn_blocking(move || outbox.get(id)).await;
        let sent = match read.unwrap_or(Ok(None)).map_err(on_disk)? {
            // Another process has brought it, and dropped it since.
            None if !shared.outbox.waiting().map_err(on_disk)?.contains(&id) => Ok(()),
            // The disk has lost it: what names it stays here.
            None => Err(Problem::lasting(format!("blob {id} is not on this device any more"))),
            Some(bytes) => remote.put(id, bytes).await,
        };
        match sent {
            Ok(()) => {
                shared.outbox.sent(id).map_err(on_disk)?;
                shared.step(|device, _| device.blob_sent(id));
            }
            Err(problem) if problem.is_final => outcome = Err(problem),
            Err(problem) => return Err(problem),
        }
    }
    outcome
}
