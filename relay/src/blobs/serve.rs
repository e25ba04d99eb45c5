//! `PUT`, `GET` and `HEAD /blobs/{sha256}`. Whoever may read a workspace reads its blobs; a viewer stores none.
//!
//! Invariant: what is served is a download that can do nothing: no type, no script, no frame.

use std::io::SeekFrom;
use std::ops::Range;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use skein_engine::blob::BlobId;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::Put;
use crate::accounts::Caller;
use crate::http::{App, Problem};

/// Bytes read from a blob at a time.
const PIECE: u64 = 64 << 10;

/// Stores a blob.
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    if caller.read_only() {
        return Err(Problem::Forbidden("a viewer stores nothing"));
    }
    let id: BlobId = id.parse().map_err(|_| Problem::Bad("a blob's address ends in its SHA-256, in hex".to_owned()))?;
    let put = app.blobs.put(&caller.workspace.id, id, body.into_data_stream()).await.map_err(Problem::Blob)?;
    Ok(match put {
        Put::Created => StatusCode::CREATED.into_response(),
        Put::Known => StatusCode::OK.into_response(),
    })
}

/// Gives a blob, or one range of it.
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let failed = |error: std::io::Error| Problem::Failed(error.to_string());
    let id: BlobId = id.parse().map_err(|_| Problem::NotFound)?;
    // Whoever asks whether it is here is about to name it.
    if method == Method::HEAD && !caller.read_only() {
        app.blobs.touch(&caller.workspace.id, id).await.map_err(failed)?;
    }
    let found = app.blobs.get(&caller.workspace.id, id).await.map_err(failed)?;
    let (mut file, size) = found.ok_or(Problem::NotFound)?;
    let download = [
        (CONTENT_TYPE, "application/octet-stream"),
        (CONTENT_DISPOSITION, "attachment"),
        (CONTENT_SECURITY_POLICY, "sandbox"),
        (CACHE_CONTROL, "private, max-age=31536000, immutable"),
        (ACCEPT_RANGES, "bytes"),
    ];
    let (status, range) = match headers.get(RANGE).and_then(|range| Wanted::parse(range.to_str().ok()?, size)) {
        None => (StatusCode::OK, 0..size),
        Some(Wanted::Range(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(Wanted::Nothing) => {
            let whole = [(CONTENT_RANGE, text(format!("bytes */{size}")))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response());
        }
    };
    file.seek(SeekFrom::Start(range.start)).await.map_err(failed)?;
    let length = range.end - range.start;
    let pieces = stream::try_unfold((file, length), async |(mut file, left)| {
        let mut piece = Vec::with_capacity(PIECE.min(left) as usize);
        let read = (&mut file).take(PIECE.min(left)).read_to_end(&mut piece).await?;
        Ok::<_, std::io::Error>((read > 0).then_some((piece, (file, left - read as u64))))
    });
    let mut response = (status, download, Body::from_stream(pieces)).into_response();
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        let part = text(format!("bytes {}-{}/{size}", range.start, range.end - 1));
        response.headers_mut().insert(CONTENT_RANGE, part);
    }
    Ok(response)
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("digits and a few signs make a header")
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Range(Range<u64>),
    /// It lies beyond the end.
    Nothing,
}

impl Wanted {
    /// `None`: the header is to be passed over (RFC 9110, 14.2), as are several ranges at once.
    fn parse(header: &str, size: u64) -> Option<Self> {
        let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
        let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
        let range: Range<u64> = match (first.is_empty(), last.is_empty()) {
            (true, true) => return None,
            (true, false) => size.saturating_sub(number(last)?)..size,
            (false, true) => number(first)?..size,
            (false, false) => {
                let (first, last): (u64, u64) = (number(first)?, number(last)?);
                if last < first {
                    return None;
                }
                first..last.saturating_add(1).min(size)
            }
        };
        Some(if range.is_empty() { Self::Nothing } else { Self::Range(range) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (header, wanted) in [
            ("bytes=0-0", Some(Wanted::Range(0..1))),
            ("bytes=2-5", Some(Wanted::Range(2..6))),
            ("bytes=2-500", Some(Wanted::Range(2..10))),
            ("bytes=9-", Some(Wanted::Range(9..10))),
            ("bytes=-3", Some(Wanted::Range(7..10))),
            ("bytes=-30", Some(Wanted::Range(0..10))),
            ("bytes=10-", Some(Wanted::Nothing)),
            ("bytes=10-20", Some(Wanted::Nothing)),
            ("bytes=-0", Some(Wanted::Nothing)),
            ("bytes=5-2", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
            ("bytes=99999999999999999999-", None),
        ] {
            assert_eq!(Wanted::parse(header, 10), wanted, "{header}");
        }
        assert_eq!(Wanted::parse("bytes=0-", 0), Some(Wanted::Nothing));
    }
}
