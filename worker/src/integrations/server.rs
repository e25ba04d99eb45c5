//! One MCP server: started or connected to, its tools listed, kept up. When it goes down it is tried again, longer and
//! longer apart; what it had is remembered.
//!
//! Invariant: one odd tool, one endless list, one line of noise never takes the other tools away.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use process_wrap::tokio::{CommandWrap, ProcessGroup};
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::model::{
    ClientConfig, ClientRequest, ElicitRequestParams, ElicitResult, ElicitationAction, PaginatedRequestParams,
    ProgressNotificationParam, ProgressToken, ServerResult,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, RunningService};
use rmcp::transport::child_process::TokioChildProcess;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransport, StreamableHttpClientTransportConfig};
use rmcp::{ClientHandler, ErrorData, RoleClient, ServiceExt};
use serde_json::Value;
use skein_engine::wire::catalog::Health;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use super::config::Integration;
use super::names::model_name;
use crate::providers::prompt::ToolDefinition;
use crate::providers::transport::http_client;

/// How long a server may take to come up, and to list its tools.
const PATIENCE: Duration = Duration::from_secs(30);
/// The wait before it is tried again, twice as long each time, at most [`LONGEST`].
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Pages of a list, and tools of a server.
const PAGES: usize = 100;
const MOST: usize = 500;
/// Bytes of a schema, and characters of a description.
const MAX_SCHEMA: usize = 64 << 10;
const MAX_DESCRIPTION: usize = 8_000;

/// A tool as the server lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The server's own name for it.
    pub name: String,
    /// As models see it.
    pub definition: ToolDefinition,
}

/// How a server is.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Whether it answers.
    pub health: Health,
    /// Its tools, as last listed.
    pub tools: Vec<Listed>,
    /// The way to it, while it is up.
    pub peer: Option<Peer<RoleClient>>,
}

/// What a server says while it works on a call.
#[derive(Clone, Debug)]
pub enum Said {
    /// How far it has come.
    Progress(String),
    /// It asked for something that nobody can give it here.
    Asked(String),
}

/// See the module.
#[derive(Debug)]
pub struct Server {
    config: Integration,
    state: watch::Sender<State>,
    calls: Arc<Calls>,
}

/// The calls under way, by their progress tokens.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<HashMap<ProgressToken, mpsc::UnboundedSender<Said>>>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, HashMap<ProgressToken, mpsc::UnboundedSender<Said>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is said of a call from now on.
    pub(super) fn listen(&self, token: ProgressToken) -> mpsc::UnboundedReceiver<Said> {
        let (sender, said) = mpsc::unbounded_channel();
        self.lock().insert(token, sender);
        said
    }

    /// No longer.
    pub(super) fn forget(&self, token: &ProgressToken) {
        self.lock().remove(token);
    }
}

/// What the server may ask of us.
struct Handler {
    calls: Arc<Calls>,
    changed: Arc<Notify>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        config.client_info.name = "skein".to_owned();
        config.client_info.version = env!("CARGO_PKG_VERSION").to_owned();
        config
    }

    async fn on_progress(&self, said: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        let words = match (said.message, said.total) {
            (Some(message), _) => message,
            (None, Some(total)) => format!("{} of {total}", said.progress),
            (None, None) => said.progress.to_string(),
        };
        if let Some(call) = self.calls.lock().get(&said.progress_token) {
            // Whoever called may have gone.
            let _ = call.send(Said::Progress(words));
        }
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let asked = serde_json::to_value(&request).unwrap_or_default();
        let words = asked["message"].as_str().unwrap_or("something").to_owned();
        for call in self.calls.lock().values() {
            let _ = call.send(Said::Asked(words.clone()));
        }
        Ok(ElicitResult::new(ElicitationAction::Decline))
    }
}

type Running = RunningService<RoleClient, Handler>;

impl Server {
    /// Not started yet.
    pub fn new(config: Integration) -> Self {
        Self { config, state: watch::Sender::default(), calls: Arc::default() }
    }

    /// What the operator wrote.
    pub fn config(&self) -> &Integration {
        &self.config
    }

    /// How it is now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// How it is, as that changes.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// Keeps it up, in the background, until that is aborted: then a child process ends, and a connection too.
    pub fn start(self: &Arc<Self>) -> AbortHandle {
        let server = self.clone();
        let kept = tokio::spawn(async move {
            let mut wait = AGAIN;
            loop {
                let changed = Arc::new(Notify::new());
                let ended = match tokio::time::timeout(PATIENCE, server.connect(changed.clone())).await {
                    Err(_) => format!("it did not answer within {} seconds", PATIENCE.as_secs()),
                    Ok(Err(why)) => why,
                    Ok(Ok(running)) => {
                        wait = AGAIN;
                        tracing::info!(integration = server.config.name, "an integration is up");
                        server.stay(running, &changed).await
                    }
                };
                tracing::warn!(integration = server.config.name, reason = ended, "an integration is down");
                server.state.send_modify(|state| {
                    state.health = Health::Down { reason: ended };
                    state.peer = None;
                });
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST);
            }
        });
        kept.abort_handle()
    }

    /// As long as it lasts; why it ended.
    async fn stay(&self, running: Running, changed: &Notify) -> String {
        let peer = running.peer().clone();
        let over = running.waiting();
        tokio::pin!(over);
        loop {
            tokio::select! {
                ended = &mut over => return match ended {
                    Ok(_) => "the connection ended".to_owned(),
                    Err(error) => format!("the connection failed: {error}"),
                },
                () = changed.notified() => match tokio::time::timeout(PATIENCE, self.list(&peer)).await {
                    Ok(Ok(tools)) => _ = self.state.send_if_modified(|state| {
                        let news = state.tools != tools;
                        state.tools = tools;
                        news
                    }),
                    Ok(Err(why)) => tracing::warn!(integration = self.config.name, why, "its tools can't be listed"),
                    Err(_) => tracing::warn!(integration = self.config.name, "it doesn't list its tools"),
                },
            }
        }
    }

    async fn connect(&self, changed: Arc<Notify>) -> Result<Running, String> {
        let handler = Handler { calls: self.calls.clone(), changed };
        let running = match &self.config.url {
            None => handler.serve(self.spawn()?).await,
            Some(url) => handler.serve(self.dial(url)?).await,
        };
        let running = running.map_err(|error| error.to_string())?;
        let tools = self.list(running.peer()).await?;
        self.state.send_replace(State { health: Health::Up, tools, peer: Some(running.peer().clone()) });
        Ok(running)
    }

    /// A child process in a group of its own, with an environment of what is needed.
    fn spawn(&self) -> Result<TokioChildProcess, String> {
        let (program, arguments) = self.config.command.split_first().ok_or("it has no command")?;
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).env_clear();
        for name in ["PATH", "HOME", "LANG"].into_iter().chain(self.config.env.iter().map(String::as_str)) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let mut command = CommandWrap::from(command);
        command.wrap(ProcessGroup::leader());
        let spawned = TokioChildProcess::builder(command).stderr(Stdio::piped()).spawn();
        let (child, stderr) = spawned.map_err(|error| format!("{program} can't be started: {error}"))?;
        if let Some(stderr) = stderr {
            let name = self.config.name.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let line: String = line.chars().take(500).collect();
                    tracing::debug!(integration = name, line, "an integration says");
                }
            });
        }
        Ok(child)
    }

    fn dial(&self, url: &str) -> Result<StreamableHttpClientTransport<reqwest::Client>, String> {
        let mut headers = HashMap::new();
        for (name, variable) in &self.config.headers_env {
            let value = std::env::var(variable);
            let value = value.map_err(|_| format!("the environment variable {variable}, for {name}, is not set"))?;
            let name = HeaderName::try_from(name).map_err(|_| format!("\"{name}\" is no header"))?;
            let mut value = HeaderValue::try_from(value).map_err(|_| format!("{variable} holds no header's value"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let mut config = StreamableHttpClientTransportConfig::with_uri(url);
        config.custom_headers = headers;
        // A secret must not follow a redirect.
        let client = http_client(|builder| builder.redirect(reqwest::redirect::Policy::none()))?;
        Ok(StreamableHttpClientTransport::with_client(client, config))
    }

    /// All pages of its tools; odd ones are left out and named.
    async fn list(&self, peer: &Peer<RoleClient>) -> Result<Vec<Listed>, String> {
        let mut tools: Vec<Listed> = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES {
            let mut page = PaginatedRequestParams::default();
            page.cursor = cursor.take();
            let request = rmcp::model::ListToolsRequest { params: Some(page), ..Default::default() };
            let answer = peer.send_request(ClientRequest::ListToolsRequest(request)).await;
            // As plain JSON, so that one odd tool doesn't spoil the page.
            let answer = match answer.map_err(|error| format!("its tools can't be listed: {error}"))? {
                ServerResult::ListToolsResult(page) => serde_json::to_value(page).unwrap_or_default(),
                ServerResult::CustomResult(page) => page.0,
                other => serde_json::to_value(other).unwrap_or_default(),
            };
            for tool in answer["tools"].as_array().into_iter().flatten() {
                match self.listed(tool) {
                    Ok(tool) if tools.iter().all(|known| known.name != tool.name) => tools.push(tool),
                    Ok(tool) => tracing::warn!(integration = self.config.name, tool = tool.name, "listed twice"),
                    Err(why) => tracing::warn!(integration = self.config.name, why, "a tool is left out"),
                }
            }
            cursor = answer["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() || tools.len() >= MOST {
                break;
            }
        }
        tools.truncate(MOST);
        Ok(tools)
    }

    fn listed(&self, tool: &Value) -> Result<Listed, String> {
        let name = tool["name"].as_str().filter(|name| !name.is_empty() && name.len() <= 200);
        let name = name.ok_or("it has no name")?;
        let schema = match &tool["inputSchema"] {
            Value::Object(schema) => Value::Object(schema.clone()).to_string(),
            _ => return Err(format!("{name} has no schema")),
        };
        if schema.len() > MAX_SCHEMA {
            return Err(format!("the schema of {name} is too large"));
        }
        let description = tool["description"].as_str().or(tool["title"].as_str()).unwrap_or(name);
        let description = description.chars().take(MAX_DESCRIPTION).collect();
        let definition = ToolDefinition { name: model_name(&self.config.name, name), description, schema };
        Ok(Listed { name: name.to_owned(), definition })
    }
}
