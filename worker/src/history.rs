//! Conversation → prompt entries: what a model is told of a session, up to and with one turn. A pure function of the
//! document, so that the same history always gives the same bytes.
//!
//! What must go back unchanged goes back only to the provider and model family that sent it; thinking without it is
//! left out, calls whose input was cut are left out, and every other call has exactly one result.

use std::collections::{BTreeMap, HashMap};

use skein_engine::session::conversation::{Content, Conversation, ShownCallState, ShownMessage, ShownPart};
use skein_engine::session::model::{Role, Session};

use crate::files::{Files, Loaded};
use crate::providers::prompt::{CallIds, CallResult, Entry, Image, Piece};

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The provider's name in `skein.toml`.
    pub provider: &'a str,
    /// The model, without the provider's name.
    pub model: &'a str,
    /// The provider's kind.
    pub kind: &'a str,
}

/// The entries up to and with the turn `turn`; later ones, and what is queued, stay out.
pub fn entries(
    session: &Session,
    conversation: &Conversation,
    files: &Files,
    turn: &str,
    asked: Asked<'_>,
) -> Vec<Entry> {
    let messages = &conversation.messages;
    let end = messages.iter().rposition(|message| message.turn.as_deref() == Some(turn)).map_or(0, |last| last + 1);
    let writers = writers(session);
    let mut history = History { results: results(&messages[..end], files), ..History::default() };
    for message in messages[..end].iter().filter(|message| !message.unverified) {
        match message.role {
            Role::User => {
                history.flush();
                let (mut texts, mut images) = (Vec::new(), Vec::new());
                for part in &message.parts {
                    match &part.content {
                        Content::Text { text } if !text.trim().is_empty() => texts.push(text.clone()),
                        Content::Attachment { blob, name, .. } => match files.get(blob) {
                            _ if part.omitted => texts.push(left_out(name)),
                            Some(Loaded::Image(image)) => images.push(image.clone()),
                            Some(Loaded::Text(text)) => texts.push(text.clone()),
                            None => {}
                        },
                        _ => {}
                    }
                }
                if !texts.is_empty() || !images.is_empty() {
                    history.entries.push(Entry::User { text: texts.join("\n\n"), images });
                }
            }
            Role::Assistant => {
                let key = (message.turn.as_deref().unwrap_or_default(), message.epoch.unwrap_or_default());
                let same = writers.get(&key).is_some_and(|(provider, model)| {
                    *provider == asked.provider && family(model) == family(asked.model)
                });
                message.parts.iter().for_each(|part| history.part(part, same, asked.kind));
            }
        }
    }
    history.flush();
    history.entries
}

/// A person's words in a message.
pub fn words(message: &ShownMessage) -> String {
    let texts: Vec<&str> = message
        .parts
        .iter()
        .filter_map(|part| match &part.content {
            Content::Text { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    texts.join("\n\n")
}

/// A model's name up to its version: data goes back within a family.
fn family(model: &str) -> &str {
    let start = model.rfind('/').map_or(0, |slash| slash + 1);
    let end = model[start..].find(['-', '.', ':', '_', '@']).map_or(model.len(), |at| start + at);
    model[..end].trim_end_matches(|c: char| c.is_ascii_digit())
}

type Claim<'a> = (&'a str, skein_engine::ids::Epoch);

/// Provider and model of each claim.
fn writers(session: &Session) -> HashMap<Claim<'_>, (&str, &str)> {
    let runs = session.runs.values().flatten();
    runs.map(|run| {
        let provider = run.provider.as_deref().unwrap_or_default();
        ((run.turn.as_str(), run.epoch), (provider, run.model.as_deref().unwrap_or_default()))
    })
    .collect()
}

/// What a model reads of a result that a person left out.
const LEFT_OUT: &str = "The person left this result out.";

fn left_out(name: &str) -> String {
    format!("[The person left the file \"{name}\" out.]")
}

/// What a call gave.
#[derive(Clone, Debug, Default)]
struct Given {
    content: String,
    is_error: bool,
    images: Vec<Image>,
}

/// The first result of each call, with the files that stand after it.
fn results(messages: &[ShownMessage], files: &Files) -> BTreeMap<String, Given> {
    let mut results: BTreeMap<String, Given> = BTreeMap::new();
    for message in messages.iter().filter(|message| !message.unverified && message.role == Role::Assistant) {
        let mut last: Option<&String> = None;
        for part in &message.parts {
            match &part.content {
                Content::ToolResult { call_id, content, is_error, .. } => {
                    last = (!results.contains_key(call_id)).then_some(call_id);
                    // The call keeps a result, or the provider would refuse the whole history.
                    let content = if part.omitted { LEFT_OUT } else { content };
                    results.entry(call_id.clone()).or_insert_with(|| Given {
                        content: content.to_owned(),
                        is_error: *is_error,
                        images: Vec::new(),
                    });
                }
                Content::Attachment { blob, name, .. } => {
                    let Some(given) = last.and_then(|call| results.get_mut(call)) else { continue };
                    match files.get(blob) {
                        Some(Loaded::Image(image)) if !part.omitted => given.images.push(image.clone()),
                        Some(Loaded::Text(text)) if !part.omitted => given.content += &format!("\n{text}"),
                        _ => given.content += &format!("\n{}", left_out(name)),
                    }
                }
                _ => last = None,
            }
        }
    }
    results
}

#[derive(Default)]
struct History {
    entries: Vec<Entry>,
    pieces: Vec<Piece>,
    calls: Vec<CallResult>,
    results: BTreeMap<String, Given>,
    ids: CallIds,
    /// Results have begun: the next words belong to another answer.
    answered: bool,
}

impl History {
    fn part(&mut self, part: &ShownPart, same: bool, kind: &str) {
        let data = part.provider.as_ref().filter(|data| same && data.kind == kind).map(|data| data.data.clone());
        if self.answered && !matches!(part.content, Content::ToolResult { .. } | Content::Attachment { .. }) {
            self.flush();
        }
        match &part.content {
            Content::Text { text } => self.text(text, data),
            Content::Thinking { text } => {
                if data.is_some() {
                    self.pieces.push(Piece::Thinking { text: text.clone(), data });
                }
            }
            Content::ToolCall { id, provider_id, name, input, state, .. } => {
                // Half an input is dropped and asked for again.
                if matches!(state, ShownCallState::Cut | ShownCallState::Preparing) || input.is_empty() {
                    return;
                }
                let sent = self.ids.give(id, provider_id.as_deref().filter(|_| same));
                let given = self.results.get(id).cloned();
                let Given { content, is_error, images } = given.unwrap_or_else(|| Given {
                    content: missing(*state).to_owned(),
                    is_error: true,
                    images: Vec::new(),
                });
                self.pieces.push(Piece::Call { id: sent.clone(), name: name.clone(), input: input.clone(), data });
                self.calls.push(CallResult { id: sent, content, is_error, images });
            }
            Content::ToolResult { .. } => self.answered = true,
            Content::Other { .. } => {
                if let Some(data) = data.filter(|data| !data.is_empty()) {
                    self.pieces.push(Piece::Other { data });
                }
            }
            Content::Attachment { .. } | Content::Error { .. } | Content::Event { .. } | Content::Unknown { .. } => {}
        }
    }

    /// Words; those that go on from words without data are one piece with them, as if never cut.
    fn text(&mut self, text: &str, data: Option<String>) {
        if text.is_empty() && data.is_none() {
            return;
        }
        match (self.pieces.last_mut(), &data) {
            (Some(Piece::Text { text: before, data: None }), None) => before.push_str(text),
            _ => self.pieces.push(Piece::Text { text: text.to_owned(), data }),
        }
    }

    fn flush(&mut self) {
        self.answered = false;
        let pieces = std::mem::take(&mut self.pieces);
        let results = std::mem::take(&mut self.calls);
        // An answer that says nothing is refused by providers.
        let says = |piece: &Piece| match piece {
            Piece::Text { text, .. } => !text.trim().is_empty(),
            Piece::Thinking { .. } => false,
            Piece::Call { .. } | Piece::Other { .. } => true,
        };
        if pieces.iter().any(says) {
            self.entries.push(Entry::Assistant { pieces });
        }
        if !results.is_empty() {
            self.entries.push(Entry::Results { results });
        }
    }
}

/// What a model reads of a call that has no result.
fn missing(state: ShownCallState) -> &'static str {
    match state {
        ShownCallState::Denied => "The person did not allow this call: it did not run.",
        ShownCallState::Running | ShownCallState::InDoubt => {
            "It is not known whether this call ran: the worker was lost while it did. Don't assume either."
        }
        _ => "This call was cancelled: it did not run.",
    }
}

#[cfg(test)]
mod tests {
    use skein_engine::ids::Epoch;
    use skein_engine::session::model::ProviderData;

    use super::*;

    const ASKED: Asked<'static> = Asked { provider: "p", model: "claude-sonnet-4-5", kind: "anthropic" };

    fn part(content: Content, data: Option<&str>) -> ShownPart {
        let provider = data.map(|data| ProviderData { kind: "anthropic".into(), data: data.into() });
        ShownPart { index: 0, content, omitted: false, provider }
    }

    fn call(id: &str, provider_id: &str, state: ShownCallState) -> ShownPart {
        part(
            Content::ToolCall {
                id: id.into(),
                provider_id: Some(provider_id.into()),
                name: "t".into(),
                input: "{}".into(),
                state,
                digest: String::new(),
            },
            None,
        )
    }

    fn result(id: &str) -> ShownPart {
        part(Content::ToolResult { call_id: id.into(), content: format!("r{id}"), is_error: false, blob: None }, None)
    }

    fn text(text: &str) -> ShownPart {
        part(Content::Text { text: text.into() }, None)
    }

    fn message(role: Role, turn: &str, parts: Vec<ShownPart>) -> ShownMessage {
        ShownMessage {
            id: format!("{role:?}{turn}"),
            role,
            author: None,
            created_at: None,
            turn: Some(turn.into()),
            epoch: Some(Epoch(1)),
            unverified: false,
            parts,
        }
    }

    fn told(messages: Vec<ShownMessage>, turn: &str) -> Vec<Entry> {
        told_with(messages, &Files::new(), turn)
    }

    fn told_with(messages: Vec<ShownMessage>, files: &Files, turn: &str) -> Vec<Entry> {
        entries(&Session::default(), &Conversation { messages, ..Conversation::default() }, files, turn, ASKED)
    }

    #[test]
    fn pictures_go_where_they_belong_and_what_was_left_out_is_named() {
        let image = |mime: &str| Image { mime: mime.into(), bytes: vec![1].into() };
        let file = |blob: &str, omitted: bool| {
            let content = Content::Attachment { blob: blob.into(), mime: "?".into(), name: blob.into(), size: 1 };
            ShownPart { omitted, ..part(content, None) }
        };
        let files = Files::from([
            ("a".to_owned(), Loaded::Image(image("image/png"))),
            ("b".to_owned(), Loaded::Text("The file \"b\":\nwords".into())),
            ("c".to_owned(), Loaded::Image(image("image/gif"))),
        ]);
        let asked = vec![file("a", false), file("b", false), file("c", true), text("look")];
        let answered = vec![call("1", "x", ShownCallState::Done), result("1"), file("c", false), text("seen")];
        let messages = vec![message(Role::User, "t", asked), message(Role::Assistant, "t", answered)];
        let entries = told_with(messages, &files, "t");
        let [
            Entry::User { text, images },
            Entry::Assistant { .. },
            Entry::Results { results },
            Entry::Assistant { .. },
        ] = &entries[..]
        else {
            panic!("{entries:#?}")
        };
        assert_eq!(text, "The file \"b\":\nwords\n\n[The person left the file \"c\" out.]\n\nlook");
        assert_eq!(images, &[image("image/png")]);
        assert_eq!((results[0].content.as_str(), &results[0].images[..]), ("r1", &[image("image/gif")][..]));
    }

    #[test]
    fn every_call_has_one_result_and_a_cut_one_is_left_out() {
        let parts = vec![
            text("a"),
            call("1", "x", ShownCallState::Done),
            call("2", "y", ShownCallState::Cancelled),
            call("3", "z", ShownCallState::Cut),
            result("1"),
            text("b"),
        ];
        let entries = told(vec![message(Role::User, "t", vec![text("hi")]), message(Role::Assistant, "t", parts)], "t");
        let [Entry::User { .. }, Entry::Assistant { pieces }, Entry::Results { results }, Entry::Assistant { .. }] =
            &entries[..]
        else {
            panic!("{entries:#?}")
        };
        assert_eq!((pieces.len(), results.len()), (3, 2));
        assert_eq!(results[0].content, "r1");
        assert!(results[1].is_error && results[1].content.contains("cancelled"));
    }

    #[test]
    fn a_result_that_was_left_out_stays_a_result_without_its_content() {
        let left_out = ShownPart { omitted: true, ..result("1") };
        let parts = vec![call("1", "x", ShownCallState::Done), left_out];
        let entries = told(vec![message(Role::User, "t", vec![text("hi")]), message(Role::Assistant, "t", parts)], "t");
        let Some(Entry::Results { results }) = entries.last() else { panic!("{entries:#?}") };
        assert_eq!(results[0].content, LEFT_OUT);
    }

    #[test]
    fn an_answer_cut_and_continued_is_one_text_and_an_empty_one_is_none() {
        let entries = told(
            vec![
                message(Role::User, "t", vec![text("hi")]),
                message(Role::Assistant, "t", vec![text("hel")]),
                message(Role::Assistant, "t", vec![text("lo")]),
                message(Role::User, "u", vec![text("and?")]),
                message(Role::Assistant, "u", vec![text("")]),
            ],
            "u",
        );
        let said = Entry::Assistant { pieces: vec![Piece::Text { text: "hello".into(), data: None }] };
        assert_eq!(entries[1], said);
        assert_eq!(entries.len(), 3);
    }

    #[test]
    fn later_turns_stay_out_so_that_a_retry_sees_what_stood_before_it() {
        let messages = vec![message(Role::User, "t", vec![text("one")]), message(Role::User, "u", vec![text("two")])];
        assert_eq!(told(messages, "t"), [Entry::User { text: "one".into(), images: Vec::new() }]);
    }

    #[test]
    fn a_family_is_a_model_without_its_version() {
        assert_eq!(family("claude-sonnet-4-5"), family("claude-opus-4"));
        assert_eq!(family("gpt4o"), "gpt4o");
        assert_ne!(family("anthropic/claude-haiku"), family("anthropic/titan"));
        assert_ne!(family("glm-4.5"), family("claude-3"));
    }
}
