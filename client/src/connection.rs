//! The two sockets to the relay, dialed again whenever they are lost: the catalog's first, since it says whether this is
//! the right workspace, then the documents'. If either goes, both go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use skein_engine::ids::{DocumentId, random_bytes};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::dial::{Address, Problem, Socket, SocketMessage, dial};
use crate::shared::{Connection, Link, Path, Shared};
use crate::store::StoreError;

/// The first wait after a lost connection; doubled up to [`LONGEST`], and never exactly, lest all come back at once.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// A ping goes out this often; nothing heard for [`SILENCE`] ends the connection.
const PING_EVERY: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(45);

/// Where to connect, and as whom.
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) token: Option<String>,
}

/// Connects and reconnects until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, target: Target) {
    let mut wait = SHORTEST;
    loop {
        shared.link.send_replace(Link::Connecting);
        let started = Instant::now();
        let problem = once(&shared, &target).await;
        shared.end();
        shared.step(|device, now| {
            let mut effects = device.sync_closed(now);
            effects += device.catalog_closed(now);
            effects
        });
        tracing::debug!(%problem, "no connection to the relay");
        // What lasts needs a person, who may be slow; it is still tried, since the person may act at the other end.
        wait = match () {
            () if problem.is_final => LONGEST,
            () if started.elapsed() > LONGEST => SHORTEST,
            () => wait,
        };
        shared.link.send_replace(Link::Down(problem));
        tokio::time::sleep(wait.mul_f64(0.5 + f64::from(random_bytes::<1>()[0]) / 256.0)).await;
        wait = (wait * 2).min(LONGEST);
    }
}

/// One connection, from dialing to its end: why it ended.
async fn once(shared: &Arc<Shared>, target: &Target) -> Problem {
    match both(shared, target).await {
        Ok(never) => never,
        Err(problem) => problem,
    }
}

async fn both(shared: &Arc<Shared>, target: &Target) -> Result<Problem, Problem> {
    let token = target.token.as_deref();
    let (mut catalog_out, mut catalog) = dial(&target.address, "/catalog", token).await?.split();

    let (sync_queue, sync_messages) = mpsc::unbounded_channel();
    let (catalog_queue, catalog_messages) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let (hang_up, mut hung_up) = oneshot::channel();
    shared.begin(|number| Connection {
        number,
        sync: sync_queue,
        catalog: catalog_queue,
        waiting: waiting.clone(),
        hang_up: Some(hang_up),
    });
    shared.step(|device, now| device.catalog_opened(now));
    let catalog_writer = write(&mut catalog_out, catalog_messages, &waiting);
    tokio::pin!(catalog_writer);

    // The greeting. Until it has come, nothing of this workspace is shown to the relay.
    let greeting = async {
        loop {
            let Some(message) = catalog.next().await else { return Err(ended(None)) };
            receive(shared, Path::Catalog, message)?;
            if let Some(identity) = welcomed(shared) {
                return Ok(identity);
            }
        }
    };
    let identity = tokio::select! {
        greeted = tokio::time::timeout(SILENCE, greeting) => {
            greeted.map_err(|_| Problem::passing("the relay does not greet"))??
        }
        problem = &mut catalog_writer => return Err(problem),
        why = &mut hung_up => return Err(why.unwrap_or_else(|_| ended(None))),
    };
    if let Some(folder) = shared.folder.clone() {
        let workspace = identity.workspace_document;
        let kept = tokio::task::spawn_blocking(move || {
            let ours = folder.is_of(workspace)?;
            if ours && let Err(error) = folder.keep_identity(&identity) {
                tracing::warn!(%error, "who this device is can't be kept");
            }
            Ok::<_, StoreError>(ours)
        });
        match kept.await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                return Err(Problem::lasting("this replica belongs to another workspace: give another --data"));
            }
            Ok(Err(error)) => return Err(Problem::lasting(error.to_string())),
            Err(error) => return Err(Problem::passing(error.to_string())),
        }
    }

    let (mut sync_out, mut sync) = dial(&target.address, "/sync", token).await?.split();
    shared.step(|device, now| device.sync_opened(now));
    let sync_writer = write(&mut sync_out, sync_messages, &waiting);
    tokio::pin!(sync_writer);

    let mut heard = Instant::now();
    let mut check = tokio::time::interval(PING_EVERY);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = catalog.next() => {
                heard = Instant::now();
                receive(shared, Path::Catalog, message.ok_or_else(|| ended(None))?)?;
            }
            message = sync.next() => {
                heard = Instant::now();
                receive(shared, Path::Sync, message.ok_or_else(|| ended(None))?)?;
            }
            problem = &mut catalog_writer => return Err(problem),
            problem = &mut sync_writer => return Err(problem),
            why = &mut hung_up => return Err(why.unwrap_or_else(|_| ended(None))),
            _ = check.tick() => {
                if heard.elapsed() > SILENCE {
                    return Err(Problem::passing("the relay has fallen silent"));
                }
            }
        }
        if shared.device().sync_state().connected {
            shared.link.send_if_modified(|link| std::mem::replace(link, Link::Up) != Link::Up);
        }
    }
}

/// Who this device is, once the relay has said so on this connection.
fn welcomed(shared: &Shared) -> Option<skein_engine::wire::catalog::Welcome> {
    let device = shared.device();
    device.is_welcome().then(|| device.identity().cloned()).flatten()
}

fn receive(
    shared: &Shared,
    path: Path,
    message: Result<SocketMessage, tokio_tungstenite::tungstenite::Error>,
) -> Result<(), Problem> {
    match message.map_err(|error| ended(Some(error.to_string())))? {
        SocketMessage::Binary(bytes) => shared.step(|device, now| match path {
            Path::Sync => device.sync_received(now, &bytes),
            Path::Catalog => device.catalog_received(now, &bytes),
        }),
        SocketMessage::Close(frame) => {
            return Err(ended(frame.map(|frame| frame.reason.to_string()).filter(|reason| !reason.is_empty())));
        }
        SocketMessage::Text(_) | SocketMessage::Ping(_) | SocketMessage::Pong(_) | SocketMessage::Frame(_) => {}
    }
    Ok(())
}

/// Writes what is queued, and pings, until the socket fails; what is queued together leaves together.
async fn write(
    socket: &mut SplitSink<Socket, SocketMessage>,
    mut messages: mpsc::UnboundedReceiver<Bytes>,
    waiting: &AtomicUsize,
) -> Problem {
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut group = Vec::new();
    loop {
        let written = tokio::select! {
            count = messages.recv_many(&mut group, 64) => {
                if count == 0 {
                    return ended(None);
                }
                let mut written = Ok(());
                for message in group.drain(..) {
                    waiting.fetch_sub(message.len(), Ordering::Relaxed);
                    if written.is_ok() {
                        written = socket.feed(SocketMessage::Binary(message)).await;
                    }
                }
                match written {
                    Ok(()) => socket.flush().await,
                    Err(error) => Err(error),
                }
            }
            _ = ping.tick() => socket.send(SocketMessage::Ping(Bytes::new())).await,
        };
        if let Err(error) = written {
            return ended(Some(error.to_string()));
        }
    }
}

fn ended(why: Option<String>) -> Problem {
    Problem::passing(match why {
        Some(why) => format!("the connection to the relay was lost: {why}"),
        None => "the connection to the relay was lost".into(),
    })
}

/// The workspace that a relay serves to this token, asked before there is a replica to ask with.
pub(crate) async fn workspace_of(target: &Target) -> Result<DocumentId, Problem> {
    use skein_engine::ids::{PeerId, random_id};
    use skein_engine::wire::catalog::{FromRelay, ToRelay, VERSION};
    use skein_engine::wire::cbor;

    let mut socket = dial(&target.address, "/catalog", target.token.as_deref()).await?;
    let hello = ToRelay::Hello { version: VERSION, peer: PeerId::from(random_id()), cursor: None };
    let sent = socket.send(SocketMessage::Binary(cbor::encode(&hello).into())).await;
    sent.map_err(|error| ended(Some(error.to_string())))?;
    let welcome = async {
        while let Some(Ok(message)) = socket.next().await {
            if let SocketMessage::Binary(bytes) = message
                && let Ok(FromRelay::Welcome(welcome)) = cbor::decode::<FromRelay>(&bytes)
            {
                return Ok(welcome.workspace_document);
            }
        }
        Err(ended(None))
    };
    let found = tokio::time::timeout(Duration::from_secs(5), welcome).await;
    let found = found.unwrap_or_else(|_| Err(Problem::passing("the relay does not greet")));
    // It knows by the lost connection that nobody is there any more.
    drop(socket);
    found
}
