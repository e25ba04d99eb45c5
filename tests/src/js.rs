//! Stock JavaScript clients: `@automerge/automerge-repo` with its own network adapter, in Node, driven line by line
//! through `tests/js/client.js`.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::within;

/// One `Repo` with one connection, in a process of its own.
pub struct Js {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Js {
    /// Starts one that connects to `sync_url`.
    pub async fn connect(sync_url: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
        assert!(folder.join("node_modules").is_dir(), "run `npm ci` in tests/js first (`cargo xtask test` does)");
        let mut child = Command::new("node")
            .current_dir(&folder)
            .args(["client.js", sync_url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("node could not be started ({error}): install Node.js 20 or later"));
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input, output, _child: child }
    }

    /// Makes a document; returns its id.
    pub async fn create(&mut self, value: Value) -> String {
        self.ask(json!({"do": "create", "value": value})).await["id"].as_str().unwrap().to_owned()
    }

    /// Asks for a document: `Some` with what it holds, `None` if it is unavailable.
    pub async fn find(&mut self, id: &str) -> Option<Value> {
        let answer = self.ask(json!({"do": "find", "id": id})).await;
        answer.get("value").cloned()
    }

    /// Changes a document by a function of it, in JavaScript: `document => { … }`.
    pub async fn change(&mut self, id: &str, function: &str) {
        self.ask(json!({"do": "change", "id": id, "function": function})).await;
    }

    /// Waits until a predicate of a document, in JavaScript, holds; returns what the document then holds.
    pub async fn until(&mut self, id: &str, predicate: &str) -> Value {
        self.ask(json!({"do": "until", "id": id, "function": predicate})).await["value"].clone()
    }

    /// Sends an ephemeral message.
    pub async fn broadcast(&mut self, id: &str, message: Value) {
        self.ask(json!({"do": "broadcast", "id": id, "message": message})).await;
    }

    /// Waits for the next ephemeral message on a document; those since it was found or made count.
    pub async fn hear(&mut self, id: &str) -> Value {
        self.ask(json!({"do": "hear", "id": id})).await["message"].clone()
    }

    async fn ask(&mut self, question: Value) -> Value {
        let line = format!("{question}\n");
        let exchange = async {
            self.input.write_all(line.as_bytes()).await.unwrap();
            self.output.next_line().await.unwrap().expect("the JavaScript client has ended")
        };
        let answer = within(&format!("the JavaScript client, asked {question}"), exchange).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer.get("error").is_none(), "{question}: {answer}");
        answer
    }
}
