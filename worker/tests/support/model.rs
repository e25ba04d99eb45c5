//! A model's server: for each request the next script, written byte for byte, with the connection cut where it says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A step of an answer.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes, in one write.
    Send(Vec<u8>),
    /// Nothing for a while.
    Wait(Duration),
    /// The connection ends here, in the middle.
    Cut,
    /// Silence until the client hangs up.
    Hold,
}

/// One answer.
pub type Script = Vec<Step>;

/// What came to pass.
#[derive(Default)]
pub struct Heard {
    /// Bodies of the requests, in order.
    pub bodies: Vec<String>,
    /// Heads of the requests.
    pub heads: Vec<String>,
    /// How often a client hung up before the answer's end.
    pub hung_up: usize,
}

pub struct ModelServer {
    pub address: SocketAddr,
    pub heard: Arc<Mutex<Heard>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An HTTP head for a stream of events, without a length: it ends with the connection.
pub fn stream_head() -> Step {
    Step::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_vec())
}

/// A whole answer of another status.
pub fn status(status: &str, headers: &str, body: &str) -> Script {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    vec![Step::Send((head + body).into_bytes())]
}

/// A stream of these bytes, piece by piece.
pub fn stream<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Script {
    let mut script = vec![stream_head()];
    script.extend(pieces.into_iter().map(|piece| Step::Send(piece.to_vec())));
    script
}

/// An OpenAI chat answer that says these pieces, and stops with `stop` if that is given.
pub fn openai(pieces: &[&str], stop: Option<&str>) -> String {
    let mut text = String::new();
    for piece in pieces {
        let piece = serde_json::Value::from(*piece);
        text += &format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{piece}}}}}]}}\n\n");
    }
    if let Some(stop) = stop {
        text += &format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{stop}\"}}]}}\n\n");
        text +=
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\n";
        text += "data: [DONE]\n\n";
    }
    text
}

impl ModelServer {
    /// Answers each request with the next script; when they are used up, with the last one again.
    pub async fn start(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Heard>>::default();
        let scripts = Arc::new(Mutex::new(VecDeque::from(scripts)));
        let task = tokio::spawn({
            let heard = heard.clone();
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket, scripts.clone(), heard.clone()));
                }
            }
        });
        Self { address, heard, task }
    }

    pub fn bodies(&self) -> Vec<String> {
        self.heard.lock().unwrap().bodies.clone()
    }

    pub fn hung_up(&self) -> usize {
        self.heard.lock().unwrap().hung_up
    }
}

async fn serve(mut socket: TcpStream, scripts: Arc<Mutex<VecDeque<Script>>>, heard: Arc<Mutex<Heard>>) {
    let Some((head, body)) = request(&mut socket).await else { return };
    let script = {
        let mut heard = heard.lock().unwrap();
        heard.heads.push(head);
        heard.bodies.push(body);
        let mut scripts = scripts.lock().unwrap();
        let script = scripts.front().cloned().unwrap_or_default();
        if scripts.len() > 1 {
            scripts.pop_front();
        }
        script
    };
    for step in script {
        let hung_up = match step {
            Step::Send(bytes) => socket.write_all(&bytes).await.is_err() || socket.flush().await.is_err(),
            Step::Wait(time) => {
                let mut byte = [0];
                tokio::select! {
                    () = tokio::time::sleep(time) => false,
                    read = socket.read(&mut byte) => matches!(read, Ok(0) | Err(_)),
                }
            }
            Step::Hold => {
                let mut byte = [0];
                matches!(socket.read(&mut byte).await, Ok(0) | Err(_))
            }
            Step::Cut => return,
        };
        if hung_up {
            heard.lock().unwrap().hung_up += 1;
            return;
        }
    }
    let _ = socket.shutdown().await;
}

pub async fn request(socket: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let mut buffer = [0; 4096];
        let read = socket.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.trim().parse().ok()?;
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        let mut buffer = [0; 4096];
        let read = socket.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        body.extend_from_slice(&buffer[..read]);
    }
    Some((head, String::from_utf8(body).ok()?))
}
