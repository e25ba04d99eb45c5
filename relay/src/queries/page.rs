//! What a session says, as rows: its shown and queued messages, their tool calls, and the runs that count. Derived data
//! in, plain data out; the projector makes them, nothing else reads documents.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sha2::{Digest, Sha256};
use skein_engine::ids::{ChangeHash, DocumentId, Micros, Scope, Timestamp};
use skein_engine::session::conversation::{Content, ShownCallState, ShownMessage, Writers};
use skein_engine::session::model::{Origin, Role, RunState, Usage};
use skein_engine::session::spent::{actions, counted};
use skein_engine::session::{Conversation, Session};

/// A session.
#[derive(Clone, Debug)]
pub struct Page {
    /// The workspace.
    pub scope: Scope,
    /// The session.
    pub session: DocumentId,
    /// That it was derived from.
    pub heads: Vec<ChangeHash>,
    /// A deleted one is neither searched nor listed; what it spent counts.
    pub deleted: bool,
    /// As lists show it.
    pub name: String,
    /// That made it.
    pub task: Option<String>,
    /// In the conversation's order.
    pub messages: Vec<MessageRow>,
    /// In theirs.
    pub calls: Vec<CallRow>,
    /// Also those that aren't shown.
    pub runs: Vec<RunRow>,
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageRow {
    /// Its id.
    pub id: String,
    /// `user` or `assistant`.
    pub role: &'static str,
    /// The member's or agent's id.
    pub author: Option<String>,
    /// Of its turn.
    pub agent: Option<String>,
    /// `PROVIDER/MODEL`.
    pub model: Option<String>,
    /// The action that it, or the message it answers, came from.
    pub action: Option<String>,
    /// Of its turn: `streaming`, `paused`, `completed`, `failed`; `queued` without one.
    pub status: &'static str,
    /// When.
    pub at: Timestamp,
    /// The tools that it calls, each once.
    pub tools: BTreeSet<String>,
    /// Its words.
    pub text: String,
}

/// A tool call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallRow {
    /// Its id.
    pub id: String,
    /// Its message's.
    pub message: String,
    /// The tool.
    pub tool: String,
    /// `done`, `failed`, `waiting`, …
    pub status: &'static str,
    /// Of its turn.
    pub agent: Option<String>,
    /// `PROVIDER/MODEL`.
    pub model: Option<String>,
    /// See [`MessageRow::action`].
    pub action: Option<String>,
    /// When its message began.
    pub at: Timestamp,
    /// JSON text as the model wrote it.
    pub input: String,
    /// What stands in the document of it.
    pub result: Option<String>,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRow {
    /// Its key.
    pub key: String,
    /// Its turn.
    pub turn: String,
    /// Its agent's id.
    pub agent: Option<String>,
    /// `PROVIDER/MODEL`.
    pub model: Option<String>,
    /// The action of the first message that it answers.
    pub action: Option<String>,
    /// `streaming`, `paused`, `completed` or `failed`.
    pub status: &'static str,
    /// Why it stopped.
    pub stop_reason: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// By class.
    pub usage: Usage,
    /// `None`: unknown.
    pub cost: Option<Micros>,
    /// Something was used, and what it cost isn't known.
    pub incomplete: bool,
    /// By us.
    pub estimated: bool,
}

impl MessageRow {
    /// Changes when anything of it does.
    pub fn digest(&self) -> Vec<u8> {
        digest(&format!("{self:?}"))
    }
}

impl CallRow {
    /// The same.
    pub fn digest(&self) -> Vec<u8> {
        digest(&format!("{self:?}"))
    }
}

impl RunRow {
    /// The same.
    pub fn digest(&self) -> Vec<u8> {
        digest(&format!("{self:?}"))
    }
}

fn digest(text: &str) -> Vec<u8> {
    Sha256::digest(text)[..12].to_vec()
}

/// Of what a turn says about the messages in it.
#[derive(Clone, Debug, Default)]
struct Turn {
    agent: Option<String>,
    model: Option<String>,
    action: Option<String>,
    status: &'static str,
}

impl Page {
    /// Of a session as everyone sees it.
    pub fn of(
        (scope, id): &(Scope, DocumentId),
        heads: Vec<ChangeHash>,
        name: String,
        session: &Session,
        seen: &Conversation,
        writers: &Writers,
    ) -> Self {
        let actions = actions(session);
        let action_of =
            |answers: &[String]| answers.iter().find_map(|id| actions.get(id.as_str()).map(|&id| id.to_owned()));
        let mut turns: BTreeMap<&str, Turn> = BTreeMap::new();
        for turn in &seen.turns {
            let run = session.runs.get(&turn.run).and_then(|runs| runs.last());
            let of = Turn {
                agent: turn.agent.clone(),
                model: turn.model.clone(),
                action: run.and_then(|run| action_of(&run.answers)),
                status: run.map_or("streaming", |run| state(run.state)),
            };
            turns.insert(&turn.id, of);
            for answered in run.map(|run| run.answers.as_slice()).unwrap_or_default() {
                let of = turns[turn.id.as_str()].clone();
                turns.insert(answered, of);
            }
        }
        let mut page = Self {
            scope: scope.clone(),
            session: *id,
            heads,
            deleted: session.deleted_at.is_some(),
            name,
            task: match &session.origin {
                Some(Origin::Task { task, .. }) => Some(task.clone()),
                _ => None,
            },
            messages: Vec::new(),
            calls: Vec::new(),
            runs: Vec::new(),
        };
        let mut places = HashMap::new();
        for message in seen.messages.iter().chain(&seen.queued).filter(|message| !message.unverified) {
            let key = message.turn.as_deref().unwrap_or(&message.id);
            let queued = || Turn { status: "queued", ..Turn::default() };
            let turn = turns.get(key).cloned().unwrap_or_else(queued);
            let action = actions.get(message.id.as_str()).map(|id| (*id).to_owned());
            page.add(message, turn, action, &mut places);
        }
        page.runs = counted(session, writers)
            .map(|run| RunRow {
                key: run.key(),
                turn: run.turn.clone(),
                agent: run.agent.clone(),
                model: run.full_model(),
                action: action_of(&run.answers),
                status: state(run.state),
                stop_reason: run.stop_reason.clone(),
                error: run.error.as_ref().map(|error| error.message.clone()),
                started: run.started_at.or(run.ended_at).unwrap_or_default(),
                ended: run.ended_at,
                usage: run.usage,
                cost: run.cost.micros.filter(|_| !run.cost.unreadable),
                incomplete: run.cost.is_unknown(&run.usage),
                estimated: run.cost.estimated,
            })
            .collect();
        page
    }

    /// A message and its calls; `places` are those of the calls so far, by id.
    fn add(&mut self, message: &ShownMessage, turn: Turn, action: Option<String>, places: &mut HashMap<String, usize>) {
        let at = message.created_at.unwrap_or_default();
        let action = action.or(turn.action.clone());
        let mut texts = Vec::new();
        let mut tools = BTreeSet::new();
        let mut results: BTreeMap<&str, &str> = BTreeMap::new();
        for part in &message.parts {
            match &part.content {
                Content::Text { text } => texts.push(text.as_str()),
                Content::Attachment { name, .. } => texts.push(name),
                Content::ToolResult { call_id, content, .. } => _ = results.insert(call_id, content),
                _ => {}
            }
        }
        // A call's result may stand in a later message of its turn.
        for (call, content) in &results {
            if let Some(&place) = places.get(*call) {
                self.calls[place].result = Some((*content).to_owned());
            }
        }
        for part in &message.parts {
            let Content::ToolCall { id, name, input, state, .. } = &part.content else { continue };
            tools.insert(name.clone());
            let row = CallRow {
                id: id.clone(),
                message: message.id.clone(),
                tool: name.clone(),
                status: call_state(*state),
                agent: turn.agent.clone(),
                model: turn.model.clone(),
                action: action.clone(),
                at,
                input: input.clone(),
                result: results.get(id.as_str()).map(|content| (*content).to_owned()),
            };
            match places.get(id) {
                Some(&place) => {
                    let result = row.result.clone().or(self.calls[place].result.take());
                    self.calls[place] = CallRow { result, ..row };
                }
                None => {
                    places.insert(id.clone(), self.calls.len());
                    self.calls.push(row);
                }
            }
        }
        self.messages.push(MessageRow {
            id: message.id.clone(),
            role: match message.role {
                Role::User => "user",
                Role::Assistant => "assistant",
            },
            author: message.author.clone(),
            agent: turn.agent,
            model: turn.model,
            action,
            status: turn.status,
            at,
            tools,
            text: texts.join("\n\n"),
        });
    }
}

fn state(state: RunState) -> &'static str {
    match state {
        RunState::Streaming => "streaming",
        RunState::Paused => "paused",
        RunState::Completed => "completed",
        RunState::Failed => "failed",
    }
}

fn call_state(state: ShownCallState) -> &'static str {
    match state {
        ShownCallState::Preparing => "preparing",
        ShownCallState::Waiting => "waiting",
        ShownCallState::Running => "running",
        ShownCallState::Denied => "denied",
        ShownCallState::Cancelled => "cancelled",
        ShownCallState::Cut => "cut",
        ShownCallState::InDoubt => "in_doubt",
        ShownCallState::Done => "done",
        ShownCallState::Failed => "failed",
    }
}
