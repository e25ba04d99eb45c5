//! The accept loop: connections in, bounded in number, each with a deadline for its request's head, so that a thousand
//! that say nothing cost little and go away.
//!
//! With TLS, programs on this machine may still come without: this relay's own worker and commands, and a proxy. Who
//! comes over a network without it is told so and gets nothing else.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::connection::stopped;
use crate::http::Problem;

/// Requests at a time. WebSockets are counted apart, once they are open.
const MAX_REQUESTS: usize = 4_096;
/// For the head of a request, and for TLS before it.
const HEAD: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// When no more files may be opened.
const PAUSE: Duration = Duration::from_millis(200);
/// The first byte of every TLS connection (RFC 8446, 5.1: a record that holds a handshake), and of no request.
const HANDSHAKE: u8 = 22;

/// Where connections come in.
pub struct Listener {
    /// The port.
    pub listener: TcpListener,
    /// What encrypts them.
    pub tls: Option<TlsAcceptor>,
}

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub struct Via {
    /// From where. Behind a proxy it is the proxy's: headers that say otherwise are not believed.
    pub address: IpAddr,
    /// Whether this relay encrypts it.
    pub encrypted: bool,
}

/// Serves until `stop`; then open requests may end, and it returns.
pub async fn serve(listener: Listener, router: Router, mut stop: watch::Receiver<bool>) {
    let Listener { listener, tls } = listener;
    let slots = Arc::new(Semaphore::new(MAX_REQUESTS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        let (stream, address) = match accepted {
            Ok((stream, address)) => (stream, address.ip().to_canonical()),
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Live tokens are small and must not wait for each other.
        let _ = stream.set_nodelay(true);
        let (http, router, tls, stop) = (http.clone(), router.clone(), tls.clone(), stop.clone());
        tokio::spawn(async move {
            match tls {
                None => talk(&http, stream, router, Via { address, encrypted: false }, stop).await,
                Some(tls) => match tokio::time::timeout(HEAD, secured(tls, stream)).await {
                    Ok(Ok(Secured::Encrypted(stream))) => {
                        talk(&http, *stream, router, Via { address, encrypted: true }, stop).await;
                    }
                    Ok(Ok(Secured::Local(stream))) => {
                        talk(&http, stream, router, Via { address, encrypted: false }, stop).await;
                    }
                    Ok(Ok(Secured::Not(stream))) => {
                        let refuse = Router::new().fallback(async || Problem::NotEncrypted.into_response());
                        talk(&http, stream, refuse, Via { address, encrypted: false }, stop).await;
                    }
                    // Whoever speaks no TLS that we know, doesn't trust the certificate, or says nothing.
                    Ok(Err(_)) | Err(_) => {}
                },
            }
            drop(slot);
        });
    }
}

/// A connection to a relay that speaks TLS.
enum Secured {
    Encrypted(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    /// In the clear, but it doesn't leave this machine.
    Local(TcpStream),
    /// In the clear.
    Not(TcpStream),
}

async fn secured(tls: TlsAcceptor, stream: TcpStream) -> io::Result<Secured> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE {
        return Ok(Secured::Encrypted(Box::new(tls.accept(stream).await?)));
    }
    let (there, here) = (stream.peer_addr()?.ip().to_canonical(), stream.local_addr()?.ip().to_canonical());
    Ok(if there.is_loopback() || there == here { Secured::Local(stream) } else { Secured::Not(stream) })
}

/// Answers the requests of one connection.
async fn talk(
    http: &http1::Builder,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    via: Via,
    mut stop: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(via);
        router.call(request)
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // How a connection ends is its client's affair.
        _ = connection.as_mut() => {}
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(Duration::from_secs(2), connection).await;
        }
    }
}
