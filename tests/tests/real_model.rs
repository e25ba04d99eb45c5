//! A whole conversation with a real language model on this machine: SmolLM2-135M, served by llama.cpp's own server,
//! over both its OpenAI and its Anthropic endpoint. It says nothing of quality (a model this small has little): it says
//! that what real tokens, real usage and real latency do to the worker is what we think.
//!
//! Prints `real model: ran`, or `real model: skipped, WHY`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use skein_tests::skein::Home;
use skein_tests::within;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Longest that an answer of at most 256 tokens takes: a busy core makes some 5 a second.
const ANSWER: Duration = Duration::from_secs(110);

/// llama.cpp's server, with its model loaded.
struct ModelServer {
    url: String,
    _child: Child,
    _lines: Lines<BufReader<ChildStdout>>,
}

impl ModelServer {
    async fn start(python: PathBuf) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/model/serve.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Python starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = within("the model's start", lines.next_line()).await.unwrap().expect("the model's server runs");
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        Self { url, _child: child, _lines: lines }
    }
}

/// The Python that `cargo xtask test` has set up, or why there is none.
fn python() -> Result<PathBuf, String> {
    if let Ok(why) = std::env::var("SKEIN_MODEL_MISSING") {
        return Err(why);
    }
    let set_up = std::env::var_os("SKEIN_MODEL_PYTHON").map(PathBuf::from);
    set_up.filter(|path| path.exists()).ok_or_else(|| "`cargo xtask test` sets it up".to_owned())
}

async fn converse(model: &ModelServer, kind: &str) {
    let home = Home::new();
    home.write(
        "skein.toml",
        &format!(
            "[worker]\nmodel = \"local/smollm2\"\n\n[[provider]]\nname = \"local\"\nkind = \"{kind}\"\nbase_url = \
             \"{}/v1\"\n\n[[price]]\nmodel = \"local/smollm2\"\ninput = 1.0\noutput = 2.0\n",
            model.url
        ),
    );
    let skein = home.serve().await;
    let made = skein.session_json(&["new", "--name", "A real model", "--message", "Name three colours."]).await;
    let id = made["id"].as_str().unwrap();
    skein.session_within(ANSWER, &["wait", id, "--timeout", "100"]).await;
    skein.session(&["send", id, "And one more?"]).await;
    skein.session_within(ANSWER, &["wait", id, "--timeout", "100"]).await;

    let shown = skein.session_json(&["show", id]).await;
    println!("{}", skein.session(&["show", id]).await);
    assert_eq!(shown["status"], "ACTIVE", "{shown:#}");
    let messages = shown["messages"].as_array().unwrap();
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"], "{shown:#}");
    for answer in messages.iter().filter(|message| message["role"] == "assistant") {
        let text: String =
            answer["parts"].as_array().unwrap().iter().filter_map(|part| part["text"].as_str()).collect();
        assert!(!text.trim().is_empty(), "{shown:#}");
    }
    let turns = shown["turns"].as_array().unwrap();
    assert_eq!(turns.len(), 2, "{shown:#}");
    for turn in turns {
        assert_eq!(turn["state"], "completed", "{shown:#}");
        assert_eq!(turn["model"], "local/smollm2", "{shown:#}");
        assert!(turn["usage"]["output"].as_u64().unwrap() > 0, "{shown:#}");
        assert!(turn["costMicros"].as_u64().unwrap() > 0, "{shown:#}");
        // Counted by the server, not estimated by us.
        assert_eq!(turn["estimated"], false, "{shown:#}");
    }
    let read = |turn: &serde_json::Value| {
        turn["usage"]["input"].as_u64().unwrap() + turn["usage"]["cacheRead"].as_u64().unwrap_or(0)
    };
    assert!(read(&turns[0]) > 0, "{shown:#}");
    // The second question went out with the first one and its answer.
    assert!(read(&turns[1]) > read(&turns[0]), "{shown:#}");
}

#[tokio::test]
async fn a_real_model_answers_over_its_openai_and_its_anthropic_endpoint() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            println!("real model: skipped, {why}");
            return;
        }
    };
    let model = ModelServer::start(python).await;
    converse(&model, "openai").await;
    converse(&model, "anthropic").await;
    println!("real model: ran");
}
