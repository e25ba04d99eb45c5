//! `GET /workspace/archive`, for the workspace's owners, and `POST /workspaces/archive`, for whoever runs the relay.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::restore::{Progress, Restored, restore};
use super::write::{Source, write};
use crate::accounts::Caller;
use crate::http::{App, Problem, operator, owner};

/// Bytes given out at a time.
const PIECE: usize = 64 << 10;

/// The caller's workspace. A transfer that ends without `end.json` is not whole.
pub async fn give(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    owner(&caller)?;
    let (pieces, coming) = mpsc::channel::<io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let (accounts, log, ledger, blobs) = (&app.accounts, &app.log, &app.ledger, &app.blobs);
        let source = Source { accounts, log, ledger, blobs, workspace: &caller.workspace };
        let pipe = Pipe { pieces: pieces.clone(), piece: Vec::with_capacity(PIECE) };
        if let Err(error) = write(&source, pipe) {
            tracing::warn!(%error, "an archive broke off");
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let body = stream::unfold(coming, async |mut coming| Some((coming.recv().await?, coming)));
    let headers = [(CONTENT_TYPE, "application/x-tar"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// What is written, to whoever downloads it.
struct Pipe {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        let sent = if piece.is_empty() { Ok(()) } else { self.pieces.blocking_send(Ok(piece.into())) };
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more"))
    }
}

/// Takes an archive in. Answers with lines of JSON as it goes on: `{documents, of}`, at last `{id, name, document, token,
/// leftOut}` or `{error}`.
pub async fn take(State(app): State<App>, caller: Caller, body: Body) -> Result<Response, Problem> {
    if !operator(&app, &caller) {
        return Err(Problem::Forbidden("only an owner of the relay's first workspace takes workspaces in"));
    }
    let file = received(&app, body).await.map_err(|error| Problem::Failed(error.to_string()))?;
    let (lines, coming) = mpsc::unbounded_channel::<String>();
    tokio::spawn(async move {
        let tell = |Progress { documents, of, .. }| _ = lines.send(line(&json!({ "documents": documents, "of": of })));
        let last = match restore(&app, file, tell).await {
            Ok(Restored { workspace, token, progress }) => json!({
                "id": workspace.id,
                "name": workspace.name,
                "document": workspace.document,
                "token": token.reveal(),
                "leftOut": progress.left_out,
            }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        let _ = lines.send(line(&last));
    });
    let body = stream::unfold(coming, async |mut coming| Some((coming.recv().await?, coming)));
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(body.map(Ok::<_, io::Error>))).into_response())
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// The upload as a file without a name: it is gone when it is closed.
async fn received(app: &App, body: Body) -> io::Result<File> {
    let path = app.data.join(format!("import-{}.part", skein_engine::ids::random_id()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path)?;
    std::fs::remove_file(&path)?;
    let mut writing = tokio::fs::File::from_std(file);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        tokio::io::AsyncWriteExt::write_all(&mut writing, &piece.map_err(io::Error::other)?).await?;
    }
    tokio::io::AsyncWriteExt::flush(&mut writing).await?;
    Ok(writing.into_std().await)
}
