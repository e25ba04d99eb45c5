//! The web client, embedded in the binary: plain files with their headers. What Vite names by its content is cached for
//! good; the rest is asked for again each time. A missing file is 404 and never the start page, so that no service
//! worker keeps HTML as JavaScript.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use crate::http::Problem;

/// What a page may do; the web client's build reads the same file.
const POLICY: &str = include_str!("../../web/policy.txt").trim_ascii();
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
const MISSING: &str = "This skein binary was built without the web client: run `cargo xtask build`, which embeds it.\n";

#[derive(RustEmbed)]
#[folder = "../web/dist"]
struct Files;

/// Whatever no other route takes.
pub async fn file(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return Problem::Method.into_response();
    }
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let mut response = match Files::get(path) {
        Some(_) if path.ends_with(".br") => Problem::NotFound.into_response(),
        Some(file) => found(path, file, &headers),
        None if path == "index.html" => ([(CONTENT_TYPE, "text/plain; charset=utf-8")], MISSING).into_response(),
        None => Problem::NotFound.into_response(),
    };
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn found(path: &str, file: rust_embed::EmbeddedFile, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..16]));
    let cache = if path.starts_with("assets/") { FOR_GOOD } else { "no-cache" };
    let common = [
        (CACHE_CONTROL, HeaderValue::from_static(cache)),
        (VARY, HeaderValue::from_static("accept-encoding")),
        (CONTENT_TYPE, HeaderValue::from_static(media_type(path))),
    ];
    if headers.get(IF_NONE_MATCH).is_some_and(|known| lists(known, &tag)) {
        return (StatusCode::NOT_MODIFIED, common, [(ETAG, tag)]).into_response();
    }
    let compressed = match headers.get(ACCEPT_ENCODING).is_some_and(|accepted| lists(accepted, "br")) {
        true => Files::get(&format!("{path}.br")),
        false => None,
    };
    let encoding = compressed.as_ref().map(|_| [(CONTENT_ENCODING, HeaderValue::from_static("br"))]);
    let content = compressed.unwrap_or(file).data;
    let body = match content {
        std::borrow::Cow::Borrowed(bytes) => Body::from(bytes),
        std::borrow::Cow::Owned(bytes) => Body::from(bytes),
    };
    let mut response = (common, [(ETAG, tag)], body).into_response();
    response.headers_mut().extend(encoding.into_iter().flatten());
    response
}

/// Whether a header's list names this, whatever its weight.
fn lists(header: &HeaderValue, wanted: &str) -> bool {
    let entries = header.to_str().unwrap_or_default().split(',');
    entries
        .map(|entry| entry.split(';').next().unwrap_or_default().trim())
        .any(|entry| entry == wanted || entry.strip_prefix("W/") == Some(wanted))
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_encodings_is_read_entry_by_entry() {
        let lists = |header, wanted| lists(&HeaderValue::from_static(header), wanted);
        assert!(lists("gzip, deflate, br;q=0.9", "br") && lists("br", "br") && lists("W/\"abc\"", "\"abc\""));
        assert!(!lists("gzip, brotli", "br") && !lists("", "br"));
    }

    #[tokio::test]
    async fn a_missing_file_is_never_the_start_page() {
        for path in ["/assets/gone-123.js", "/sessions/1", "/../Cargo.toml", "/index.html.br"] {
            let response = file(Method::GET, path.parse().unwrap(), HeaderMap::new()).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        }
        let start = file(Method::GET, "/".parse().unwrap(), HeaderMap::new()).await;
        assert_eq!(start.status(), StatusCode::OK);
        assert!(start.headers().contains_key(CONTENT_SECURITY_POLICY));
        let posted = file(Method::POST, "/".parse().unwrap(), HeaderMap::new()).await;
        assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
