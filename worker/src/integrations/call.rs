//! One call of a server's tool: sent, watched, and cancelled at the server when it is dropped.

use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CancelledNotificationParam, ClientRequest, RequestId, ServerResult,
};
use rmcp::service::{Peer, PeerRequestOptions};
use serde_json::Value;
use skein_engine::wire::catalog::Health;
use skein_engine::workspace::integration::Policy;

use super::result::outcome;
use super::server::{Listed, Said, Server};
use crate::providers::prompt::ToolDefinition;
use crate::tools::{Outcome, Output, Running, Tool};

/// How long a call may be silent; progress extends it.
const SILENCE: Duration = Duration::from_secs(300);

/// A tool of a server.
#[derive(Debug)]
pub struct McpTool {
    server: Arc<Server>,
    tool: Listed,
    floor: Policy,
}

impl McpTool {
    /// With the operator's floor.
    pub fn new(server: Arc<Server>, tool: Listed, floor: Policy) -> Self {
        Self { server, tool, floor }
    }

    async fn call(&self, input: &str, output: &Output) -> Outcome {
        let arguments = match serde_json::from_str::<Value>(input) {
            Ok(Value::Object(arguments)) => arguments,
            _ => return Outcome::error("The input is no JSON object."),
        };
        let state = self.server.state();
        let name = &self.server.config().name;
        let Some(peer) = state.peer else {
            let why = match state.health {
                Health::Down { reason } => format!("is down: {reason}"),
                _ => "is being started".to_owned(),
            };
            return Outcome::error(format!("The integration \"{name}\" {why}. The call was not made."));
        };
        let mut params = CallToolRequestParams::new(self.tool.name.clone());
        params.arguments = Some(arguments);
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let sent = peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await;
        let mut sent = match sent {
            Ok(sent) => sent,
            Err(error) => return Outcome::error(format!("The integration \"{name}\" can't be reached: {error}")),
        };
        let mut said = self.server.calls().listen(sent.progress_token.clone());
        let mut guard = Guard {
            server: &self.server,
            token: sent.progress_token.clone(),
            unanswered: Some((peer, sent.id.clone())),
        };
        let mut asked = Vec::new();
        let answer = loop {
            tokio::select! {
                answer = &mut sent.rx => break answer,
                Some(word) = said.recv() => match word {
                    Said::Progress(words) => output.progress(words),
                    Said::Asked(words) => asked.push(words),
                },
                () = tokio::time::sleep(SILENCE) => {
                    let seconds = SILENCE.as_secs();
                    return Outcome::error(format!("The integration \"{name}\" said nothing for {seconds} seconds."));
                }
            }
        };
        guard.unanswered = None;
        let mut given = match answer {
            Ok(Ok(ServerResult::CallToolResult(result))) => outcome(result),
            Ok(Ok(ServerResult::EmptyResult(_))) => Outcome::ok(""),
            Ok(Ok(other)) => {
                let text = serde_json::to_string(&other).unwrap_or_default();
                Outcome::error(format!("The integration \"{name}\" gave something that is no tool's result: {text}"))
            }
            Ok(Err(error)) => Outcome::error(format!("The integration \"{name}\" refused: {error}")),
            Err(_) => Outcome::error(format!(
                "The connection to the integration \"{name}\" was lost during the call; it may have had effects."
            )),
        };
        for question in asked {
            given.content +=
                &format!("\n[The server asked \"{question}\", which was declined: nobody can answer here.]");
        }
        given
    }
}

/// Tells the server to stop if nobody waits for the answer any more.
struct Guard<'a> {
    server: &'a Server,
    token: rmcp::model::ProgressToken,
    unanswered: Option<(Peer<RoleClient>, RequestId)>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.server.calls().forget(&self.token);
        if let Some((peer, id)) = self.unanswered.take() {
            tokio::spawn(async move {
                let cancelled = CancelledNotificationParam::new(Some(id), Some("the call was stopped".to_owned()));
                // A server that is gone needs no word.
                let _ = peer.notify_cancelled(cancelled).await;
            });
        }
    }
}

impl Tool for McpTool {
    fn definition(&self) -> ToolDefinition {
        self.tool.definition.clone()
    }

    fn policy(&self) -> Policy {
        self.floor
    }

    fn run<'a>(&'a self, input: &'a str, output: &'a Output) -> Running<'a> {
        Box::pin(self.call(input, output))
    }
}
