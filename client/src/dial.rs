//! Opening a socket to the relay: address and token in, an open WebSocket or a plain sentence out.

use std::fmt;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
pub(crate) use tokio_tungstenite::tungstenite::Message as SocketMessage;

/// How long the relay may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Above the relay's own bound for what it sends (64 MiB) nothing is read.
const MAX_MESSAGE: usize = 64 << 20;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One sentence, the cause first.
    pub sentence: String,
    /// Whether trying again is useless until a person has changed something: the address, the token.
    pub is_final: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Problem {
    pub(crate) fn passing(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), is_final: false }
    }

    pub(crate) fn lasting(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), is_final: true }
    }
}

/// A relay's address, as given: `http(s)://…`, `ws(s)://…`, or host and port.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `ws://host:port` or `wss://…`, without a last slash.
    base: String,
}

impl Address {
    pub(crate) fn parse(given: &str) -> Result<Self, Problem> {
        let given = given.trim();
        let (scheme, rest) = given.split_once("://").unwrap_or(("http", given));
        let rest = rest.trim_end_matches('/');
        let scheme = match scheme {
            "http" | "ws" => "ws",
            "https" | "wss" => "wss",
            other => return Err(Problem::lasting(format!("\"{other}\" is no address of a relay: use http or https"))),
        };
        if rest.is_empty() {
            return Err(Problem::lasting("the relay's address is empty"));
        }
        Ok(Self { base: format!("{scheme}://{rest}") })
    }

    /// The same over HTTP, without a last slash.
    pub(crate) fn http(&self) -> String {
        // "ws" becomes "http", "wss" "https".
        format!("http{}", self.base.strip_prefix("ws").unwrap_or_default())
    }

    /// As a person would write it.
    fn shown(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, rest)| rest)
    }
}

/// Opens the socket of a path.
pub(crate) async fn dial(address: &Address, path: &str, token: Option<&str>) -> Result<Socket, Problem> {
    // Does nothing if the program has chosen a provider of its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("{}{path}", address.base);
    let mut request = url
        .into_client_request()
        .map_err(|error| Problem::lasting(format!("\"{}\" is no address of a relay: {error}", address.shown())))?;
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Problem::lasting("the token holds characters that no token has"))?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    match tokio::time::timeout(TIMEOUT, connect_async_with_config(request, Some(config), true)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(explain(address, error)),
        Err(_) => Err(Problem::passing(format!("the relay at {} does not answer", address.shown()))),
    }
}

fn explain(address: &Address, error: Error) -> Problem {
    let relay = address.shown();
    match error {
        Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Problem::passing(format!("no relay answers at {relay}: connection refused"))
        }
        Error::Io(error) if is_about_a_certificate(&error) => Problem::lasting(format!(
            "the certificate of the relay at {relay} can't be trusted: {error}; if it is of an authority of your own, add \
             that to this system's, or name its file in SSL_CERT_FILE"
        )),
        Error::Io(error) => Problem::passing(format!("the relay at {relay} can't be reached: {error}")),
        Error::Http(response) => {
            let said = response.body().as_deref().and_then(message);
            match response.status() {
                StatusCode::UNAUTHORIZED => {
                    Problem::lasting(format!("wrong token: the relay at {relay} doesn't know it"))
                }
                StatusCode::FORBIDDEN => {
                    let said = said.unwrap_or_else(|| "it gave no reason".into());
                    Problem::lasting(format!("the relay at {relay} refused the connection: {said}"))
                }
                StatusCode::NOT_FOUND => Problem::lasting(format!("{relay} is no relay of Skein")),
                status => {
                    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
                    Problem::passing(format!("the relay at {relay} answered {status}{said}"))
                }
            }
        }
        Error::Url(error) => Problem::lasting(format!("\"{relay}\" is no address of a relay: {error}")),
        error => Problem::passing(format!("the connection to {relay} failed: {error}")),
    }
}

/// Whether TLS failed because of who the other end is.
fn is_about_a_certificate(error: &std::io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    // Not found are the certificates of this system.
    matches!(tls, Some(rustls::Error::InvalidCertificate(_))) || error.kind() == std::io::ErrorKind::NotFound
}

/// The sentence in an answer like `{"error": {"message": "…"}}`.
fn message(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body.get("error")?.get("message")?.as_str().map(|message| message.chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_an_address_leads_to_a_websocket() {
        for (given, base) in [
            ("http://127.0.0.1:7700", "ws://127.0.0.1:7700"),
            ("https://skein.example.org/", "wss://skein.example.org"),
            ("ws://127.0.0.1:7700", "ws://127.0.0.1:7700"),
            ("127.0.0.1:7700", "ws://127.0.0.1:7700"),
        ] {
            let address = Address::parse(given).expect("an address");
            assert_eq!(address.base, base);
            assert_eq!(address.http().replacen("http", "ws", 1), base);
        }
        assert!(Address::parse("ftp://x").is_err() && Address::parse("http://").is_err());
    }
}
