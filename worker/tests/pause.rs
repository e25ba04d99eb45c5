//! Stopping and going on, by what was cut; and what stands before a conversation holds still meanwhile.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use skein_engine::ids::DocumentId;
use skein_engine::session::Command;
use skein_engine::session::conversation::{Content, Conversation, ShownCallState, Status, TurnState};
use skein_engine::workspace::agent::AgentField;
use skein_engine::workspace::{Workspace, WorkspaceCommand};
use skein_worker::Settings;
use support::model::{ModelServer, Script, Step, openai, stream, stream_head};
use support::{Stage, answer, device, parts, provider};

const TEXT: &str = "A skein is a length of yarn, wound loosely. Grüße aus der Weberei – 日本の糸も同じです. The threads of \
                    many people meet in one place, and none of them is lost when somebody lets go of it for a while.";

/// A session with a name of its own: no request for a title comes in between.
async fn named(stage: &Stage, message: &str) -> DocumentId {
    let session = stage.new_session(message).await;
    stage.command(session, Command::Rename { name: "Named".into() }).await;
    session
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn opened(block: &Value) -> String {
    event(&json!({"type": "message_start", "message": {"usage": {"input_tokens": 3}}}))
        + &event(&json!({"type": "content_block_start", "index": 0, "content_block": block}))
}

fn delta(index: usize, delta: &Value) -> String {
    event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

fn stop() -> String {
    event(&json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}))
        + &event(&json!({"type": "message_stop"}))
}

/// An Anthropic answer that says this, whole or not.
fn claude(words: &str, whole: bool) -> String {
    let said = opened(&json!({"type": "text", "text": ""})) + &delta(0, &json!({"type": "text_delta", "text": words}));
    if whole { said + &stop() } else { said }
}

/// What came so far, and then silence.
fn held(text: String) -> Script {
    vec![stream_head(), Step::Send(text.into_bytes()), Step::Hold]
}

fn whole(text: &str) -> Script {
    stream([text.as_bytes()])
}

/// Places to cut a text at, other ones each time.
fn cuts(text: &str, number: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = Vec::new();
    let mut at = 0;
    for byte in skein_engine::ids::random_bytes::<16>().into_iter().take(number) {
        at = text.ceil_char_boundary(at + 16 + usize::from(byte) % 16);
        cuts.push(at);
    }
    cuts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_paused_again_and_again_reads_like_one_that_never_was() {
    let stage = Stage::new().await;
    for kind in ["openai", "anthropic"] {
        let cuts = cuts(TEXT, 6);
        let mut scripts = Vec::new();
        let mut from = 0_usize;
        for to in cuts.iter().copied().chain([TEXT.len()]) {
            let last = to == TEXT.len();
            // A model that gets its words quoted says the last of them again; one that goes on from a prefill doesn't.
            let again = if kind == "openai" { TEXT.ceil_char_boundary(from.saturating_sub(14)) } else { from };
            scripts.push(match (kind, last) {
                ("openai", false) => held(openai(&[&TEXT[again..to]], None)),
                ("openai", true) => whole(&openai(&[&TEXT[again..to]], Some("stop"))),
                (_, false) => held(claude(&TEXT[again..to], false)),
                (_, true) => whole(&claude(&TEXT[again..to], true)),
            });
            from = to;
        }
        let model = ModelServer::start(scripts).await;
        let session = named(&stage, "Say it").await;
        let worker = stage.worker(provider(kind, model.address, ""));
        for cut in &cuts {
            assert_eq!(stage.spoken(session, *cut).await, TEXT[..*cut], "{kind}");
            stage.command(session, Command::Pause).await;
            assert_eq!(answer(&stage.settled(session, Status::Paused).await), TEXT[..*cut], "{kind}");
            stage.command(session, Command::Continue).await;
        }
        let done = stage.settled(session, Status::Active).await;
        assert_eq!(answer(&done), TEXT, "{kind}, cut at {cuts:?}");
        assert_eq!((done.turns.len(), model.bodies().len(), model.hung_up()), (1, cuts.len() + 1, cuts.len()));
        worker.stop().await;
    }
}

/// Pauses an Anthropic answer that stands still after these bytes, and goes on. The conversation while it was paused, the
/// one after, and the second request.
async fn cut_in(begun: String, shows: impl Fn(&Content) -> bool) -> (Conversation, Conversation, String) {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![held(begun), whole(&claude("Done.", true))]).await;
    let session = named(&stage, "Think").await;
    let _worker = stage.worker(provider("anthropic", model.address, ""));
    stage.until(session, "begun", |conversation| parts(conversation).iter().any(&shows).then_some(())).await;
    stage.command(session, Command::Pause).await;
    let paused = stage.settled(session, Status::Paused).await;
    stage.command(session, Command::Continue).await;
    let done = stage.settled(session, Status::Active).await;
    let second = model.bodies()[1].clone();
    (paused, done, second)
}

fn thinking(content: &Content) -> bool {
    matches!(content, Content::Thinking { text } if text.contains("Let me see"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thinking_without_its_signature_stays_on_screen_and_is_not_sent_again() {
    let begun = opened(&json!({"type": "thinking", "thinking": ""}))
        + &delta(0, &json!({"type": "thinking_delta", "thinking": "Let me see"}));
    let (_, done, second) = cut_in(begun, thinking).await;
    assert!(parts(&done).iter().any(thinking), "{done:#?}");
    assert_eq!(answer(&done), "Done.");
    assert!(!second.contains("Let me see"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thinking_with_its_signature_goes_back_before_the_words_that_were_cut() {
    let begun = opened(&json!({"type": "thinking", "thinking": ""}))
        + &delta(0, &json!({"type": "thinking_delta", "thinking": "Let me see"}))
        + &delta(0, &json!({"type": "signature_delta", "signature": "c2lnbmVk"}))
        + &event(&json!({"type": "content_block_stop", "index": 0}))
        + &event(&json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}))
        + &delta(1, &json!({"type": "text_delta", "text": "Nearly "}));
    let said = |content: &Content| matches!(content, Content::Text { text } if text.contains("Nearly"));
    let (_, done, second) = cut_in(begun, said).await;
    assert_eq!(answer(&done), "Nearly Done.");
    assert!(second.contains("c2lnbmVk") && second.contains("Let me see"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_input_was_cut_never_runs_and_is_asked_for_again() {
    let begun = opened(&json!({"type": "tool_use", "id": "toolu_1", "name": "demo_dice", "input": {}}))
        + &delta(0, &json!({"type": "input_json_delta", "partial_json": "{\"sides\": 1"}));
    let (paused, done, second) = cut_in(begun, |content| matches!(content, Content::ToolCall { .. })).await;
    let cut = |part: &Content| matches!(part, Content::ToolCall { state: ShownCallState::Cut, .. });
    assert!(parts(&paused).iter().any(cut), "{paused:#?}");
    assert!(!parts(&done).iter().any(|part| matches!(part, Content::ToolResult { .. })), "{done:#?}");
    assert!(!second.contains("toolu_1"), "{second}");
}

/// Settings of an endpoint with this many steps.
fn steps(model: &ModelServer, steps: u32) -> Settings {
    Settings::from_toml(&format!(
        "[worker]\nmodel = \"test/some-model\"\nstep_limit = {steps}\n[[provider]]\nname = \"test\"\nkind = \
         \"openai\"\nbase_url = \"http://{}/v1\"\n",
        model.address
    ))
    .unwrap()
}

/// An OpenAI answer that calls a tool so many times.
fn calling(number: usize, tool: &str, input: &str) -> String {
    let calls: Vec<Value> = (0..number)
        .map(|index| json!({"index": index, "id": format!("c{index}"), "function": {"name": tool, "arguments": input}}))
        .collect();
    event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}))
        + &event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}))
        + "data: [DONE]\n\n"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_calls_of_a_tool_that_is_not_there_have_a_result_each() {
    let stage = Stage::new().await;
    let scripts = vec![whole(&calling(500, "nope", "{}")), whole(&openai(&["Sorry."], Some("stop")))];
    let model = ModelServer::start(scripts).await;
    let session = named(&stage, "Call").await;
    let _worker = stage.worker(steps(&model, 5));
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(answer(&done), "Sorry.");
    let second: Value = serde_json::from_str(&model.bodies()[1]).unwrap();
    let messages = second["messages"].as_array().unwrap();
    let told: Vec<&str> = messages
        .iter()
        .filter(|message| message["role"] == "tool")
        .map(|message| message["content"].as_str().unwrap())
        .collect();
    assert_eq!(told.len(), 500);
    assert!(told[0].contains("no tool named"), "{}", told[0]);
    assert!(told[499].contains("Only the first 64 calls"), "{}", told[499]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_never_stops_is_paused_at_the_limit_of_steps() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![whole(&calling(1, "nope", "{}"))]).await;
    let session = named(&stage, "Call").await;
    let _worker = stage.worker(steps(&model, 3));
    let paused = stage.settled(session, Status::Paused).await;
    assert_eq!(paused.turns[0].error.as_ref().unwrap().code, "step_limit");
    assert_eq!(model.bodies().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_are_no_json_are_told_to_the_model_and_never_run() {
    let stage = Stage::new().await;
    let scripts = vec![whole(&calling(1, "plan", "no json")), whole(&openai(&["Sorry."], Some("stop")))];
    let model = ModelServer::start(scripts).await;
    let session = named(&stage, "Call").await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(answer(&done), "Sorry.");
    let result = parts(&done).into_iter().find_map(|part| match part {
        Content::ToolResult { content, is_error: true, .. } => Some(content),
        _ => None,
    });
    assert_eq!(result.as_deref(), Some("Its arguments are no JSON, so it did not run: no json"));
    assert!(model.bodies()[1].contains("did not run: no json"), "{}", model.bodies()[1]);
}

/// Sends a message, waits for its answer, and gives the request's bytes up to the end of its last entry.
async fn asked(stage: &Stage, model: &ModelServer, session: DocumentId, words: &str) -> String {
    let before = model.bodies().len();
    let turns = stage.conversation(session).map_or(0, |conversation| conversation.turns.len());
    stage.send(session, words).await;
    stage
        .until(session, "answered", |conversation| {
            let ended = conversation.turns.iter().all(|turn| turn.state == TurnState::Completed);
            (conversation.turns.len() > turns && conversation.queued.is_empty() && ended).then_some(())
        })
        .await;
    model.bodies()[before].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_begin_alike_over_restarts_devices_and_edits_that_a_model_is_not_told() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![whole(&openai(&["Yes."], Some("stop")))]).await;
    let session = named(&stage, "Zero").await;
    let settings = || provider("openai", model.address, "");
    let worker = stage.worker(settings());
    stage.settled(session, Status::Active).await;
    let begins = |first: &str, second: &str| second.starts_with(first.strip_suffix("]}").unwrap());
    let zero = model.bodies()[0].clone();
    let one = asked(&stage, &model, session, "One").await;
    assert!(begins(&zero, &one), "{zero}\n{one}");
    worker.stop().await;

    let worker = stage.worker(settings());
    let other = device(&stage.url, stage.relay.owner_token()).await;
    let here = |workspace: Workspace| (!workspace.agents.is_empty()).then_some(workspace.default_agent);
    let agent = other.until(support::PATIENCE, |device, _| here(device.workspace())).await.unwrap();
    let edit = |field: AgentField| WorkspaceCommand::SetAgent { agent: agent.clone(), fields: vec![field] };
    other.act(|device, now| device.workspace_command(now, &edit(AgentField::Name("Otherwise".into())))).await.unwrap();
    let two = asked(&stage, &model, session, "Two").await;
    assert!(begins(&one, &two), "{one}\n{two}");
    worker.stop().await;

    // What a model is told is new from the next turn on.
    let told = edit(AgentField::Instructions("Be brief.".into()));
    other.act(|device, now| device.workspace_command(now, &told)).await.unwrap();
    let changed = |workspace: &Workspace| workspace.agents[&agent].instructions.contains("brief");
    stage.person.until(support::PATIENCE, |device, _| changed(&device.workspace()).then_some(())).await.unwrap();
    // A worker that comes now has no earlier version of it.
    let _worker = stage.worker(settings());
    let three = asked(&stage, &model, session, "Three").await;
    assert!(!begins(&two, &three) && three.contains("Be brief."), "{three}");
}
