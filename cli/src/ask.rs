//! What is asked of a relay over HTTP rather than of a replica: members, tokens, pairing, workspaces. None of it can be
//! done offline.

use std::fmt::Write as _;

use clap::Args;
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Place;
use crate::failure::Failure;
use crate::print::{json, line};

/// How long a relay may take to answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);
/// How long a whole workspace may be on its way.
const LONG: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Which relay, and who we are to it.
#[derive(Debug, Args)]
pub(crate) struct Relay {
    /// The relay's address.
    #[arg(long, global = true, value_name = "URL", env = "SKEIN_RELAY", default_value = "http://127.0.0.1:7700")]
    relay: String,
    /// A token of that relay [default: the one that `skein serve` left for this user].
    #[arg(long, global = true, value_name = "T", env = "SKEIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// A relay that can be asked.
pub(crate) struct Asked {
    client: Client,
    base: String,
    token: String,
}

impl Relay {
    /// The relay that a replica belongs to.
    pub(crate) fn of(place: &Place) -> Self {
        Self { relay: place.relay.clone(), token: place.token.clone() }
    }

    /// Finds the token; connects to nothing yet.
    pub(crate) fn ask(self) -> Result<Asked, Failure> {
        Place { relay: self.relay, token: self.token, data: None, offline: false }.ask()
    }
}

impl Place {
    /// The relay of this replica, over HTTP; connects to nothing yet.
    pub(crate) fn ask(&self) -> Result<Asked, Failure> {
        let token = self.token().ok_or_else(|| {
            let relay = &self.relay;
            Failure::new(format!("no token is known for {relay}: start `skein serve` on this machine, or give --token"))
        })?;
        let (scheme, rest) = self.relay.trim().split_once("://").unwrap_or(("http", self.relay.trim()));
        let scheme = if matches!(scheme, "https" | "wss") { "https" } else { "http" };
        let client = skein_worker::providers::transport::http_client(|builder| builder.timeout(PATIENCE));
        let client = client.map_err(Failure::new)?;
        Ok(Asked { client, base: format!("{scheme}://{}", rest.trim_end_matches('/')), token })
    }
}

impl Asked {
    /// What stands at a path.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(Method::GET, path, None).await
    }

    /// What stands at a path with these parameters; those without a value are left out.
    pub(crate) async fn query<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, Option<String>)],
    ) -> Result<T, Failure> {
        let given: Vec<_> = parameters.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
        let response = self.sent(self.client.get(format!("{}{path}", self.base)).query(&given)).await?;
        let answer = response.json().await;
        answer.map_err(|error| Failure::new(format!("the relay's answer can't be read: {}", causes(&error))))
    }

    /// Makes or changes something; what came of it.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        self.answer(method, path, Some(body)).await
    }

    /// Takes something away.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.request(Method::DELETE, path, None).await.map(drop)
    }

    /// Reads what stands at a path, piece by piece, however long it takes.
    pub(crate) async fn download(&self, path: &str) -> Result<Response, Failure> {
        self.sent(self.client.get(format!("{}{path}", self.base)).timeout(LONG)).await
    }

    /// Sends a file to a path, however long it takes; the answer is read as it comes.
    pub(crate) async fn upload(&self, path: &str, file: Body) -> Result<Response, Failure> {
        self.sent(self.client.post(format!("{}{path}", self.base)).timeout(LONG).body(file)).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let response = self.request(method, path, body).await?;
        let answer = response.json().await;
        answer.map_err(|error| Failure::new(format!("the relay's answer can't be read: {}", causes(&error))))
    }

    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, Failure> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        self.sent(request).await
    }

    async fn sent(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let relay = &self.base;
        let unreachable = |error: reqwest::Error| {
            let why = if error.is_timeout() { "it does not answer".to_owned() } else { causes(&error) };
            Failure::new(format!("the relay at {relay} can't be reached: {why}"))
        };
        let response = request.bearer_auth(&self.token).send().await.map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let said = response.json::<Value>().await.ok();
        let said = said.as_ref().and_then(|said| said["error"]["message"].as_str());
        Err(Failure::new(match (status, said) {
            (StatusCode::UNAUTHORIZED, _) => format!("wrong token: the relay at {relay} doesn't know it"),
            (_, Some(said)) => said.to_owned(),
            (status, None) => format!("the relay at {relay} answered {status}"),
        }))
    }
}

/// An error and what lies under it, in one line.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    // The outermost only repeats the address.
    next = next.and_then(std::error::Error::source).or(next);
    while let Some(cause) = next {
        let between = if text.is_empty() { "" } else { ": " };
        // Writing to a String doesn't fail.
        let _ = write!(text, "{between}{cause}");
        next = cause.source();
    }
    text
}

/// Prints what was made: all of it as JSON, or its token alone.
pub(crate) fn made(made: &Value, as_json: bool) -> Result<(), Failure> {
    if as_json { json(made) } else { line(made["token"].as_str().unwrap_or_default()) }
}
