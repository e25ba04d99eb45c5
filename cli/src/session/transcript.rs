//! A session for people: what `show` prints and `export --format markdown` writes.

use skein_engine::session::conversation::{
    Content, Conversation, Reason, ShownCallState, ShownMessage, ShownPart, ShownTurn, Status, TurnState, Waiting,
};
use skein_engine::session::model::{Role, Usage};
use skein_engine::session::summary::Summary;
use skein_engine::wire::catalog::Welcome;
use skein_engine::workspace::Workspace;

use crate::print::{cost, duration, plain, table, time};

/// A session with its surroundings.
pub(crate) struct Transcript<'a> {
    pub(crate) summary: &'a Summary,
    pub(crate) conversation: &'a Conversation,
    /// For members' names.
    pub(crate) identity: Option<&'a Welcome>,
    /// For agents' names.
    pub(crate) workspace: &'a Workspace,
}

impl Transcript<'_> {
    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let Summary { name, status, id, created_at, .. } = self.summary;
        let mut text = format!("{}  [{}]\n", one_line(name), status_word(*status));
        text.push_str(&format!("{id}, created {}", time(*created_at)));
        if let Some(agent) = &self.summary.agent {
            text.push_str(&format!(", agent {}", plain(&self.agent(agent))));
        }
        text.push('\n');
        if let Some(reason) = &self.conversation.reason {
            text.push_str(&format!("{}\n", plain(&self.reason(reason))));
        }
        for fault in &self.conversation.faults {
            text.push_str(&format!("! {}\n", one_line(fault)));
        }
        for message in &self.conversation.messages {
            text.push_str(&self.message(message));
        }
        for message in &self.conversation.queued {
            let why = self.conversation.waiting.map_or("queued", waiting);
            text.push_str(&self.message(message));
            text.push_str(&format!("  ({why})\n"));
        }
        text.push('\n');
        text.push_str(&self.turns());
        text
    }

    /// Usage and cost, one line a turn and their sum.
    fn turns(&self) -> String {
        let head = ["turn", "state", "model", "in", "out", "reasoning", "cache read", "cache write", "cost"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for (number, turn) in self.conversation.turns.iter().enumerate() {
            let mut row = vec![(number + 1).to_string(), turn_state(turn), turn.model.clone().unwrap_or_default()];
            row.extend(counts(&turn.usage));
            row.push(cost(turn.cost_micros, turn.estimated));
            rows.push(row.iter().map(|cell| one_line(cell)).collect());
        }
        let totals = &self.conversation.totals;
        let mut row = vec!["all".to_owned(), duration(totals.duration_ms), String::new()];
        row.extend(counts(&totals.usage));
        let mut sum = cost(Some(totals.cost_micros), totals.estimated);
        if totals.incomplete {
            sum.push_str(" + unknown");
        }
        row.push(sum);
        rows.push(row);
        table(&rows)
    }

    fn message(&self, message: &ShownMessage) -> String {
        let unverified = if message.unverified { " (unverified)" } else { "" };
        let mut text = format!("\n{}, {}{unverified}\n", plain(&self.who(message)), time(message.created_at));
        for part in &message.parts {
            for line in plain(&part_text(part)).lines() {
                text.push_str(format!("  {line}").trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// Who speaks: the member's name, or the agent's with its model.
    pub(crate) fn who(&self, message: &ShownMessage) -> String {
        let author = message.author.as_deref();
        match message.role {
            Role::User => {
                let members = self.identity.map(|identity| identity.members.as_slice()).unwrap_or_default();
                let member = members.iter().find(|member| Some(member.id.as_str()) == author);
                member.map_or_else(|| author.unwrap_or("someone").to_owned(), |member| member.name.clone())
            }
            Role::Assistant => {
                let name = author.map_or_else(|| "assistant".to_owned(), |id| self.agent(id));
                let turn = self.conversation.turns.iter().find(|turn| Some(&turn.id) == message.turn.as_ref());
                match turn.and_then(|turn| turn.model.as_ref()) {
                    Some(model) => format!("{name} ({model})"),
                    None => name,
                }
            }
        }
    }

    /// An agent's name; of one that was removed as well.
    fn agent(&self, id: &str) -> String {
        let removed = if self.workspace.removed.contains_key(id) { " (removed)" } else { "" };
        format!("{}{removed}", self.workspace.name_of(id).unwrap_or(id))
    }

    fn reason(&self, reason: &Reason) -> String {
        match reason {
            Reason::Person { by, .. } => {
                let members = self.identity.map(|identity| identity.members.as_slice()).unwrap_or_default();
                let name = members.iter().find(|member| member.id == *by).map_or(by.as_str(), |member| &member.name);
                format!("paused by {name}")
            }
            Reason::Approval { calls } => {
                format!("waits for a decision on {}: approve or deny", calls.join(", "))
            }
            Reason::Limit { message } => message.clone(),
            Reason::Failed { error } => format!("failed: {}", error.message),
        }
    }

    /// As a document of its own.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n", one_line(&self.summary.name));
        text.push_str(&format!("Session {}, created {} UTC.\n", self.summary.id, time(self.summary.created_at)));
        for message in self.conversation.messages.iter().chain(&self.conversation.queued) {
            text.push_str(&format!("\n## {}, {}\n", one_line(&self.who(message)), time(message.created_at)));
            for part in &message.parts {
                text.push('\n');
                text.push_str(&part_markdown(part));
                text.push('\n');
            }
        }
        text.push_str("\n## Usage and cost\n\n```\n");
        text.push_str(&self.turns());
        text.push_str("```\n");
        text
    }
}

/// In the contract's letters.
pub(crate) fn status_word(status: Status) -> &'static str {
    match status {
        Status::Active => "ACTIVE",
        Status::Streaming => "STREAMING",
        Status::Paused => "PAUSED",
        Status::Failed => "FAILED",
        Status::Archived => "ARCHIVED",
    }
}

fn counts(usage: &Usage) -> [String; 5] {
    let written = usage.cache_write.saturating_add(usage.cache_write_long);
    [usage.input, usage.output, usage.reasoning, usage.cache_read, written].map(|count| count.to_string())
}

fn turn_state(turn: &ShownTurn) -> String {
    let state = match turn.state {
        TurnState::Streaming => "streaming",
        TurnState::Paused => "paused",
        TurnState::Completed => "completed",
        TurnState::Failed => "failed",
        TurnState::Lost => "worker lost",
    };
    match turn.stop_reason.as_deref() {
        Some(reason) if !matches!(reason, "end" | "") => format!("{state} ({reason})"),
        _ => state.to_owned(),
    }
}

fn waiting(waiting: Waiting) -> &'static str {
    match waiting {
        Waiting::HeldByPause => "held: the session is paused",
        Waiting::HeldByApproval => "held: a tool call waits for a decision",
        Waiting::HeldByFailure => "held: the last turn failed",
        Waiting::HeldByLimit => "held: a spend limit or step limit was reached",
        Waiting::BehindTurn => "queued behind the turn that is streaming",
        Waiting::WorkerLost => "queued: the worker was lost",
        Waiting::NoWorker => "queued: no worker is connected",
        Waiting::Offline => "queued: not connected to the relay",
        Waiting::Due => "queued",
    }
}

fn call_state(state: ShownCallState) -> &'static str {
    match state {
        ShownCallState::Preparing => "being written",
        ShownCallState::Waiting => "waits for a decision",
        ShownCallState::Running => "running",
        ShownCallState::Denied => "denied",
        ShownCallState::Cancelled => "cancelled",
        ShownCallState::Cut => "cut short",
        ShownCallState::InDoubt => "in doubt: it may have run",
        ShownCallState::Done => "done",
        ShownCallState::Failed => "failed",
    }
}

/// A part on a terminal.
pub(crate) fn part_text(part: &ShownPart) -> String {
    match &part.content {
        Content::Text { text } => text.clone(),
        Content::Thinking { text } => text.lines().map(|line| format!("| {line}\n")).collect(),
        Content::ToolCall { id, name, input, state, .. } => {
            format!("> {name} {input}\n> call {id}: {}", call_state(*state))
        }
        Content::ToolResult { content, is_error, .. } => {
            let mark = if *is_error { '!' } else { '<' };
            content.lines().map(|line| format!("{mark} {line}\n")).collect()
        }
        Content::Other { summary } | Content::Event { summary } => format!("* {summary}"),
        Content::Attachment { name, mime, size, .. } => format!("[{name}, {mime}, {size} bytes]"),
        Content::Error { message, .. } => format!("! {message}"),
        Content::Unknown { name } => format!("[a part of type \"{name}\", which this version doesn't know]"),
    }
}

fn part_markdown(part: &ShownPart) -> String {
    match &part.content {
        Content::Text { text } => format!("{}\n", text.trim_end()),
        Content::Thinking { text } => text.trim_end().lines().map(|line| format!("> {line}\n")).collect(),
        Content::ToolCall { name, input, state, .. } => {
            format!("**{}** ({})\n\n{}", one_line(name), call_state(*state), fenced(input))
        }
        Content::ToolResult { content, is_error, .. } => {
            format!("{}\n\n{}", if *is_error { "Failed:" } else { "Result:" }, fenced(content))
        }
        _ => format!("*{}*\n", one_line(&part_text(part))),
    }
}

/// A block of code, whatever is in it.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{}\n{fence}\n", text.trim_end_matches('\n'))
}

pub(crate) fn one_line(text: &str) -> String {
    plain(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_longer_than_any_within() {
        assert_eq!(fenced("a\n"), "```\na\n```\n");
        assert_eq!(fenced("````x"), "`````\n````x\n`````\n");
    }
}
