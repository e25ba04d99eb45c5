//! The one transport: a prompt goes out over HTTP, events come back as they are read. Dropping an [`Answering`] drops
//! its connection at once: that is what a pause does.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use reqwest::ClientBuilder;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LOCATION};

use super::event::Event;
use super::failure::{Class, Failure, seconds_to_ms};
use super::limits::{Allowed, Doors, Place};
use super::prompt::Prompt;
use super::{Answer, Kind, anthropic, demo, gemini, ollama, openai, responses};

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an endpoint may be silent: models think for minutes, though most send something meanwhile.
const SILENCE: Duration = Duration::from_secs(300);
/// How long to wait for usage and `[DONE]` once the model has said that it stopped.
const AFTER_STOP: Duration = Duration::from_secs(3);
/// The longest time that a provider's `retry-after` is waited out.
pub const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// The most that is read of an error's body.
const ERROR_BODY: usize = 64 << 10;
/// The most that one call of [`Answering::next`] takes together.
const TOGETHER: usize = 64 << 10;

/// Where a provider is, and how it is spoken to.
#[derive(Clone)]
pub struct Endpoint {
    /// Its name in `skein.toml`.
    pub name: String,
    /// What it speaks.
    pub kind: Kind,
    /// With its version; ends with a slash.
    pub base_url: String,
    /// The key, if one is configured and set.
    pub key: Option<String>,
    /// Tokens per second of the demo.
    pub demo_speed: f64,
    /// How many requests it may be sent.
    pub allowed: Allowed,
}

impl std::fmt::Debug for Endpoint {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// A key that is kept out of what is written down, in case a server repeats it.
#[derive(Clone, Default)]
struct Secret(Option<String>);

impl Secret {
    fn hide(&self, mut failure: Failure) -> Failure {
        if let Some(key) = self.0.as_deref().filter(|key| !key.is_empty()) {
            failure.message = failure.message.replace(key, "(the key)");
        }
        failure
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// HTTP to all providers.
#[derive(Clone, Debug)]
pub struct Transport {
    http: Result<reqwest::Client, String>,
    doors: Doors,
}

impl Default for Transport {
    fn default() -> Self {
        let http = http_client(|builder| {
            builder
                .connect_timeout(CONNECT)
                .read_timeout(SILENCE)
                // A key must not follow a redirect to another host.
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("skein/", env!("CARGO_PKG_VERSION")))
        });
        Self { http, doors: Doors::default() }
    }
}

/// An HTTP client. On a machine without certificates of authorities it still speaks plain HTTP, and trusts no other.
pub fn http_client(configure: impl Fn(ClientBuilder) -> ClientBuilder) -> Result<reqwest::Client, String> {
    // Another part of the process may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    configure(reqwest::Client::builder()).build().or_else(|error| {
        tracing::warn!(error = causes(&error), "https endpoints can't be verified on this machine");
        configure(reqwest::Client::builder()).tls_certs_only([]).build().map_err(|error| causes(&error))
    })
}

/// An answer as it comes.
#[derive(Debug)]
pub struct Answering {
    answer: Answer,
    source: Source,
    secret: Secret,
    /// Given back with the connection.
    _place: Place,
}

#[derive(Debug)]
enum Source {
    Http(reqwest::Response),
    Demo { beats: VecDeque<demo::Beat>, speed: f64, next: Option<tokio::time::Instant> },
    Ended,
}

impl Transport {
    /// Waits for leave to ask an endpoint: other requests may be under way, or it wants to be left alone. Safe to cancel.
    pub async fn place(&self, endpoint: &Endpoint) -> Place {
        self.doors.place(&endpoint.name, endpoint.allowed).await
    }

    /// How long an endpoint still wants to be left alone.
    pub fn closed_for(&self, endpoint: &Endpoint) -> Option<Duration> {
        self.doors.closed_for(&endpoint.name, endpoint.allowed)
    }

    /// Sends a prompt as soon as there is leave to. Returns once the endpoint has answered with its status.
    pub async fn ask(&self, endpoint: &Endpoint, prompt: &Prompt) -> Result<Answering, Failure> {
        let place = self.place(endpoint).await;
        self.ask_in(place, endpoint, prompt).await
    }

    /// Sends a prompt at once. A rate limit that names its end, within [`LONGEST_WAIT`], holds for all who ask.
    pub async fn ask_in(&self, place: Place, endpoint: &Endpoint, prompt: &Prompt) -> Result<Answering, Failure> {
        let answered = self.send(endpoint, prompt).await;
        if let Err(Failure { class: Class::RateLimit, retry_after_ms: Some(ms), .. }) = &answered {
            let time = Duration::from_millis(*ms);
            if time <= LONGEST_WAIT {
                self.doors.close(&endpoint.name, endpoint.allowed, time);
            }
        }
        Ok(Answering { _place: place, ..answered? })
    }

    async fn send(&self, endpoint: &Endpoint, prompt: &Prompt) -> Result<Answering, Failure> {
        let (path, body) = match endpoint.kind {
            Kind::OpenAi => return self.ask_compatible(endpoint, prompt).await,
            Kind::Responses => return self.ask_responses(endpoint, prompt).await,
            Kind::Anthropic => (anthropic::PATH.to_owned(), anthropic::request(prompt)),
            Kind::Gemini => (gemini::path(&prompt.model), gemini::request(prompt)),
            Kind::Ollama => (ollama::PATH.to_owned(), ollama::request(prompt)),
            Kind::Demo => {
                let source =
                    Source::Demo { beats: demo::script(prompt).into(), speed: endpoint.demo_speed, next: None };
                return Ok(Answering {
                    answer: Answer::new(Kind::Demo),
                    source,
                    secret: Secret::default(),
                    _place: Place::default(),
                });
            }
        };
        self.post(endpoint, &path, body).await
    }

    /// Some compatible servers refuse to be asked for usage, some models the token limit by its older name, or an effort.
    async fn ask_compatible(&self, endpoint: &Endpoint, prompt: &Prompt) -> Result<Answering, Failure> {
        let mut dialect = openai::Dialect::default();
        loop {
            let answered = self.post(endpoint, openai::PATH, openai::request(prompt, dialect)).await;
            let refused = |word: &str| {
                let failure = answered.as_ref().err().filter(|failure| failure.class == Class::BadRequest);
                failure.is_some_and(|failure| failure.message.contains(word))
            };
            if dialect.usage && refused("stream_options") {
                dialect.usage = false;
            } else if !dialect.completion_tokens && refused("max_completion_tokens") {
                dialect.completion_tokens = true;
            } else if dialect.effort && prompt.preamble.thinking.is_some() && refused("reasoning_effort") {
                dialect.effort = false;
            } else {
                return answered;
            }
        }
    }

    /// Models that don't reason refuse to be asked for encrypted reasoning, or for an effort.
    async fn ask_responses(&self, endpoint: &Endpoint, prompt: &Prompt) -> Result<Answering, Failure> {
        let answered = self.post(endpoint, responses::PATH, responses::request(prompt, true)).await;
        let refused = |failure: &Failure| {
            let words = failure.message.to_lowercase();
            failure.class == Class::BadRequest
                && ["encrypted content", "reasoning.effort", "include"].iter().any(|word| words.contains(word))
        };
        match answered {
            Err(failure) if refused(&failure) => {
                self.post(endpoint, responses::PATH, responses::request(prompt, false)).await
            }
            answered => answered,
        }
    }

    async fn post(&self, endpoint: &Endpoint, path: &str, body: Vec<u8>) -> Result<Answering, Failure> {
        let http = self.http.as_ref().map_err(|why| Failure::new(Class::Network, why.clone()))?;
        let url = format!("{}{path}", endpoint.base_url);
        let request = http.post(url).headers(headers(endpoint)?).body(body);
        let response = request.send().await.map_err(|error| network(&error))?;
        let secret = Secret(endpoint.key.clone());
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            let (answer, source) = (Answer::new(endpoint.kind), Source::Http(response));
            return Ok(Answering { answer, source, secret, _place: Place::default() });
        }
        if let 300..400 = status {
            let target =
                response.headers().get(LOCATION).and_then(|target| target.to_str().ok()).unwrap_or("elsewhere");
            let why = format!("the server sends requests on to {target}: set base_url to where the models are");
            return Err(secret.hide(Failure::new(Class::BadRequest, why)));
        }
        let retry_after_ms = retry_after(response.headers(), jiff::Timestamp::now());
        Err(secret.hide(Failure::of_response(status, retry_after_ms, &error_body(response).await)))
    }
}

impl Answering {
    /// The next events: those of everything that has arrived, so that a burst is one step. `None` at the end. Safe to
    /// cancel: nothing is lost that was not returned.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        while events.is_empty() {
            match self.read().await {
                Some(Ok(bytes)) => {
                    let mut taken = bytes.len();
                    self.answer.feed(&bytes, &mut events);
                    while taken < TOGETHER
                        && let Source::Http(response) = &mut self.source
                        && let Some(Ok(Some(more))) = response.chunk().now_or_never()
                    {
                        taken += more.len();
                        self.answer.feed(&more, &mut events);
                    }
                }
                Some(Err(why)) => {
                    self.source = Source::Ended;
                    self.answer.finish(&mut events);
                    for event in &mut events {
                        if let Event::Failed(failure) = event
                            && matches!(failure.class, Class::Cut | Class::BadAnswer)
                        {
                            *failure = Failure::new(Class::Cut, why.clone());
                        }
                    }
                }
                None if matches!(self.source, Source::Ended) => return None,
                None => {
                    self.source = Source::Ended;
                    self.answer.finish(&mut events);
                }
            }
        }
        for event in &mut events {
            if let Event::Failed(failure) = event {
                *failure = self.secret.hide(failure.clone());
            }
        }
        Some(events)
    }

    /// Cuts the connection at once; what was open is closed as cut.
    pub fn cut(mut self) -> Vec<Event> {
        self.source = Source::Ended;
        let mut events = Vec::new();
        self.answer.finish(&mut events);
        events
    }

    async fn read(&mut self) -> Option<Result<Bytes, String>> {
        if self.answer.over() {
            return None;
        }
        match &mut self.source {
            Source::Ended => None,
            Source::Http(response) => {
                let chunk = response.chunk();
                let chunk = match self.answer.stopped() {
                    true => tokio::time::timeout(AFTER_STOP, chunk).await.unwrap_or(Ok(None)),
                    false => chunk.await,
                };
                chunk.map_err(|error| causes(&error)).transpose()
            }
            Source::Demo { beats, speed, next } => {
                let tokens = beats.front()?.tokens;
                let due = *next.get_or_insert_with(tokio::time::Instant::now)
                    + Duration::from_secs_f64(f64::from(tokens) / speed.max(0.001));
                tokio::time::sleep_until(due).await;
                *next = Some(due);
                beats.pop_front().map(|beat| Ok(Bytes::from(beat.bytes)))
            }
        }
    }
}

fn headers(endpoint: &Endpoint) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    let secret = |text: String| {
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| Failure::new(Class::Key, "the key has characters that a key can't have"))?;
        value.set_sensitive(true);
        Ok(value)
    };
    if endpoint.kind == Kind::Anthropic {
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        if let Some(key) = &endpoint.key {
            headers.insert("x-api-key", secret(key.clone())?);
        }
    } else if endpoint.kind == Kind::Gemini {
        if let Some(key) = &endpoint.key {
            headers.insert("x-goog-api-key", secret(key.clone())?);
        }
    } else if let Some(key) = &endpoint.key {
        headers.insert(AUTHORIZATION, secret(format!("Bearer {key}"))?);
    }
    Ok(headers)
}

/// What the provider says to wait, in milliseconds: a number, or a date (RFC 9110, 10.2.3), which counts from the
/// server's own clock where it tells that.
fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<u64> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    let date = |name: &str| Some(jiff::fmt::rfc2822::parse(text(name)?).ok()?.timestamp());
    let ms = number("retry-after-ms").map(|ms| ms / 1000.0);
    let seconds = ms.or_else(|| number("retry-after")).or_else(|| {
        let wait = date("retry-after")?.duration_since(date(DATE.as_str()).unwrap_or(now));
        Some(wait.as_secs_f64().max(0.0))
    });
    seconds.and_then(seconds_to_ms)
}

async fn error_body(mut response: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < ERROR_BODY
        && let Ok(Ok(Some(bytes))) = tokio::time::timeout(CONNECT, response.chunk()).await
    {
        body.extend_from_slice(&bytes);
    }
    body
}

fn network(error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::new(Class::BadRequest, causes(error));
    }
    Failure::new(Class::Network, causes(error))
}

/// An error's innermost cause with the address, which is what a person can act on.
fn causes(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match error.url() {
        Some(url) => {
            let mut url = url.clone();
            let _ = url.set_password(None);
            url.set_query(None);
            format!("{inner} ({url})")
        }
        None => inner.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_wait_is_read_as_seconds_milliseconds_or_a_date() {
        let now: jiff::Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let wait = |pairs: &[(&'static str, &'static str)]| {
            let pair = |&(name, value): &(&'static str, &'static str)| {
                (reqwest::header::HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            retry_after(&pairs.iter().map(pair).collect(), now)
        };
        assert_eq!(wait(&[("retry-after", "7")]), Some(7_000));
        assert_eq!(wait(&[("retry-after", "7"), ("retry-after-ms", "250")]), Some(250));
        let date = "Wed, 25 Nov 2026 12:02:30 GMT";
        assert_eq!(wait(&[("retry-after", date)]), Some(150_000));
        assert_eq!(wait(&[("retry-after", date), ("date", "Wed, 25 Nov 2026 12:02:00 GMT")]), Some(30_000));
        assert_eq!(wait(&[("retry-after", "Wed, 25 Nov 2026 11:00:00 GMT")]), Some(0));
        for nonsense in ["soon", "-1", "NaN", "1e99", ""] {
            assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
    }
}
