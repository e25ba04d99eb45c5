//! TLS with a certificate of the test's own: what goes through it, who may come without, and files that are of no use.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use automerge::{ROOT, ReadDoc};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use skein_engine::ids::{DocumentId, PeerId, random_id};
use skein_relay::{Relay, RelayError, TlsFiles};
use support::{Peer, Socket, client, config, session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

/// Writes a certificate for this machine and its key.
fn certificate(folder: &Path) -> (TlsFiles, CertificateDer<'static>) {
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let files = TlsFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.cert, cert.pem()).unwrap();
    std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    (files, cert.der().clone())
}

async fn start(folder: &Path, tls: TlsFiles) -> Result<Relay, RelayError> {
    let mut config = config(&folder.join("data"));
    config.tls = Some(tls);
    skein_relay::start(config).await
}

/// A WebSocket through TLS that trusts this certificate alone.
async fn dial(address: SocketAddr, path: &str, token: &str, trusted: CertificateDer<'static>) -> Socket {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut request = format!("wss://{address}{path}").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let connector = Some(Connector::Rustls(Arc::new(tls)));
    connect_async_tls_with_config(request, None, false, connector).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_sockets_go_through_tls_and_this_machine_may_come_without() {
    let folder = tempfile::tempdir().unwrap();
    let (files, trusted) = certificate(folder.path());
    let relay = start(folder.path(), files).await.unwrap();
    let address = relay.address();
    assert!(relay.sign_in_url().starts_with(&format!("https://{address}/#/")));
    // Installs the provider that the clients use.
    let plain = client();
    let root = reqwest::Certificate::from_der(&trusted).unwrap();
    let trusting = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
    let health: Value = trusting.get(format!("https://{address}/health")).send().await.unwrap().json().await.unwrap();
    assert_eq!(health["status"], "ok");
    let strict = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    assert!(strict.get(format!("https://{address}/health")).send().await.is_err(), "it trusts nobody");

    let socket = dial(address, "/sync", relay.owner_token(), trusted.clone()).await;
    let mut one = Peer::over(socket, PeerId::from(random_id()), DocumentId::random(), session("hello")).await;
    one.until_acknowledged().await;
    // What this machine says to itself needs no certificate: `serve`'s own worker, a proxy.
    let mut two = Peer::join(address, relay.owner_token(), one.document).await;
    two.until(|document| document.get(ROOT, "kind").unwrap().is_some()).await;
    let health = plain.get(format!("http://{address}/health")).send().await.unwrap();
    assert_eq!(health.status(), 200);
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_says_nothing_or_nonsense_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (files, trusted) = certificate(folder.path());
    let relay = start(folder.path(), files).await.unwrap();
    let _silent = TcpStream::connect(relay.address()).await.unwrap();
    let mut nonsense = TcpStream::connect(relay.address()).await.unwrap();
    nonsense.write_all(&[22; 500]).await.unwrap();
    let mut answer = Vec::new();
    // An alert, or nothing; then it is over.
    let _ = nonsense.read_to_end(&mut answer).await;
    assert!(answer.len() < 100);
    dial(relay.address(), "/catalog", relay.owner_token(), trusted).await;
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_of_no_use_are_named_with_the_reason() {
    let [one, two] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let ((good, _), (other, _)) = (certificate(one.path()), certificate(two.path()));
    let nonsense = one.path().join("nonsense.pem");
    std::fs::write(&nonsense, "not PEM at all").unwrap();
    let missing = one.path().join("gone.pem");
    for (cert, key, named, reason) in [
        (&missing, &good.key, &missing, "No such file"),
        (&good.cert, &missing, &missing, "No such file"),
        (&nonsense, &good.key, &nonsense, "no certificate"),
        (&good.cert, &nonsense, &nonsense, "no private key"),
        (&good.cert, &other.key, &other.key, "not the key of the certificate"),
    ] {
        let files = TlsFiles { cert: cert.clone(), key: key.clone() };
        let error = start(one.path(), files).await.err().unwrap();
        assert!(matches!(error, RelayError::Tls { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&named.display().to_string()) && text.contains(reason), "{text}");
    }
}
