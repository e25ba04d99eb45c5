//! Model providers, each as two pure functions: a [`prompt::Prompt`] → the bytes of a request, and the bytes of an
//! answer → [`event::Event`]s. Neither knows a socket, a clock or a document; [`transport`] runs them all.
//!
//! In order of reading: [`event`] (the one event model), [`prompt`] (what a model is asked), [`sse`] (framing),
//! [`openai`], [`responses`], [`anthropic`], [`gemini`] and [`ollama`] (the kinds), [`failure`] (what went wrong, by class), [`json`] (writing bytes that
//! hold still), [`transport`], and [`demo`] (a built-in model that needs no network).
//!
//! Invariant: the reading of an answer doesn't depend on how its bytes were cut, and nothing unknown ends it.

pub mod anthropic;
pub mod demo;
pub mod event;
pub mod failure;
pub mod gemini;
pub mod json;
pub mod limits;
pub mod ollama;
pub mod openai;
pub mod prompt;
pub mod responses;
pub mod sse;
pub mod transport;

use event::Event;
use failure::{Class, Failure};

/// What a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// OpenAI's chat completions, and everything compatible with them.
    #[serde(rename = "openai")]
    OpenAi,
    /// OpenAI's responses, and everything compatible with them.
    #[serde(rename = "openai-responses")]
    Responses,
    /// Anthropic's messages.
    Anthropic,
    /// Google's Gemini.
    Gemini,
    /// Ollama's own chat.
    Ollama,
    /// The built-in demonstration.
    Demo,
}

impl Kind {
    /// As documents hold it beside a provider's data.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Responses => "openai-responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
            Self::Demo => "demo",
        }
    }

    /// Whether a last message of the assistant's is gone on with as it stands.
    pub fn prefills(self) -> bool {
        matches!(self, Self::Anthropic | Self::Ollama | Self::Demo)
    }
}

/// One answer as it streams in: bytes in, events out.
#[derive(Debug)]
pub struct Answer {
    frames: sse::Decoder,
    reader: Reader,
    failed: bool,
    finished: bool,
}

#[derive(Debug)]
enum Reader {
    OpenAi(Box<openai::Reader>),
    Responses(Box<responses::Reader>),
    Anthropic(Box<anthropic::Reader>),
    Gemini(Box<gemini::Reader>),
    Ollama(Box<ollama::Reader>),
}

/// Asks whichever reader it is.
macro_rules! each {
    ($reader:expr, $name:ident => $call:expr) => {
        match $reader {
            Reader::OpenAi($name) => $call,
            Reader::Responses($name) => $call,
            Reader::Anthropic($name) => $call,
            Reader::Gemini($name) => $call,
            Reader::Ollama($name) => $call,
        }
    };
}

impl Answer {
    /// An answer of a provider of this kind. The demo writes in Anthropic's format.
    pub fn new(kind: Kind) -> Self {
        let reader = match kind {
            Kind::OpenAi => Reader::OpenAi(Box::default()),
            Kind::Responses => Reader::Responses(Box::default()),
            Kind::Anthropic | Kind::Demo => Reader::Anthropic(Box::default()),
            Kind::Gemini => Reader::Gemini(Box::default()),
            Kind::Ollama => Reader::Ollama(Box::default()),
        };
        Self { frames: sse::Decoder::default(), reader, failed: false, finished: false }
    }

    /// Takes the next bytes, however they are cut.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        if self.over() {
            return;
        }
        let mut frames = Vec::new();
        let fed = self.frames.feed(bytes, &mut frames);
        self.read(frames, out);
        if fed.is_err() && !self.failed {
            self.failed = true;
            out.push(Event::Failed(Failure::new(
                Class::BadAnswer,
                "The model's server sent a single event of more than 32 MiB.",
            )));
        }
    }

    /// The connection has ended (or has been cut by us): what is still open is closed.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        if self.finished {
            return;
        }
        if !self.failed {
            let mut frames = Vec::new();
            self.frames.finish(&mut frames);
            self.read(frames, out);
        }
        self.finished = true;
        let failed = self.failed;
        let mut end = Vec::new();
        each!(&mut self.reader, reader => reader.finish(&mut end));
        // After an error only what was already said is closed: the error stands as the last word.
        end.retain(|event| !failed || !matches!(event, Event::Failed(_) | Event::Stopped { .. }));
        for event in &mut end {
            if let Event::Failed(failure) = event
                && failure.class == Class::BadAnswer
                && let Some(text) = self.frames.noise()
            {
                failure.message =
                    format!("The model's server did not answer with a stream of events, but with: {text}");
            }
        }
        out.extend(end);
    }

    /// Whether the provider has said its last word, so that nothing more need be read.
    pub fn over(&self) -> bool {
        self.failed || self.finished || each!(&self.reader, reader => reader.over())
    }

    /// Whether the model has said why it stopped: a connection that is then silent need not be waited for.
    pub fn stopped(&self) -> bool {
        each!(&self.reader, reader => reader.stopped())
    }

    fn read(&mut self, frames: Vec<sse::Frame>, out: &mut Vec<Event>) {
        for frame in frames {
            if self.over() {
                return;
            }
            let before = out.len();
            each!(&mut self.reader, reader => reader.frame(&frame, out));
            self.failed |= out[before..].iter().any(|event| matches!(event, Event::Failed(_)));
        }
    }
}
