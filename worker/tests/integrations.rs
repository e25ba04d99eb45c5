//! Real MCP servers, from npm, over both transports; a hostile one; and approvals of their tools from end to end.
//!
//! The servers are those of `tests/js`, which `cargo xtask test` installs.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skein_engine::session::Command;
use skein_engine::session::conversation::{Content, Reason, ShownCallState, Status};
use skein_engine::wire::catalog::Health;
use skein_engine::workspace::WorkspaceCommand;
use skein_engine::workspace::integration::Policy;
use skein_worker::integrations::call::McpTool;
use skein_worker::integrations::config::Integration;
use skein_worker::integrations::server::{Server, State};
use skein_worker::tools::{Outcome, Output, Tool};
use support::model::{ModelServer, openai, stream};
use support::{Stage, parts, provider};

fn bin(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/js/node_modules/.bin").join(name);
    assert!(path.exists(), "{} is not installed: run `npm ci` in tests/js", path.display());
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

fn command(name: &str, command: &[&str]) -> Integration {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    Integration { name: name.to_owned(), command, ..Integration::default() }
}

/// A small server in Node that answers as a script says.
fn hostile(folder: &std::path::Path, script: &str) -> Integration {
    let path = folder.join("server.mjs");
    let common = r#"
        import { createInterface } from "node:readline";
        const send = (message) => process.stdout.write(JSON.stringify({ jsonrpc: "2.0", ...message }) + "\n");
        const answer = (id, result) => send({ id, result });
        let starts = 0;
        createInterface({ input: process.stdin }).on("line", (line) => {
            const message = JSON.parse(line);
            const { id, method, params } = message;
            if (method === "initialize") {
                answer(id, { protocolVersion: params.protocolVersion, capabilities: { tools: {} },
                             serverInfo: { name: "hostile", version: "1" } });
            } else if (id !== undefined) on(id, method, params);
        });
    "#;
    std::fs::write(&path, format!("{common}\n{script}")).unwrap();
    command("hostile", &["node", path.to_str().unwrap()])
}

async fn until(server: &Arc<Server>, wanted: impl Fn(&State) -> bool) -> State {
    let mut states = server.watch();
    let found = tokio::time::timeout(support::PATIENCE, states.wait_for(|state| wanted(state))).await;
    found.unwrap_or_else(|_| panic!("never so: {:?}", server.state())).unwrap().clone()
}

async fn up(config: Integration) -> Arc<Server> {
    let server = Arc::new(Server::new(config));
    server.start();
    until(&server, |state| state.health == Health::Up).await;
    server
}

fn tool(server: &Arc<Server>, name: &str) -> McpTool {
    let tools = server.state().tools;
    let found = tools.iter().find(|tool| tool.name == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {tools:#?}"));
    McpTool::new(server.clone(), found.clone(), Policy::Allow)
}

async fn call(server: &Arc<Server>, name: &str, input: Value) -> Outcome {
    let output = Output::default();
    tool(server, name).run(&input.to_string(), &output).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_result_of_a_real_server_is_read() {
    let server = up(command("everything", &[&bin("mcp-server-everything"), "stdio"])).await;
    let said = call(&server, "echo", json!({"message": "hé"})).await;
    assert_eq!((said.content.as_str(), said.is_error), ("Echo: hé", false));
    let image = call(&server, "get-tiny-image", json!({})).await;
    assert_eq!(image.images.len(), 1, "{image:?}");
    assert_eq!(image.images[0].mime, "image/png");
    let structured = call(&server, "get-structured-content", json!({"location": "New York"})).await;
    assert!(structured.content.contains("temperature"), "{structured:?}");
    let wrong = call(&server, "get-sum", json!({"a": "no number"})).await;
    assert!(wrong.is_error, "{wrong:?}");
    let no_object = tool(&server, "echo").run("[1]", &Output::default()).await;
    assert!(no_object.is_error);

    // Progress is shown while it works.
    let (output, long) = (Arc::new(Output::default()), tool(&server, "trigger-long-running-operation"));
    let running = tokio::spawn({
        let output = output.clone();
        async move { long.run(&json!({"duration": 2, "steps": 4}).to_string(), &output).await }
    });
    output.news().await;
    assert!(output.last_progress().is_some());
    assert!(!running.await.unwrap().is_error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_over_http_is_spoken_to_and_comes_back_after_it_was_gone() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let serve = || {
        tokio::process::Command::new(bin("mcp-server-everything"))
            .arg("streamableHttp")
            .env("PORT", port.to_string())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let url = Some(format!("http://127.0.0.1:{port}/mcp"));
    let server = Arc::new(Server::new(Integration { name: "everything".into(), url, ..Integration::default() }));
    server.start();
    until(&server, |state| matches!(state.health, Health::Down { .. })).await;
    let mut child = serve();
    until(&server, |state| state.health == Health::Up).await;
    assert_eq!(call(&server, "echo", json!({"message": "over http"})).await.content, "Echo: over http");
    child.kill().await.unwrap();
    let lost = call(&server, "echo", json!({"message": "nobody"})).await;
    assert!(lost.is_error, "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_odd_tool_noise_and_an_endless_list_take_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let script = r##"
        process.stdout.write("a log line that belongs on stderr\n");
        let pages = 0;
        function on(id, method, params) {
            if (method === "tools/list") {
                const tools = [
                    { name: "good", description: "Good.", inputSchema: { type: "object", properties: { a: { $ref: "#/$defs/a" } }, $defs: { a: { type: "string" } } } },
                    { name: "odd", inputSchema: "no schema at all" },
                    { inputSchema: { type: "object" } },
                    { name: "page" + pages++, inputSchema: { type: "object" } },
                ];
                answer(id, { tools, nextCursor: "more" });
            } else if (method === "tools/call" && params.name === "good") {
                process.stdout.write("{ not json\n");
                answer(id, { content: [] });
                answer(id, { content: [{ type: "text", text: "twice" }] });
            } else if (method === "tools/call") process.exit(1);
        }
    "##;
    let server = up(hostile(folder.path(), script)).await;
    let names: Vec<String> = server.state().tools.into_iter().map(|tool| tool.name).collect();
    assert!(names.contains(&"good".to_owned()) && !names.contains(&"odd".to_owned()), "{names:?}");
    assert!(names.len() <= 102, "an endless list ends: {}", names.len());
    let empty = call(&server, "good", json!({})).await;
    assert_eq!((empty.content.as_str(), empty.is_error), ("", false));
    // It dies in the middle of a call: the call says so, and the server is started again.
    let died = call(&server, "page0", json!({})).await;
    assert!(died.is_error, "{died:?}");
    until(&server, |state| matches!(state.health, Health::Down { .. })).await;
    assert!(server.state().tools.iter().any(|tool| tool.name == "good"), "what it had is remembered");
    until(&server, |state| state.health == Health::Up).await;
    assert!(!call(&server, "good", json!({})).await.is_error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_stopped_is_cancelled_at_the_server_and_asking_is_declined() {
    let folder = tempfile::tempdir().unwrap();
    let heard = folder.path().join("heard");
    let script = format!(
        r#"
        import {{ appendFileSync }} from "node:fs";
        const heard = {heard:?};
        process.stdin.on("data", (data) => appendFileSync(heard, data));
        let waiting;
        function on(id, method, params) {{
            if (method === "tools/list") {{
                answer(id, {{ tools: ["hang", "ask"].map((name) => ({{ name, inputSchema: {{ type: "object" }} }})) }});
            }} else if (method === "tools/call" && params.name === "ask") {{
                waiting = id;
                send({{ id: "q1", method: "elicitation/create", params: {{ message: "Your name?", requestedSchema: {{ type: "object", properties: {{}} }} }} }});
            }} else if (method === undefined) answer(waiting, {{ content: [{{ type: "text", text: "done" }}] }});
        }}
        "#,
        heard = heard.to_str().unwrap()
    );
    let server = up(hostile(folder.path(), &script)).await;
    let hanging = tool(&server, "hang");
    let output = Output::default();
    let stopped = tokio::time::timeout(Duration::from_millis(300), hanging.run("{}", &output)).await;
    assert!(stopped.is_err());
    let asked = call(&server, "ask", json!({})).await;
    assert!(asked.content.contains("done") && asked.content.contains("Your name?"), "{asked:?}");
    assert!(asked.content.contains("declined"));
    let words = std::fs::read_to_string(&heard).unwrap();
    assert!(words.contains("notifications/cancelled"), "{words}");
}

/// Changes the workspace.
async fn change(stage: &Stage, command: Value) {
    let command: WorkspaceCommand = serde_json::from_value(command).unwrap();
    let known = stage.person.until(support::PATIENCE, |device, _| {
        let document = device.identity()?.workspace_document;
        device.document(document).ok().map(|_| ())
    });
    known.await.unwrap();
    stage.person.act(|device, now| device.workspace_command(now, &command)).await.unwrap();
}

/// An answer that calls a tool.
fn calls(name: &str, input: &Value) -> Vec<u8> {
    let call = json!({"index": 0, "id": "c1", "type": "function",
                      "function": {"name": name, "arguments": input.to_string()}});
    let begun = json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]});
    let ended = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]});
    format!("data: {begun}\n\ndata: {ended}\n\ndata: [DONE]\n\n").into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_tools_are_offered_asked_about_and_kept_within_the_operators_floor() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "buy milk").unwrap();
    let path = folder.path().canonicalize().unwrap();
    let stage = Stage::new().await;
    let input = json!({"path": path.join("notes.txt")});
    let read = calls("files__read_text_file", &input);
    let write = calls("files__write_file", &json!({"path": path.join("new.txt"), "content": "x"}));
    let done = openai(&["Done."], Some("stop"));
    let scripts =
        [read.as_slice(), done.as_bytes(), write.as_slice(), done.as_bytes(), read.as_slice(), done.as_bytes()];
    let model = ModelServer::start(scripts.into_iter().map(|bytes| stream([bytes])).collect()).await;
    let integration = format!(
        "[[integration]]\nname = \"files\"\ncommand = [{:?}, {:?}]\n\
         tools = {{ \"*\" = \"deny\", read_text_file = \"once\", list_directory = \"allow\" }}",
        bin("mcp-server-filesystem"),
        path.to_str().unwrap()
    );
    let _worker = stage.worker(provider("openai", model.address, &integration));
    let offered = stage.person.until(support::PATIENCE, |device, _| {
        let offers: BTreeMap<_, _> = device.offers().iter().flat_map(|offer| offer.integrations.clone()).collect();
        offers.get("files").filter(|files| files.health == Health::Up).cloned()
    });
    let offered = offered.await.expect("the integration is offered");
    assert!(offered.tools.contains(&"read_text_file".to_owned()) && offered.policy["*"] == "deny", "{offered:?}");

    change(&stage, json!({"type": "set-agent", "agent": "Assistant", "fields": [{"integrations": ["files"]}]})).await;
    let session = stage.new_session("Read my notes").await;
    stage.command(session, Command::Rename { name: "Files".into() }).await;
    let asks = stage.settled(session, Status::Paused).await;
    let Some(Reason::Approval { calls }) = &asks.reason else { panic!("{asks:#?}") };
    let body = model.bodies()[0].clone();
    assert!(body.contains("files__read_text_file") && body.contains("files__list_directory"), "{body}");
    assert!(!body.contains("files__write_file"), "what is never allowed isn't offered");
    stage.command(session, Command::Approve { call: calls[0].clone(), for_session: true }).await;
    let read = stage.settled(session, Status::Active).await;
    let gave = |part: &Content| matches!(part, Content::ToolResult { content, is_error: false, .. } if content.contains("buy milk"));
    assert!(parts(&read).iter().any(gave), "{read:#?}");

    // A model that calls what isn't offered is told so, and nothing is written.
    stage.send(session, "Now write").await;
    let denied = stage
        .until(session, "two turns", |seen| {
            (seen.turns.len() == 2 && seen.status == Status::Active).then(|| seen.clone())
        })
        .await;
    let refused = |part: &Content| matches!(part, Content::ToolResult { content, is_error: true, .. } if content.contains("no tool named"));
    assert!(parts(&denied).iter().any(refused) && !path.join("new.txt").exists());

    // Allowed once in this session, it is not asked about again, unless members want every call asked about.
    change(&stage, json!({"type": "set-policy", "integration": "files", "tool": "read_text_file", "policy": "ask"}))
        .await;
    stage.send(session, "And once more").await;
    let asks = stage.settled(session, Status::Paused).await;
    let waiting = parts(&asks)
        .into_iter()
        .filter(|part| matches!(part, Content::ToolCall { state: ShownCallState::Waiting, .. }));
    assert_eq!(waiting.count(), 1);
}
