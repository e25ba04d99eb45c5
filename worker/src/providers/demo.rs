//! The built-in demo model, `demo/demo`: what a fresh installation talks to. It is deterministic by the conversation,
//! writes Anthropic's stream format, so that its answers take the same path as a real model's, and says plainly what it
//! is.
//!
//! Words in the person's message choose what it does:
//!
//! | word | what happens |
//! |---|---|
//! | `tool` | calls `demo_dice`, which runs without asking |
//! | `slow` | with `tool`: the dice roll for five seconds |
//! | `large` | with `tool`: 12,000 dice, so that the result goes to a blob |
//! | `approve` | calls `demo_send`, which asks first, and does nothing but say so |
//! | `long` | an answer of about 400 words |
//! | `fail` | fails with a plain reason |
//! | else | a short answer that lists these words |
//!
//! `tool` and `approve` may stand together. Its price is pretend ($3 and $15 per million tokens): nothing is charged.

use super::json::{Object, quoted};
use super::prompt::{CallResult, Entry, Piece, Prompt};

/// The provider's name.
pub const PROVIDER: &str = "demo";
/// The model's name.
pub const MODEL: &str = "demo";
/// Tokens per second unless configured.
pub const SPEED: f64 = 40.0;

/// Bytes of the stream, and how many tokens' time they take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Time, in tokens.
    pub tokens: u32,
    /// What is sent then.
    pub bytes: Vec<u8>,
}

/// The whole answer to a prompt.
pub fn script(prompt: &Prompt) -> Vec<Beat> {
    let turn = Turn::of(prompt);
    let mut writer = Writer::new(prompt);
    if turn.asks_for("fail") {
        writer.thinking("The person asked me to fail, so that is what I do.");
        writer.fail("This is the demo model failing as it was asked to. Nothing is broken; retry, and it fails again.");
        return writer.beats;
    }
    let steps = turn.steps();
    if let Some(step) = steps.get(turn.results.len()) {
        writer.thinking(step.thought());
        writer.text(step.announcement());
        writer.call(step.tool(), &step.input(), turn.results.len());
        return writer.end("tool_use");
    }
    let answer = turn.answer(&steps);
    // A cut answer goes on where it stopped, without thinking anew.
    match prompt.resume.and_then(|_| prompt.last_text()).map(str::trim_end).and_then(|said| answer.strip_prefix(said)) {
        Some(rest) => writer.text(rest),
        None => {
            writer.thinking(
                "This is the demo model pretending to think. It looks for the words tool, approve, long and fail.",
            );
            writer.text(&answer);
        }
    }
    writer.end("end_turn")
}

/// What the demo sees of the turn: the person's last words, and what its calls gave.
struct Turn {
    words: Vec<String>,
    results: Vec<CallResult>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Dice { dice: u32, seconds: u32 },
    Send,
}

impl Turn {
    fn of(prompt: &Prompt) -> Self {
        let mut results = Vec::new();
        let mut words = Vec::new();
        for entry in prompt.entries.iter().rev() {
            match entry {
                Entry::Results { results: some } => results.splice(0..0, some.iter().cloned()).for_each(drop),
                Entry::Assistant { .. } => {}
                Entry::User { text, .. } => {
                    words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
                    break;
                }
            }
        }
        Self { words, results }
    }

    fn asks_for(&self, word: &str) -> bool {
        self.words.iter().any(|one| one == word)
    }

    fn steps(&self) -> Vec<Step> {
        let seconds = if self.asks_for("slow") { 5 } else { 0 };
        let dice = if self.asks_for("large") { 12_000 } else { 2 };
        let tool = self.asks_for("tool").then_some(Step::Dice { dice, seconds });
        tool.into_iter().chain(self.asks_for("approve").then_some(Step::Send)).collect()
    }

    fn answer(&self, steps: &[Step]) -> String {
        if !steps.is_empty() {
            let told: Vec<String> = steps
                .iter()
                .zip(&self.results)
                .map(|(step, result)| match (step, result.is_error) {
                    (Step::Dice { .. }, false) => format!("- `demo_dice` gave: {}", start_of(&result.content)),
                    (Step::Send, false) => format!("- `demo_send` was **approved**: {}", result.content),
                    (step, true) => format!("- `{}` did **not** run: {}", step.tool(), result.content),
                })
                .collect();
            return format!(
                "Here is what the demo's tools gave:\n\n{}\n\nThis is a demo: nothing left this machine.",
                told.join("\n")
            );
        }
        if self.asks_for("long") {
            return long();
        }
        SHORT.to_owned()
    }
}

/// A result may be large; the answer quotes its start.
fn start_of(content: &str) -> String {
    match content.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &content[..end]),
        None => content.to_owned(),
    }
}

impl Step {
    fn tool(self) -> &'static str {
        match self {
            Self::Dice { .. } => "demo_dice",
            Self::Send => "demo_send",
        }
    }

    fn input(self) -> String {
        match self {
            Self::Dice { dice, seconds: 0 } => format!(r#"{{"dice":{dice},"sides":6}}"#),
            Self::Dice { dice, seconds } => format!(r#"{{"dice":{dice},"sides":6,"seconds":{seconds}}}"#),
            Self::Send => r#"{"to":"nobody@example.org","text":"Hello from the demo. This is never sent."}"#.into(),
        }
    }

    fn thought(self) -> &'static str {
        match self {
            Self::Dice { .. } => "The person wrote \"tool\": I call one that runs without asking.",
            Self::Send => "The person wrote \"approve\": I call a tool that has to ask first.",
        }
    }

    fn announcement(self) -> &'static str {
        match self {
            Self::Dice { .. } => "I am the demo model. Let me roll two dice with a tool.",
            Self::Send => {
                "I am the demo model. I would like to send a message, which needs your approval. Nothing is really sent."
            }
        }
    }
}

const SHORT: &str = "This is Skein's **demo model**: no language model is configured yet, and these words are canned.\n\n\
Write a message with one of these words to see more:\n\n\
- `tool`: I call a harmless tool (`slow tool`: it takes five seconds; `large tool`: it gives a lot)\n\
- `approve`: I call a tool that asks you first\n\
- `long`: I write about 400 words\n\
- `fail`: I fail, so that you see how that looks\n\n\
The cost that you see is *pretend* ($3 and $15 per million tokens): nothing is charged. \
To talk to a real model, name one in `skein.toml`.";

fn long() -> String {
    const TURNS: [&str; 5] = [
        "A skein is a length of thread, wound so that it can be carried without tangling. Sessions with an agent are \
         threads too: they start on one device, are read on another, and are picked up again after a week, and none of \
         that should tangle them.",
        "Each session is one document, and every device holds a copy of its own. You can write while you are offline; \
         when the link comes back, what you wrote and what others wrote is merged, and everyone sees the same order.",
        "The words that you see appearing now travel as they are made, before they are stored. Every two seconds or so \
         a piece of them is written into the document. If this page is reloaded in the middle, it shows all of the text \
         so far, once, and goes on.",
        "If you press pause, the connection to the model is cut at once, and what was said is kept. If you continue, \
         the answer goes on from there. If the program that runs the agent dies, another one takes the turn up from the \
         last piece that was written.",
        "What a turn used is counted by class (read, cached, written, reasoned) and priced by one function, so that the \
         list, the session and the report never disagree. For this demo the price is pretend, and nothing is charged.",
    ];
    let mut text =
        String::from("This is Skein's **demo model** writing a long answer, so that you can watch it stream.\n\n");
    for (index, turn) in TURNS.iter().enumerate() {
        text.push_str(&format!("### {}\n\n{turn}\n\n", ["Thread", "Copies", "Stream", "Pause", "Cost"][index]));
    }
    for number in 1..=12 {
        text.push_str(&format!(
            "{number}. Line {number} of twelve, here only to make the answer longer than one screen.\n"
        ));
    }
    text.push_str("\nThat was the whole of it. To talk to a real model, name one in `skein.toml`.");
    text
}

/// Writes a stream, word by word.
struct Writer {
    beats: Vec<Beat>,
    block: u32,
    output: u64,
    thought: u64,
}

impl Writer {
    fn new(prompt: &Prompt) -> Self {
        let mut writer = Self { beats: Vec::new(), block: 0, output: 0, thought: 0 };
        let usage = format!("{{\"input_tokens\":{},\"output_tokens\":1}}", prompt_tokens(prompt));
        let message = Object::default().text("model", MODEL).raw("usage", &usage).end();
        writer.send(0, "message_start", Object::default().text("type", "message_start").raw("message", &message));
        writer
    }

    fn send(&mut self, tokens: u32, name: &str, data: Object) {
        let bytes = format!("event: {name}\ndata: {}\n\n", data.end()).into_bytes();
        self.beats.push(Beat { tokens, bytes });
    }

    fn event(&mut self, tokens: u32, kind: &str, key: &str, value: &str) {
        let data = Object::default().text("type", kind).raw("index", &self.block.to_string()).raw(key, value);
        self.send(tokens, kind, data);
    }

    fn block(&mut self, start: &str, kind: &str, key: &str, words: &[&str]) {
        self.event(0, "content_block_start", "content_block", start);
        for word in words {
            let delta = Object::default().text("type", kind).text(key, word).end();
            self.event(1, "content_block_delta", "delta", &delta);
        }
        self.output += words.len() as u64;
    }

    fn stop_block(&mut self) {
        self.event(0, "content_block_stop", "done", "true");
        self.block += 1;
    }

    fn thinking(&mut self, text: &str) {
        let words: Vec<&str> = text.split_inclusive(' ').collect();
        self.block(r#"{"type":"thinking","thinking":""}"#, "thinking_delta", "thinking", &words);
        self.thought += words.len() as u64;
        self.stop_block();
    }

    fn text(&mut self, text: &str) {
        let words: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
        self.block(r#"{"type":"text","text":""}"#, "text_delta", "text", &words);
        self.stop_block();
    }

    fn call(&mut self, tool: &str, input: &str, number: usize) {
        let start = Object::default().text("type", "tool_use").text("id", &format!("demo_{number}")).text("name", tool);
        let pieces: Vec<&str> = input.split_inclusive([' ', ',']).collect();
        self.block(&start.raw("input", "{}").end(), "input_json_delta", "partial_json", &pieces);
        self.stop_block();
    }

    fn fail(&mut self, message: &str) {
        // A class that isn't tried again by itself.
        let error = Object::default().text("type", "invalid_request_error").text("message", message).end();
        self.send(0, "error", Object::default().text("type", "error").raw("error", &error));
    }

    fn end(mut self, reason: &str) -> Vec<Beat> {
        let details = format!("{{\"thinking_tokens\":{}}}", self.thought);
        let usage = Object::default()
            .raw("output_tokens", &self.output.to_string())
            .raw("output_tokens_details", &details)
            .end();
        let delta = format!("{{\"stop_reason\":{}}}", quoted(reason));
        let data = Object::default().text("type", "message_delta").raw("delta", &delta).raw("usage", &usage);
        self.send(0, "message_delta", data);
        self.send(0, "message_stop", Object::default().text("type", "message_stop"));
        self.beats
    }
}

/// Characters that a picture counts for: some 1,500 tokens.
const IMAGE: usize = 6_000;

/// A rough count: four characters a token.
pub fn prompt_tokens(prompt: &Prompt) -> u64 {
    let mut characters = prompt.preamble.system.len();
    characters += prompt.preamble.tools.iter().map(|tool| tool.description.len() + tool.schema.len()).sum::<usize>();
    for entry in &prompt.entries {
        characters += match entry {
            Entry::User { text, images } => text.len() + images.len() * IMAGE,
            Entry::Results { results } => {
                results.iter().map(|result| result.content.len() + result.images.len() * IMAGE).sum()
            }
            Entry::Assistant { pieces } => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text { text, .. } => text.len(),
                    Piece::Call { input, .. } => input.len(),
                    Piece::Thinking { data, .. } => data.as_ref().map_or(0, String::len),
                    Piece::Other { data } => data.len(),
                })
                .sum(),
        };
    }
    (characters as u64).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::event::{Event, Stop};
    use crate::providers::{Answer, Kind};

    fn events(prompt: &Prompt) -> Vec<Event> {
        let mut answer = Answer::new(Kind::Demo);
        let mut events = Vec::new();
        for beat in script(prompt) {
            answer.feed(&beat.bytes, &mut events);
        }
        answer.finish(&mut events);
        events
    }

    fn asked(text: &str) -> Prompt {
        Prompt {
            model: MODEL.into(),
            entries: vec![Entry::User { text: text.into(), images: Vec::new() }],
            ..Prompt::default()
        }
    }

    fn said(events: &[Event]) -> String {
        events
            .iter()
            .filter_map(|event| if let Event::Text(text) = event { Some(text.as_str()) } else { None })
            .collect()
    }

    #[test]
    fn the_same_conversation_gives_the_same_answer_which_says_what_it_is() {
        let events = events(&asked("Hello"));
        assert_eq!(events, self::events(&asked("Hello")));
        assert!(said(&events).contains("demo model"));
        assert!(matches!(events.last(), Some(Event::Stopped { class: Stop::End, .. })));
        assert!(said(&self::events(&asked("a long one"))).split_whitespace().count() > 350);
    }

    #[test]
    fn tool_and_approve_call_tools_one_after_the_other() {
        let mut prompt = asked("Use a tool, then approve");
        let name = |events: &[Event]| {
            events
                .iter()
                .find_map(|event| if let Event::CallStarted { name, .. } = event { Some(name.clone()) } else { None })
        };
        let result = |id: &str| Entry::Results {
            results: vec![CallResult { id: id.into(), content: "7".into(), is_error: false, images: Vec::new() }],
        };
        assert_eq!(name(&events(&prompt)).as_deref(), Some("demo_dice"));
        prompt.entries.push(result("a"));
        assert_eq!(name(&events(&prompt)).as_deref(), Some("demo_send"));
        prompt.entries.push(result("b"));
        assert_eq!(name(&events(&prompt)), None);
        assert!(said(&events(&prompt)).contains("demo_dice` gave: 7"));
    }

    #[test]
    fn a_cut_answer_goes_on_where_it_stopped() {
        let whole = said(&events(&asked("long")));
        let mut prompt = asked("long");
        let half = whole.split_at(whole.len() / 2).0.to_owned();
        prompt.entries.push(Entry::Assistant { pieces: vec![Piece::Text { text: half.clone(), data: None }] });
        prompt.resume = Some(crate::providers::prompt::Resume::Prefill);
        assert_eq!(half.trim_end().to_owned() + &said(&events(&prompt)), whole);
    }

    #[test]
    fn fail_fails_for_good_with_a_reason() {
        let events = events(&asked("Please fail."));
        let Some(Event::Failed(failure)) = events.iter().find(|event| matches!(event, Event::Failed(_))) else {
            panic!("{events:?}")
        };
        assert!(!failure.class.is_transient() && failure.class.needs_person());
        assert!(failure.message.contains("demo"));
    }
}
