//! Whole turns, with a real relay, a real worker and a person's device: what is sent is answered, stopped, continued,
//! asked about, taken over, and fails with a reason.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use skein_client::Event;
use skein_engine::device::Notice;
use skein_engine::session::Command;
use skein_engine::session::conversation::{Content, Reason, ShownCallState, Status, TurnState};
use skein_engine::session::summary::NameSource;
use support::model::{ModelServer, Step, openai, status, stream, stream_head};
use support::wire::Wire;
use support::{Stage, answer, demo, parts, provider};

const FAST: f64 = 4000.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_answered_counted_and_named() {
    let stage = Stage::new().await;
    let worker = stage.worker(demo(FAST));
    let session = stage.new_session("Tell me about skeins, please").await;
    let conversation = stage.settled(session, Status::Active).await;
    assert!(answer(&conversation).contains("demo model"), "{conversation:#?}");
    assert!(parts(&conversation).iter().any(|part| matches!(part, Content::Thinking { text } if !text.is_empty())));
    let turn = &conversation.turns[0];
    assert_eq!((turn.model.as_deref(), turn.state), (Some("demo/demo"), TurnState::Completed));
    assert!(turn.usage.output > 0 && turn.usage.reasoning > 0 && turn.usage.input > 0, "{turn:?}");
    assert!(turn.cost_micros.is_some_and(|cost| cost.0 > 0) && !turn.estimated);
    let named = stage.person.until(support::PATIENCE, |device, now| {
        device.summary(now, session).filter(|summary| summary.name_source == NameSource::Auto)
    });
    assert_eq!(named.await.unwrap().name, "Tell me about skeins please");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_cuts_the_stream_at_once_keeps_what_came_and_continue_goes_on() {
    let stage = Stage::new().await;
    let worker = stage.worker(demo(60.0));
    let session = stage.new_session("A long one").await;
    stage.spoken(session, 100).await;
    let asked = Instant::now();
    stage.command(session, Command::Pause).await;
    let paused = stage.settled(session, Status::Paused).await;
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
    assert!(matches!(paused.reason, Some(Reason::Person { .. })));
    let kept = answer(&paused);
    assert!(kept.len() >= 100);
    worker.stop().await;

    let _worker = stage.worker(demo(FAST));
    stage.command(session, Command::Continue).await;
    let done = stage.settled(session, Status::Active).await;
    let whole = answer(&done);
    assert!(whole.starts_with(&kept) && whole.ends_with("`skein.toml`."), "{whole}");
    assert_eq!(whole.matches("### Pause").count(), 1);
    assert_eq!(done.turns.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_queued_before_a_pause_is_held_and_one_written_after_it_resumes() {
    let stage = Stage::new().await;
    let _worker = stage.worker(demo(100.0));
    let session = stage.new_session("A long one").await;
    stage.spoken(session, 50).await;
    stage.send(session, "queued before").await;
    stage.command(session, Command::Pause).await;
    stage
        .until(session, "held", |conversation| {
            (conversation.status == Status::Paused && conversation.queued.len() == 1).then_some(())
        })
        .await;
    stage.send(session, "written after").await;
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(done.turns.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_runs_and_one_that_asks_waits_for_its_approval() {
    let stage = Stage::new().await;
    let _worker = stage.worker(demo(FAST));
    let session = stage.new_session("Use a tool, then approve").await;
    let waiting = stage.settled(session, Status::Paused).await;
    let Some(Reason::Approval { calls }) = &waiting.reason else { panic!("{:?}", waiting.reason) };
    let states: Vec<_> = parts(&waiting)
        .into_iter()
        .filter_map(|part| match part {
            Content::ToolCall { name, state, .. } => Some((name, state)),
            _ => None,
        })
        .collect();
    assert_eq!(
        states,
        [("demo_dice".to_owned(), ShownCallState::Done), ("demo_send".to_owned(), ShownCallState::Waiting)]
    );
    stage.command(session, Command::Approve { call: calls[0].clone(), for_session: false }).await;
    let done = stage.settled(session, Status::Active).await;
    assert!(answer(&done).contains("**approved**"), "{}", answer(&done));
    assert_eq!(done.turns.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_result_is_kept_whole_in_a_blob_with_its_ends_inline() {
    let stage = Stage::new().await;
    let _worker = stage.worker(demo(FAST));
    let session = stage.new_session("large tool").await;
    let done = stage.settled(session, Status::Active).await;
    let result = parts(&done).into_iter().find_map(|part| match part {
        Content::ToolResult { content, blob, is_error: false, .. } => Some((content, blob)),
        _ => None,
    });
    let (content, blob) = result.unwrap();
    assert!(content.len() < 16 << 10 && content.contains("bytes left out"), "{}", content.len());
    let whole = stage.blob(&blob.unwrap()).await;
    assert!(whole.len() > 32 << 10 && whole.ends_with("in total)"), "{}", whole.len());
    assert!(content.ends_with("in total)"));
}

/// Waits until the dice roll.
async fn rolling(stage: &Stage, session: skein_engine::ids::DocumentId) {
    stage
        .until(session, "rolling", |conversation| {
            let running = |part| matches!(part, Content::ToolCall { state: ShownCallState::Running, .. });
            parts(conversation).into_iter().any(running).then_some(())
        })
        .await;
}

/// Waits until a call is under way. Marked is not begun: only what the worker names is.
async fn begun(notices: &mut skein_client::Notices, session: skein_engine::ids::DocumentId) {
    let begun = async {
        loop {
            match notices.next().await.expect("the person's client runs") {
                Event::Notice(Notice::Activity { session: of, tool: Some(_), .. }) if of == session => break,
                _ => {}
            }
        }
    };
    tokio::time::timeout(support::PATIENCE, begun).await.expect("the call begins");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_stops_a_tool_at_once_and_its_result_says_so() {
    let stage = Stage::new().await;
    let _worker = stage.worker(demo(FAST));
    let mut notices = stage.person.notices();
    let session = stage.new_session("slow tool").await;
    begun(&mut notices, session).await;
    let asked = Instant::now();
    stage.command(session, Command::Pause).await;
    let paused = stage.settled(session, Status::Paused).await;
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    let told = parts(&paused).into_iter().find_map(|part| match part {
        Content::ToolResult { content, is_error: true, .. } => Some(content),
        _ => None,
    });
    assert!(told.is_some_and(|told| told.contains("stopped")));
    stage.command(session, Command::Continue).await;
    assert!(answer(&stage.settled(session, Status::Active).await).contains("did **not** run"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_ran_when_its_worker_died_is_in_doubt_and_asks() {
    let stage = Stage::new().await;
    let first = stage.worker(demo(FAST));
    let session = stage.new_session("slow tool").await;
    rolling(&stage, session).await;
    first.kill();
    let _second = stage.worker(demo(FAST));
    let doubtful = stage.settled(session, Status::Paused).await;
    let Some(Reason::Approval { calls }) = &doubtful.reason else { panic!("{:?}", doubtful.reason) };
    let states: Vec<_> = parts(&doubtful)
        .into_iter()
        .filter_map(|part| if let Content::ToolCall { state, .. } = part { Some(state) } else { None })
        .collect();
    assert_eq!(states, [ShownCallState::InDoubt]);
    stage.command(session, Command::Approve { call: calls[0].clone(), for_session: false }).await;
    assert!(answer(&stage.settled(session, Status::Active).await).contains("demo_dice` gave"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_ran_when_its_worker_was_stopped_is_in_doubt_too() {
    let stage = Stage::new().await;
    let first = stage.worker(demo(FAST));
    let mut notices = stage.person.notices();
    let session = stage.new_session("slow tool").await;
    begun(&mut notices, session).await;
    first.stop().await;
    let _second = stage.worker(demo(FAST));
    let doubtful = stage.settled(session, Status::Paused).await;
    assert!(matches!(doubtful.reason, Some(Reason::Approval { .. })), "{:?}", doubtful.reason);
    let doubted = |part: &Content| matches!(part, Content::ToolCall { state: ShownCallState::InDoubt, .. });
    assert!(parts(&doubtful).iter().any(doubted), "{doubtful:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tool_runs_without_the_relays_word_that_the_claim_lives() {
    let stage = Stage::new().await;
    let wire = Wire::to(stage.relay.address()).await;
    let _first = stage.worker_at(format!("http://{}", wire.address), demo(40.0));
    let session = stage.new_session("tool").await;
    // From its first words on, the worker hears nothing of its claim, which lapses; its changes still get through.
    let spoke = |conversation: &skein_engine::session::Conversation| {
        let text =
            |part: &Content| matches!(part, Content::Text { text } | Content::Thinking { text } if !text.is_empty());
        parts(conversation).iter().any(text).then_some(())
    };
    stage.until(session, "begun", spoke).await;
    wire.hold_catalog();
    rolling(&stage, session).await;
    let _second = stage.worker(demo(FAST));
    let doubtful = stage.settled(session, Status::Paused).await;
    assert!(matches!(doubtful.reason, Some(Reason::Approval { .. })), "{:?}", doubtful.reason);
    // Nothing that anybody wrote, shown or not, is the result of a call.
    let results = stage.person.read(|device, _| {
        let messages = &device.session(session).unwrap().messages;
        let is_result = |part: &&skein_engine::session::model::Part| {
            matches!(part.kind, skein_engine::session::model::PartKind::ToolResult { .. })
        };
        messages.iter().flat_map(|message| &message.parts).filter(is_result).count()
    });
    assert_eq!(results, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_a_server_repeats_is_not_written_down() {
    let stage = Stage::new().await;
    // A variable of this process that every machine has; nothing else would be safe to set while others run.
    let key = std::env::var("PATH").unwrap();
    let body = format!(r#"{{"error":{{"message":"Incorrect API key provided: {key}"}}}}"#);
    let model = ModelServer::start(vec![status("401 Unauthorized", "", &body)]).await;
    let _worker = stage.worker(provider("openai", model.address, "api_key_env = \"PATH\""));
    let session = stage.new_session("Hello").await;
    let failed = stage.settled(session, Status::Failed).await;
    let message = failed.turns[0].error.clone().unwrap().message;
    assert!(message.contains("Incorrect API key provided") && !message.contains(&key), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_call_never_runs_and_the_model_is_told_why() {
    let stage = Stage::new().await;
    let _worker = stage.worker(demo(FAST));
    let session = stage.new_session("approve").await;
    let waiting = stage.settled(session, Status::Paused).await;
    let Some(Reason::Approval { calls }) = &waiting.reason else { panic!("{:?}", waiting.reason) };
    let deny = Command::Deny { call: calls[0].clone(), reason: Some("not today".into()) };
    stage.command(session, deny).await;
    let done = stage.settled(session, Status::Active).await;
    assert!(answer(&done).contains("did **not** run") && answer(&done).contains("not today"), "{}", answer(&done));
    let denied = parts(&done).into_iter().find_map(|part| match part {
        Content::ToolCall { state, .. } => Some(state),
        _ => None,
    });
    assert!(matches!(denied, Some(ShownCallState::Denied | ShownCallState::Failed)), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_turn_is_taken_up_by_another_and_nothing_committed_is_lost() {
    let stage = Stage::new().await;
    let first = stage.worker(demo(40.0));
    let session = stage.new_session("A long one").await;
    stage.spoken(session, 700).await;
    first.kill();
    let _second = stage.worker(demo(FAST));
    let done = stage
        .until(session, "taken up", |conversation| {
            (conversation.status == Status::Active && conversation.turns[0].state == TurnState::Completed)
                .then(|| conversation.clone())
        })
        .await;
    let whole = answer(&done);
    assert!(whole.ends_with("`skein.toml`."), "{whole}");
    assert_eq!(whole.matches("### Thread").count(), 1, "{whole}");
    assert_eq!(whole.matches("Line 3 of twelve").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_loses_its_relay_for_too_long_stops_and_what_it_wrote_meanwhile_is_not_shown() {
    let stage = Stage::new().await;
    let wire = Wire::to(stage.relay.address()).await;
    let _first = stage.worker_at(format!("http://{}", wire.address), demo(60.0));
    let session = stage.new_session("A long one").await;
    stage.spoken(session, 200).await;
    wire.cut();
    let _second = stage.worker(demo(FAST));
    let done = stage.settled(session, Status::Active).await;
    let whole = answer(&done);
    assert!(whole.ends_with("`skein.toml`."), "{whole}");
    // The first one comes back, with a run that is no longer its own.
    wire.mend();
    stage.send(session, "Still there?").await;
    let after = stage
        .until(session, "the second answer", |conversation| {
            (conversation.turns.len() == 2 && conversation.turns[1].state == TurnState::Completed)
                .then(|| conversation.clone())
        })
        .await;
    let first = after.messages.iter().filter(|message| message.turn.as_deref() == Some(&*after.turns[0].id));
    let text: String = first
        .filter(|message| message.epoch.is_some())
        .flat_map(|message| &message.parts)
        .filter_map(|part| if let Content::Text { text } = &part.content { Some(text.as_str()) } else { None })
        .collect();
    assert_eq!(text, whole);
    assert_eq!(text.matches("### Thread").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_whose_model_no_worker_has_any_more_ends_with_the_reason() {
    let stage = Stage::new().await;
    let begun = openai(&["So far"], None);
    let model = ModelServer::start(vec![vec![stream_head(), Step::Send(begun.into_bytes()), Step::Hold]]).await;
    let first = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Hello").await;
    stage.spoken(session, 6).await;
    first.stop().await;
    let _second = stage.worker(demo(FAST));
    let failed = stage.settled(session, Status::Failed).await;
    assert_eq!(answer(&failed), "So far");
    let error = failed.turns[0].error.clone().unwrap();
    assert!(error.code == "model" && error.message.contains("test/some-model"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_comes_back_in_time_ends_nothing() {
    let stage = Stage::new().await;
    let wire = Wire::to(stage.relay.address()).await;
    let _worker = stage.worker_at(format!("http://{}", wire.address), demo(100.0));
    let session = stage.new_session("A long one").await;
    stage.spoken(session, 200).await;
    wire.cut();
    tokio::time::sleep(Duration::from_millis(300)).await;
    wire.mend();
    let done = stage.settled(session, Status::Active).await;
    assert!(answer(&done).ends_with("`skein.toml`."));
    assert_eq!(answer(&done).matches("### Copies").count(), 1);
    let runs = stage.person.read(|device, _| device.session(session).unwrap().runs.len());
    assert!(runs <= 2, "the run was taken up again: {runs} runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_stopped_leaves_its_turn_to_be_taken_up_at_once() {
    let stage = Stage::new().await;
    let first = stage.worker(demo(40.0));
    let session = stage.new_session("A long one").await;
    let said = stage.spoken(session, 100).await;
    let begun = Instant::now();
    first.stop().await;
    let stopped = begun.elapsed();
    let _second = stage.worker(demo(FAST));
    let done = stage.settled(session, Status::Active).await;
    // Well before its lease would have run out.
    assert!(begun.elapsed() < Duration::from_secs(4), "stopped after {stopped:?}, done after {:?}", begun.elapsed());
    assert!(answer(&done).starts_with(&said) && answer(&done).ends_with("`skein.toml`."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_cant_be_reached_fails_the_turn_with_the_reason_and_retry_helps() {
    let stage = Stage::new().await;
    // A port that was free a moment ago: nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let worker = stage.worker(provider("openai", nobody, ""));
    let session = stage.new_session("Hello").await;
    let failed = stage.settled(session, Status::Failed).await;
    let error = failed.turns[0].error.clone().unwrap();
    assert_eq!((error.code.as_str(), error.retryable), ("network", true));
    assert!(error.message.contains("can't be reached") && error.message.contains("refused"), "{}", error.message);
    worker.stop().await;
    let model = ModelServer::start(vec![stream([openai(&["It ", "works."], Some("stop")).as_bytes()])]).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    stage.command(session, Command::Retry { message: None }).await;
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(answer(&done), "It works.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_fails_at_once_and_for_good() {
    let stage = Stage::new().await;
    let body = r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#;
    let model = ModelServer::start(vec![status("401 Unauthorized", "", body)]).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Hello").await;
    let failed = stage.settled(session, Status::Failed).await;
    let error = failed.turns[0].error.clone().unwrap();
    assert_eq!((error.code.as_str(), error.retryable), ("key", false));
    assert!(error.message.contains("Incorrect API key"), "{}", error.message);
    assert_eq!(model.bodies().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_set_is_named() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![vec![]]).await;
    let _worker = stage.worker(provider("openai", model.address, "api_key_env = \"SKEIN_TEST_KEY_THAT_NOBODY_SETS\""));
    let session = stage.new_session("Hello").await;
    let failed = stage.settled(session, Status::Failed).await;
    let message = failed.turns[0].error.clone().unwrap().message;
    assert!(message.contains("SKEIN_TEST_KEY_THAT_NOBODY_SETS"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_and_rate_limits_are_tried_again_and_the_answer_comes_once() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![
        status("429 Too Many Requests", "retry-after: 0\r\n", r#"{"error":{"message":"Rate limit reached"}}"#),
        status("529 ", "", r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#),
        stream([openai(&["Here."], Some("stop")).as_bytes()]),
    ])
    .await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Hello").await;
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(answer(&done), "Here.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_in_mid_answer_is_continued_and_what_is_repeated_is_dropped() {
    let stage = Stage::new().await;
    let first = openai(&["The quick brown fox ", "jumps över"], None);
    let model = ModelServer::start(vec![
        vec![stream_head(), Step::Send(first.into_bytes()), Step::Cut],
        stream([openai(&["brown fox jumps över", " the lazy dog."], Some("stop")).as_bytes()]),
    ])
    .await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Say it").await;
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(answer(&done), "The quick brown fox jumps över the lazy dog.");
    assert!(model.bodies()[1].contains("Your answer was interrupted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_drip_cut_inside_characters_reads_as_one_text_and_a_pause_hangs_up_at_once() {
    let stage = Stage::new().await;
    let text = openai(&["Grüße – 日本 👋"], None);
    let mut script = vec![stream_head()];
    for byte in text.as_bytes().chunks(1) {
        script.push(Step::Send(byte.to_vec()));
        script.push(Step::Wait(Duration::from_millis(1)));
    }
    script.push(Step::Hold);
    let model = ModelServer::start(vec![script]).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Say it").await;
    stage.spoken(session, "Grüße – 日本 👋".len()).await;
    let asked = Instant::now();
    stage.command(session, Command::Pause).await;
    while model.hung_up() == 0 {
        assert!(asked.elapsed() < Duration::from_secs(5), "the connection was never cut");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let paused = stage.settled(session, Status::Paused).await;
    assert_eq!(answer(&paused), "Grüße – 日本 👋");
    assert!(paused.turns[0].estimated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_turns_request_begins_with_the_bytes_of_this_one() {
    let stage = Stage::new().await;
    for kind in ["openai", "anthropic"] {
        let one = match kind {
            "openai" => openai(&["One."], Some("stop")),
            _ => concat!(
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\n",
                "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"One.\"}}\n\n",
                "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
                "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
            )
            .to_owned(),
        };
        let model = ModelServer::start(vec![stream([one.as_bytes()])]).await;
        let worker = stage.worker(provider(kind, model.address, ""));
        let session = stage.new_session("First \"question\"").await;
        stage.settled(session, Status::Active).await;
        // Beside them come requests for titles, also for the session before.
        let asks = |body: &String, words: &str| body.contains(words) && !body.contains("<conversation>");
        let first = model.bodies().into_iter().find(|body| asks(body, "First")).unwrap();
        stage.send(session, "Second question").await;
        stage
            .until(session, "the second answer", |conversation| {
                (conversation.turns.len() == 2 && conversation.turns[1].state == TurnState::Completed).then_some(())
            })
            .await;
        let second = model.bodies().into_iter().find(|body| asks(body, "Second question")).unwrap();
        let prefix = first.strip_suffix("]}").unwrap();
        assert!(second.starts_with(prefix), "{first}\n{second}");
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_stream_of_events_fails_with_what_it_was() {
    let stage = Stage::new().await;
    let page = "<html><title>Sign in to the network</title></html>";
    let model = ModelServer::start(vec![status("200 OK", "", page)]).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Hello").await;
    let failed = stage.settled(session, Status::Failed).await;
    let message = failed.turns[0].error.clone().unwrap().message;
    assert!(message.contains("Sign in to the network"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_to_be_asked_for_usage_is_asked_without() {
    let stage = Stage::new().await;
    let refusal = r#"{"detail":[{"msg":"stream_options: extra inputs are not permitted"}]}"#;
    let model = ModelServer::start(vec![
        status("422 Unprocessable Entity", "", refusal),
        stream([openai(&["Fine."], Some("stop")).as_bytes()]),
    ])
    .await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Hello").await;
    assert_eq!(answer(&stage.settled(session, Status::Active).await), "Fine.");
    assert!(!model.bodies()[1].contains("stream_options"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_in_mid_answer_fails_the_turn_and_keeps_what_came() {
    let stage = Stage::new().await;
    let error = "event: error\ndata: {\"error\":{\"message\":\"tool call did not match\",\"code\":400}}\n\n";
    let model = ModelServer::start(vec![stream([openai(&["So far"], None).as_bytes(), error.as_bytes()])]).await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Hello").await;
    let failed = stage.settled(session, Status::Failed).await;
    assert_eq!(answer(&failed), "So far");
    assert_eq!(failed.turns[0].error.clone().unwrap().code, "bad_request");
    assert_eq!(model.bodies().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_refuses_to_continue_its_own_words_gets_them_quoted() {
    let begin = concat!(
        "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
    );
    let say = |words: &str| {
        format!(
            "data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{words}\"}}}}\n\n"
        )
    };
    let end = concat!(
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n"
    );
    let refusal = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prefill is not supported"}}"#;
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![
        vec![stream_head(), Step::Send((begin.to_owned() + &say("Once upon a time")).into_bytes()), Step::Cut],
        status("400 Bad Request", "", refusal),
        stream([(begin.to_owned() + &say(" there was a fox.") + end).as_bytes()]),
    ])
    .await;
    let _worker = stage.worker(provider("anthropic", model.address, ""));
    let session = stage.new_session("Tell").await;
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(answer(&done), "Once upon a time there was a fox.");
    let bodies = model.bodies();
    assert!(!bodies[1].contains("Your answer was interrupted") && bodies[2].contains("Your answer was interrupted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_is_explained_and_leaves_no_empty_message_behind() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![
        stream([openai(&[], Some("length")).as_bytes()]),
        stream([openai(&["A title"], Some("stop")).as_bytes()]),
    ])
    .await;
    let _worker = stage.worker(provider("openai", model.address, ""));
    let session = stage.new_session("Hello").await;
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(done.turns[0].stop_reason.as_deref(), Some("length"));
    let said = parts(&done);
    assert!(matches!(&said[..], [Content::Event { summary }] if summary.contains("tokens")), "{said:?}");
    stage.send(session, "Still there?").await;
    stage.settled(session, Status::Active).await;
    let body = model.bodies().into_iter().find(|body| body.contains("Still there?")).unwrap();
    assert!(!body.contains("\"role\":\"assistant\""), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_approved_for_the_session_is_not_asked_about_again() {
    let stage = Stage::new().await;
    let _worker = stage.worker(demo(FAST));
    let session = stage.new_session("approve").await;
    let waiting = stage.settled(session, Status::Paused).await;
    let Some(Reason::Approval { calls }) = &waiting.reason else { panic!("{:?}", waiting.reason) };
    stage.command(session, Command::Approve { call: calls[0].clone(), for_session: true }).await;
    stage.settled(session, Status::Active).await;
    stage.send(session, "approve once more").await;
    let done = stage
        .until(session, "the second answer", |conversation| {
            assert_ne!(conversation.status, Status::Failed);
            (conversation.turns.len() == 2 && conversation.turns[1].state == TurnState::Completed)
                .then(|| conversation.clone())
        })
        .await;
    assert!(answer(&done).contains("**approved**"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_ends_what_streams_and_answers_again() {
    let stage = Stage::new().await;
    let worker = stage.worker(demo(50.0));
    let session = stage.new_session("A long one").await;
    stage.spoken(session, 60).await;
    stage.command(session, Command::Pause).await;
    stage.settled(session, Status::Paused).await;
    stage.command(session, Command::Retry { message: None }).await;
    stage.until(session, "retried", |c| (c.turns[0].state == TurnState::Streaming).then_some(())).await;
    worker.kill();
    let _worker = stage.worker(demo(FAST));
    let done = stage.settled(session, Status::Active).await;
    assert_eq!(done.turns.len(), 1);
    assert!(answer(&done).starts_with("This is Skein's") && answer(&done).ends_with("`skein.toml`."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_many_sessions_and_answer_each_message_once() {
    let stage = Stage::new().await;
    let _workers = [stage.worker(demo(FAST)), stage.worker(demo(FAST))];
    let mut sessions = Vec::new();
    for number in 0..8 {
        sessions.push(stage.new_session(&format!("Question {number}")).await);
    }
    for session in sessions {
        stage.settled(session, Status::Active).await;
        let runs = stage.person.read(|device, _| {
            let runs = device.session(session).unwrap().runs.values().flatten();
            runs.filter(|run| !run.answers.is_empty()).count()
        });
        assert_eq!(runs, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_token_or_a_wrong_one_ends_the_worker_with_the_reason() {
    let stage = Stage::new().await;
    for (token, says) in [(stage.relay.owner_token(), "belongs to no worker"), ("wrong", "token")] {
        let config =
            skein_worker::WorkerConfig { relay_url: stage.url.clone(), token: token.to_owned(), settings: demo(FAST) };
        let ended = tokio::time::timeout(support::PATIENCE, skein_worker::run(config, std::future::pending()));
        let error = ended.await.unwrap().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_fails_when_asked_to() {
    let stage = Stage::new().await;
    let _worker = stage.worker(demo(FAST));
    let session = stage.new_session("fail").await;
    let failed = stage.settled(session, Status::Failed).await;
    let error = failed.turns[0].error.clone().unwrap();
    assert!(!error.retryable && error.message.contains("demo"), "{error:?}");
    stage.send(session, "hello then").await;
    assert!(answer(&stage.settled(session, Status::Active).await).contains("demo model"));
}
