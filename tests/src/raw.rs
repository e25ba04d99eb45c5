//! Sockets on which anything can be said: HTTP by hand, and WebSocket frames that no library would make.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::within;

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

/// One request over a connection of its own. `headers` are lines without their end.
pub async fn http(address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
        request.push_str(&format!("Host: {address}\r\n"));
    }
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let answer = within(path, exchange).await;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an HTTP answer has a head") + 4;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an HTTP answer has a status");
    Answer { status, head, body: answer[end..].to_vec() }
}

/// A WebSocket after its handshake, on which raw bytes are written.
pub struct RawSocket(pub TcpStream);

impl RawSocket {
    /// Connects to `path` with a token.
    pub async fn open(address: SocketAddr, path: &str, token: &str) -> Self {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        let handshake = async {
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
        };
        within("the handshake", handshake).await;
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        Self(stream)
    }

    /// Writes bytes as they are; an ended connection is no error here.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// Whether the other end closes the connection within the time; what it says before is dropped.
    pub async fn closes(&mut self) -> bool {
        let mut buffer = vec![0; 65_536];
        let drained = async { while matches!(self.0.read(&mut buffer).await, Ok(1..)) {} };
        tokio::time::timeout(crate::PATIENCE, drained).await.is_ok()
    }
}

/// A client's frame: final, masked with zeros (so that the payload goes as it is), well made.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(0x80 | opcode, true, payload.len() as u64);
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// The first bytes of a frame: `first` is flags and opcode; `length` may be a lie.
pub fn header(first: u8, masked: bool, length: u64) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    match length {
        0..=125 => vec![first, mask | length as u8],
        126..=0xffff => [&[first, mask | 126][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[first, mask | 127][..], &length.to_be_bytes()].concat(),
    }
}
