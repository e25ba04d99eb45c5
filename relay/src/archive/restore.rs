//! An archive into a running relay. Done twice it changes nothing the second time: what broke off is simply done again.
//!
//! Invariant: nothing is written before the whole archive has been read once and found good.

use std::fs::File;
use std::io::{BufReader, Seek};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use skein_engine::ids::{DocumentId, Scope};
use skein_engine::session::conversation::{MemberRole, WriterKind};
use tokio::sync::mpsc;

use super::read::{Piece, read};
use super::{ArchiveError, Head};
use crate::accounts::{Secret, Workspace};
use crate::clock;
use crate::http::App;

/// Changes that wait for the disk at the same time.
const TOGETHER: usize = 512;
/// Pieces that are read ahead.
const AHEAD: usize = 4;

/// What has come in so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) documents: u64,
    pub(super) of: u64,
    /// Documents that this relay purged since, or refuses for another reason.
    pub(super) left_out: u64,
}

/// What came in.
pub(super) struct Restored {
    pub(super) workspace: Workspace,
    /// A new one of an owner's.
    pub(super) token: Secret,
    pub(super) progress: Progress,
}

/// Reads the archive in `file` twice: to check it, and to put it in.
pub(super) async fn restore(
    app: &App,
    mut file: File,
    mut tell: impl FnMut(Progress),
) -> Result<Restored, ArchiveError> {
    let failed = |error: std::io::Error| ArchiveError::Failed(error.to_string());
    file.rewind().map_err(failed)?;
    let checked = file.try_clone().map_err(failed)?;
    blocking(move || read(BufReader::new(checked), |_| Ok(()))).await?;
    file.rewind().map_err(failed)?;
    let (pieces, mut coming) = mpsc::channel(AHEAD);
    let reading = tokio::spawn(blocking(move || {
        read(BufReader::new(file), |piece| {
            pieces.blocking_send(piece).map_err(|_| ArchiveError::Failed("the relay is stopping".into()))
        })
    }));
    let mut restored: Option<(Workspace, Secret)> = None;
    let mut progress = Progress::default();
    while let Some(piece) = coming.recv().await {
        match piece {
            Piece::Head(head) => {
                progress.of = head.documents;
                restored = Some(found(app, *head).await?);
            }
            Piece::Blob(id, bytes) => {
                let workspace = restored.as_ref().map(|(workspace, _)| workspace.id.clone()).unwrap_or_default();
                let content = stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
                let put = app.blobs.put(&workspace, id, content).await;
                put.map_err(|error| ArchiveError::Failed(error.to_string()))?;
            }
            Piece::Document(key, changes) => {
                progress.left_out += u64::from(!insert(app, &key, changes).await);
                progress.documents += 1;
                tell(progress);
            }
            Piece::Grave(key, grave) => {
                let (ledger, of, recorded) = (app.ledger.clone(), key.clone(), grave.clone());
                let buried = tokio::task::spawn_blocking(move || ledger.bury(&of, &recorded)).await;
                buried.map_err(stopped)?.map_err(|error| ArchiveError::Failed(error.to_string()))?;
                app.hub.purge(key.clone()).await.map_err(|error| ArchiveError::Failed(error.to_string()))?;
                app.catalog.buried(key, grave);
            }
            Piece::Firings(firings) => {
                let scope = restored.as_ref().map(|(workspace, _)| workspace.scope());
                let (ledger, scope) =
                    (app.ledger.clone(), scope.ok_or_else(|| ArchiveError::Content("it has no head".into()))?);
                let kept = tokio::task::spawn_blocking(move || ledger.keep_firings(&scope, &firings)).await;
                kept.map_err(stopped)?.map_err(|error| ArchiveError::Failed(error.to_string()))?;
            }
            Piece::Marks(marks) => {
                let (ledger, kept) = (app.ledger.clone(), marks.clone());
                let saved = tokio::task::spawn_blocking(move || ledger.keep_marks(&kept)).await;
                saved.map_err(stopped)?.map_err(|error| ArchiveError::Failed(error.to_string()))?;
                app.catalog.marked(marks);
            }
        }
    }
    reading.await.map_err(stopped)??;
    let (workspace, token) = restored.ok_or_else(|| ArchiveError::Content("it is empty".into()))?;
    app.catalog.members(workspace.scope());
    Ok(Restored { workspace, token, progress })
}

/// The workspace and its members in the accounts, unless it is there; and a token for one of its owners.
async fn found(app: &App, head: Head) -> Result<(Workspace, Secret), ArchiveError> {
    let accounts = app.accounts.clone();
    let work = move || {
        let workspace = accounts.restore(head.workspace, head.members, head.seeds)?;
        let members = accounts.members(&workspace.id);
        let owner = members.into_iter().find(|member| member.role == MemberRole::Owner);
        let owner = owner.ok_or(crate::accounts::AccountsError::NoMember)?;
        let minted = accounts.mint(clock::now(), &owner.id, "import", WriterKind::Member, false)?;
        Ok::<_, crate::accounts::AccountsError>((workspace, minted.token))
    };
    let done = tokio::task::spawn_blocking(work).await.map_err(stopped)?;
    done.map_err(|error| ArchiveError::Failed(error.to_string()))
}

/// Whether all of it is in the log now.
async fn insert(
    app: &App,
    key: &(Scope, DocumentId),
    changes: Vec<(skein_engine::session::conversation::Writer, Bytes)>,
) -> bool {
    let inserting = changes.into_iter().map(|(writer, change)| app.hub.insert(key.clone(), writer, change));
    let outcomes: Vec<Result<(), String>> = stream::iter(inserting).buffered(TOGETHER).collect().await;
    let refused = outcomes.into_iter().find_map(Result::err);
    if let Some(why) = &refused {
        tracing::warn!("a change of {} was not taken from the archive: {why}", key.1);
    }
    refused.is_none()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

fn stopped(error: tokio::task::JoinError) -> ArchiveError {
    ArchiveError::Failed(error.to_string())
}
