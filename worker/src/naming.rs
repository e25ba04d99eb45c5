//! A naming run (rule 16): a title for the session, by a small request of its own, or from the text.
//!
//! Invariant: it gives way to all other work, and a title that isn't one is never written.

use std::sync::Arc;

use skein_engine::device::DeviceError;
use skein_engine::ids::DocumentId;
use skein_engine::session::conversation::Conversation;
use skein_engine::session::model::{Role, Run, RunError, RunState};
use skein_engine::session::work::naming_tries;
use skein_engine::session::write;

use crate::config::Model;
use crate::day::Day;
use crate::history::words;
use crate::lease::Lease;
use crate::limit;
use crate::link::Link;
use crate::page::now;
use crate::providers::Kind;
use crate::providers::demo::prompt_tokens;
use crate::providers::event::{Event, Stop};
use crate::providers::failure::Class;
use crate::providers::prompt::{Entry, Preamble, Prompt};
use crate::providers::transport::Transport;
use crate::signals::{Signals, Why};
use crate::spending::{Request, Spending};
use crate::title;
use crate::turn::settle;

/// After so many tries the title comes from the text.
const TRIES: usize = 3;
/// The most tokens that a title may take: a few words, but models that can't but reason need room for that too. Whoever
/// writes on instead is cut off long before.
const MAX_TOKENS: u64 = 4_096;
/// What it is called where the text has no word.
const WORDLESS: &str = "Untitled conversation";

/// See the module.
pub struct Naming<'a> {
    /// The relay.
    pub link: &'a Arc<Link>,
    /// To models.
    pub transport: Transport,
    /// Where.
    pub session: DocumentId,
    /// What has begun.
    pub run: Run,
    /// Who is asked.
    pub model: Model,
    /// The claim.
    pub lease: Lease,
    /// What can end it.
    pub signals: Signals,
    /// What its day has cost.
    pub day: Day,
}

impl Naming<'_> {
    /// Carries the run through, and gives the lease back.
    pub async fn carry_through(mut self, conversation: &Conversation) {
        let talk = || conversation.messages.iter().filter(|message| !message.unverified);
        let said: Vec<String> = talk().map(words).filter(|words| !words.trim().is_empty()).collect();
        let from_text =
            || talk().filter(|message| message.role == Role::User).find_map(|one| title::from_text(&words(one)));
        let mut spending = Spending::new(self.model.rates);
        let tries = self.link.read(|device, _| device.session(self.session).map(|s| naming_tries(s, &self.run.turn)));
        let asks = self.model.endpoint.kind != Kind::Demo && tries.is_ok_and(|tries| tries <= TRIES) && {
            let cost = spending.cost();
            limit::before(self.link, self.session, &self.run, &mut self.day, &cost).await.is_none()
        };
        let found = match asks {
            true => self.ask(&said, &mut spending).await,
            false => Ok(None),
        };
        self.day.note(&spending.cost());
        let title = match found {
            Ok(found) => Ok(found.or_else(from_text).unwrap_or_else(|| WORDLESS.to_owned())),
            Err(Why::Lost) => return,
            Err(why) => Err(why),
        };
        match self.write(title, &spending) {
            Ok(()) => settle(self.link, self.session, self.lease, false).await,
            Err(error) => tracing::error!(session = %self.session, %error, "a title could not be written"),
        }
    }

    /// The model's title; `Ok(None)` if it gave none, `Err` if the run must end.
    async fn ask(&mut self, said: &[String], spending: &mut Spending) -> Result<Option<String>, Why> {
        let preamble = Preamble {
            system: title::INSTRUCTIONS.into(),
            max_tokens: Some(self.model.max_tokens.unwrap_or(MAX_TOKENS).min(MAX_TOKENS)),
            thinking: Some(0),
            ..Preamble::default()
        };
        let entries = vec![Entry::User { text: title::question(said), images: Vec::new() }];
        let mut prompt = Prompt { model: self.model.name.clone(), preamble, entries, resume: None };
        let mut endpoint = self.model.endpoint.clone();
        endpoint.key = self.model.key_variable.as_ref().and_then(|variable| std::env::var(variable).ok());
        let transport = self.transport.clone();
        let mut answering = loop {
            let asking = transport.ask(&endpoint, &prompt);
            let answered = tokio::select! {
                why = self.signals.end() => return Err(why),
                answered = asking => answered,
            };
            match answered {
                Ok(answering) => break answering,
                // Some models can't but think, and refuse to be told not to.
                Err(failure) if failure.class == Class::BadRequest && prompt.preamble.thinking.is_some() => {
                    prompt.preamble.thinking = None;
                }
                Err(failure) => {
                    tracing::info!(session = %self.session, class = failure.class.code(), "no title from the model");
                    return Ok(None);
                }
            }
        };
        let mut request = Request { prompt: prompt_tokens(&prompt), ..Request::default() };
        let mut title = String::new();
        let mut stopped = None;
        let mut failed = false;
        while stopped.is_none() && !failed {
            let events = tokio::select! {
                why = self.signals.end() => {
                    spending.add(&request);
                    return Err(why);
                }
                events = answering.next() => events,
            };
            let Some(events) = events else { break };
            for event in events {
                match event {
                    Event::Started => title.clear(),
                    Event::Text(text) => {
                        request.written += text.chars().count() as u64;
                        title.push_str(&text);
                    }
                    Event::Thinking(text) => request.reasoned += text.chars().count() as u64,
                    Event::Usage(report) => request.report = Some(report),
                    Event::Stopped { class, .. } => stopped = Some(class),
                    Event::Failed(_) => failed = true,
                    _ => {}
                }
            }
            if title::is_too_long(&title) {
                break;
            }
        }
        request.complete = stopped.is_some();
        spending.add(&request);
        let whole = stopped.is_some_and(|class| matches!(class, Stop::End | Stop::Other)) && !failed;
        Ok(title::accept(&title).filter(|_| whole))
    }

    fn write(&self, title: Result<String, Why>, spending: &Spending) -> Result<(), DeviceError> {
        let (key, epoch, at) = (self.run.key(), self.run.epoch, now(self.link));
        self.link.write(self.session, |tx| {
            write::set_usage(tx, &key, &spending.usage(), &spending.cost())?;
            match &title {
                Ok(title) => {
                    write::set_auto_name(tx, title, epoch)?;
                    write::end_run(tx, &key, RunState::Completed, "end", None, at)
                }
                Err(_) => {
                    let message = "The title gave way to other work.".to_owned();
                    let error = RunError { code: "gave_way".into(), message, retryable: true };
                    write::end_run(tx, &key, RunState::Failed, "gave_way", Some(&error), at)
                }
            }
        })
    }
}
