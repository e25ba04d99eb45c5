//! Everything that isn't a WebSocket.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{client, config, open, relay, status};

async fn code_of(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let body: Value = response.json().await.unwrap();
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_address_signs_one_browser_in() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let base = format!("http://{}", relay.address());
    let address = relay.sign_in_url();
    let code = address.strip_prefix(&format!("{base}/#/sign-in?code=")).unwrap();
    let pair = |code: &str| {
        let body = json!({ "code": code, "name": "Firefox" });
        client().post(format!("{base}/pair")).json(&body).send()
    };
    let answer: Value = pair(code).await.unwrap().json().await.unwrap();
    let token = answer["token"].as_str().unwrap();
    let who = client().get(format!("{base}/whoami")).bearer_auth(token).send().await.unwrap();
    let who: Value = who.json().await.unwrap();
    assert_eq!(who["workspaceDocument"], relay.workspace_document().to_string());
    assert_eq!((who["role"].as_str(), who["kind"].as_str()), (Some("owner"), Some("member")));
    assert!(who["member"].as_str().unwrap().len() == 22 && !who["memberName"].as_str().unwrap().is_empty());
    assert_eq!(code_of(pair(code).await.unwrap()).await, (StatusCode::GONE, "used".into()));
    assert_eq!(code_of(pair("made-up").await.unwrap()).await, (StatusCode::NOT_FOUND, "unknown".into()));
    assert_ne!(relay.sign_in_url(), address);
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_and_nonsense_get_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let base = format!("http://{}", relay.address());
    let http = client();
    for request in [http.get(format!("{base}/whoami")), http.post(format!("{base}/tickets"))] {
        let answer = request.bearer_auth("wrong").send().await.unwrap();
        assert_eq!(code_of(answer).await, (StatusCode::UNAUTHORIZED, "token".into()));
    }
    let answer = http.post(format!("{base}/pair")).body("nonsense").send().await.unwrap();
    assert_eq!(code_of(answer).await.0, StatusCode::BAD_REQUEST);
    let answer = http.delete(format!("{base}/whoami")).send().await.unwrap();
    assert_eq!(code_of(answer).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let health: Value = http.get(format!("{base}/health")).send().await.unwrap().json().await.unwrap();
    assert_eq!(health["status"], "ok");
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_token_is_made_by_an_owner_and_makes_none_itself() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let make = |token: String, kind: &str| {
        let body = json!({ "name": "elsewhere", "kind": kind });
        client().post(format!("http://{}/tokens", relay.address())).bearer_auth(token).json(&body).send()
    };
    let made = make(relay.owner_token().to_owned(), "worker").await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = made.json().await.unwrap();
    let token = made["token"].as_str().unwrap().to_owned();
    assert_eq!(code_of(make(token, "worker").await.unwrap()).await.0, StatusCode::FORBIDDEN);
    assert_eq!(code_of(make(relay.owner_token().to_owned(), "relay").await.unwrap()).await.0, StatusCode::BAD_REQUEST);
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_come_back_as_a_download_that_can_do_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let id = hex::encode(Sha256::digest(&content));
    let url = format!("http://{}/blobs/{id}", relay.address());
    let http = client();
    let put = |content: Vec<u8>| http.put(&url).bearer_auth(relay.owner_token()).body(content).send();
    assert_eq!(code_of(http.put(&url).body("small").send().await.unwrap()).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(code_of(put(b"other".to_vec()).await.unwrap()).await, (StatusCode::UNPROCESSABLE_ENTITY, "hash".into()));
    assert_eq!(put(content.clone()).await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(put(content.clone()).await.unwrap().status(), StatusCode::OK);
    let got = http.get(&url).bearer_auth(relay.owner_token()).send().await.unwrap();
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("x-content-type-options", "nosniff"),
        ("content-disposition", "attachment"),
        ("content-security-policy", "sandbox"),
    ] {
        assert_eq!(got.headers()[name], value);
    }
    assert_eq!(got.bytes().await.unwrap(), content);
    let part = |range: &str| http.get(&url).bearer_auth(relay.owner_token()).header("range", range).send();
    let got = part("bytes=100000-199999").await.unwrap();
    assert_eq!(got.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(got.headers()["content-range"], "bytes 100000-199999/300000");
    assert_eq!(got.headers()["content-security-policy"], "sandbox");
    assert_eq!(got.bytes().await.unwrap(), content[100_000..200_000]);
    let got = part("bytes=300000-").await.unwrap();
    assert_eq!(
        (got.status(), &got.headers()["content-range"]),
        (StatusCode::RANGE_NOT_SATISFIABLE, &"bytes */300000".parse().unwrap())
    );
    let head = http.head(&url).bearer_auth(relay.owner_token()).send().await.unwrap();
    assert_eq!((head.status(), &head.headers()["content-length"]), (StatusCode::OK, &"300000".parse().unwrap()));
    let missing = format!("http://{}/blobs/{}", relay.address(), hex::encode([7; 32]));
    let missing = http.get(missing).bearer_auth(relay.owner_token()).send().await.unwrap();
    assert_eq!(code_of(missing).await.0, StatusCode::NOT_FOUND);
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_host_or_page_is_refused_by_name_and_an_allowed_one_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.allowed_origins = vec!["https://app.example.net".to_owned()];
    config.allowed_hosts = vec!["skein.lan".to_owned()];
    let relay = skein_relay::start(config).await.unwrap();
    let ask = |name: &'static str, value: &'static str| {
        client().get(format!("http://{}/health", relay.address())).header(name, value).send()
    };
    let refused = ask("host", "evil.example").await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let text = refused.text().await.unwrap();
    assert!(text.contains("evil.example") && text.contains("allowed_hosts"), "{text}");
    assert_eq!(ask("host", "skein.lan").await.unwrap().status(), StatusCode::OK);
    assert_eq!(ask("origin", "https://evil.example").await.unwrap().status(), StatusCode::FORBIDDEN);
    let allowed = ask("origin", "https://app.example.net").await.unwrap();
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://app.example.net");
    let preflight = client()
        .request(reqwest::Method::OPTIONS, format!("http://{}/whoami", relay.address()))
        .header("origin", "https://app.example.net")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert!(preflight.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_an_allowed_origin_does_what_the_relays_own_does_and_no_other_page_anything() {
    const ALLOWED: &str = "https://app.example.net";
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.allowed_origins = vec![ALLOWED.to_owned()];
    let relay = skein_relay::start(config).await.unwrap();
    let base = format!("http://{}", relay.address());
    let content = b"a blob".as_slice();
    let blob = format!("/blobs/{}", hex::encode(Sha256::digest(content)));
    for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
        let preflight = |origin: &'static str| {
            client()
                .request(reqwest::Method::OPTIONS, format!("{base}/tokens"))
                .header("origin", origin)
                .header("access-control-request-method", method)
                .header("access-control-request-headers", "authorization,content-type,range")
                .header("access-control-request-private-network", "true")
                .send()
        };
        let allowed = preflight(ALLOWED).await.unwrap();
        assert_eq!(allowed.status(), StatusCode::NO_CONTENT);
        assert_eq!(allowed.headers()["access-control-allow-origin"], ALLOWED);
        assert_eq!(allowed.headers()["access-control-allow-private-network"], "true");
        let methods = allowed.headers()["access-control-allow-methods"].to_str().unwrap().to_owned();
        assert!(methods.split(", ").any(|one| one == method), "{methods}");
        let headers = allowed.headers()["access-control-allow-headers"].to_str().unwrap().to_owned();
        assert!(["authorization", "content-type", "range"].iter().all(|name| headers.contains(name)), "{headers}");
        let refused = preflight("https://evil.example").await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        assert!(refused.headers().get("access-control-allow-origin").is_none());
    }
    let token = relay.owner_token().to_owned();
    let ask = |method: &str, path: &str, origin: &'static str| {
        let request = client().request(method.parse().unwrap(), format!("{base}{path}"));
        request.header("origin", origin).bearer_auth(&token)
    };
    let answers = [
        ask("PUT", &blob, ALLOWED).body(content).send().await.unwrap(),
        ask("GET", &blob, ALLOWED).header("range", "bytes=0-1").send().await.unwrap(),
        ask("POST", "/codes", ALLOWED).send().await.unwrap(),
        ask("DELETE", "/tokens/none", ALLOWED).send().await.unwrap(),
    ];
    for answer in &answers {
        assert_eq!(answer.headers()["access-control-allow-origin"], ALLOWED, "{}", answer.url());
        assert!(answer.headers()["access-control-expose-headers"].to_str().unwrap().contains("content-range"));
    }
    let statuses = answers.map(|answer| answer.status().as_u16());
    assert_eq!(statuses, [201, 206, 201, 404]);
    // A page can't set headers on a WebSocket: it comes with a ticket.
    for (origin, expected) in [(ALLOWED, 101), ("https://evil.example", 403)] {
        let ticket: Value = ask("POST", "/tickets", ALLOWED).send().await.unwrap().json().await.unwrap();
        let path = format!("/sync?ticket={}", ticket["ticket"].as_str().unwrap());
        assert_eq!(status(open(relay.address(), &path, &[("origin", origin)]).await), expected);
    }
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_carry_their_policy() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(folder.path()).await;
    let page = client().get(format!("http://{}/", relay.address())).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    for part in ["default-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(page.headers()["referrer-policy"], "no-referrer");
    let missing = client().get(format!("http://{}/assets/gone.js", relay.address())).send().await.unwrap();
    assert_eq!(code_of(missing).await.0, StatusCode::NOT_FOUND);
    relay.shutdown().await;
}
