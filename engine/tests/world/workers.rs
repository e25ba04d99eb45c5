//! What workers do, in step with the relay's leases (rules 6 to 8 and 14); each is noted in the ledger.

use skein_engine::ids::{Epoch, Micros};
use skein_engine::session::model::{CallState, Cost, Part, PartKind, Run, RunError, RunState, ToolCall, Usage};
use skein_engine::session::rules::{Rule, off};
use skein_engine::session::work::{self, MustEnd, Work, WorkKind};
use skein_engine::session::write;

use super::ledger::{Act, Began};
use super::{Who, World, invariants, text_of, transact};

/// A claim that the relay has granted; its run is yet to begin.
#[derive(Clone, Debug)]
pub struct Grant {
    pub epoch: Epoch,
    /// What was due when it was asked for.
    derived: Work,
}

/// A worker's run, and the message that it writes.
#[derive(Clone, Debug)]
pub struct Claim {
    pub work: Work,
    pub run: Run,
    pub message: Option<String>,
    /// The text part at the end of that message, if one stands there.
    part: Option<u64>,
}

impl World {
    pub fn due(&self, who: Who) -> Option<Work> {
        self.look(who).work.clone()
    }

    /// Claims what is due: an epoch of its own, and the heads that the relay has (rule 7).
    pub fn grant(&mut self, who: Who) -> Option<Grant> {
        if self.live.is_some() || self.apart.contains_key(&who) {
            return None;
        }
        let derived = self.due(who)?;
        self.now = self.now.plus_ms(1_500);
        let known = self.session(who).runs.values().flatten().map(|run| run.epoch).max().unwrap_or_default();
        let named = if off(Rule::EpochNamed) { Epoch(0) } else { known };
        let clock = if off(Rule::EpochClock) { 0 } else { self.now.0 / 1000 };
        let epoch = Epoch((self.epoch.max(named).0 + 1).max(clock));
        self.epoch = epoch;
        self.live = Some(epoch);
        self.sync(who);
        self.fresh_actor(who);
        Some(Grant { epoch, derived })
    }

    /// Begins what is due on the heads of the grant, in one step with the relay (rule 8); `None`: refused, or nothing
    /// is due any more.
    pub fn begin(&mut self, who: Who, grant: Grant) -> Option<Claim> {
        let live = self.live == Some(grant.epoch);
        if self.apart.contains_key(&who) || !(live || off(Rule::BeginLive)) {
            return None;
        }
        let Some(work) = (if off(Rule::BeginFresh) { Some(grant.derived) } else { self.due(who) }) else {
            self.release(grant.epoch);
            return None;
        };
        if !live {
            self.broken.push(("every run begins under a live lease", format!("{work:?}")));
        }
        let epoch = grant.epoch;
        self.now = self.now.plus_ms(10);
        let run = Run {
            place: work.place.unwrap_or(epoch),
            continues: work.continues.clone(),
            request: work.request.clone(),
            agent: Some("agent1".into()),
            model: Some("model".into()),
            provider: Some("test".into()),
            worker: Some(format!("worker{who}")),
            started_at: Some(self.now),
            ..Run::new(work.turn.clone(), epoch, work.answers.clone())
        };
        let began = self.began(who, &work, &run);
        if let Err(broken) = invariants::may_begin(self, who, &work, &began) {
            self.broken.push(broken);
        }
        transact(&mut self.replicas[who], |tx| write::begin_run(tx, &run)).unwrap();
        self.ledger.record(who, Act::Began { run: began });
        self.sync(who);
        Some(Claim { work, run, message: None, part: None })
    }

    /// Both at once.
    pub fn claim(&mut self, who: Who) -> Option<Claim> {
        let grant = self.grant(who)?;
        self.begin(who, grant)
    }

    fn began(&self, who: Who, work: &Work, run: &Run) -> Began {
        let session = self.session(who);
        // Whatever the document says: what goes on with a run goes on at the end of what its worker knows of it.
        let of = work.of.as_deref().and_then(|of| self.ledger.run(of));
        let goes_on = of.filter(|_| work.kind != WorkKind::Retry);
        Began {
            key: run.key(),
            turn: run.turn.clone(),
            epoch: run.epoch,
            kind: work.kind,
            asked_for: work.request.is_some(),
            answers: run.answers.iter().map(|id| text_of(&session, id)).collect(),
            carried: goes_on.map(|of| self.ledger.words(who, &of.key)).unwrap_or_default(),
            calls: goes_on.map(|of| self.ledger.calls(who, &of.key)).unwrap_or_default(),
            place: of.map_or(self.ledger.entries.len(), |of| of.place),
        }
    }

    /// Writes words into the run's message, as a part of their own.
    pub fn say(&mut self, who: Who, claim: &mut Claim, words: &str) {
        self.spoken(who, claim, words);
        let part = Part { kind: PartKind::Text(words.into()), provider: None };
        let (_, index) = self.push(who, claim, part);
        claim.part = Some(index);
    }

    /// Writes words at the end of what is there.
    pub fn append(&mut self, who: Who, claim: &mut Claim, words: &str) {
        let (Some(message), Some(part)) = (claim.message.clone(), claim.part) else {
            return self.say(who, claim, words);
        };
        self.spoken(who, claim, words);
        transact(&mut self.replicas[who], |tx| write::push_chunk(tx, &message, part, words)).unwrap();
    }

    fn spoken(&mut self, who: Who, claim: &Claim, words: &str) {
        if self.live == Some(claim.run.epoch)
            && let Err(broken) = invariants::may_go_on(self, who, &claim.run.key())
        {
            self.broken.push(broken);
        }
        self.ledger.record(who, Act::Word { run: claim.run.key(), word: words.into() });
    }

    /// The rest goes into another message.
    pub fn next_message(&mut self, claim: &mut Claim) {
        (claim.message, claim.part) = (None, None);
    }

    pub fn push(&mut self, who: Who, claim: &mut Claim, part: Part) -> (String, u64) {
        let now = self.now;
        claim.part = None;
        transact(&mut self.replicas[who], |tx| {
            let message = match &claim.message {
                Some(message) => message.clone(),
                None => write::begin_message(tx, &claim.run, "agent1", now)?,
            };
            claim.message = Some(message.clone());
            let index = write::push_part(tx, &message, &part)?;
            Ok::<_, automerge::AutomergeError>((message, index))
        })
        .unwrap()
    }

    /// A call in this state; a later part of the same call has no input.
    pub fn call(&mut self, who: Who, claim: &mut Claim, id: &str, input: Option<&str>, state: CallState) {
        let call =
            ToolCall { id: id.into(), provider_id: None, name: "tool".into(), input: input.map(str::to_owned), state };
        self.push(who, claim, Part { kind: PartKind::ToolCall(call), provider: None });
        let (run, call) = (claim.run.key(), id.to_owned());
        match state {
            CallState::Waiting | CallState::InDoubt => drop(self.ledger.record(who, Act::Asked { run, call })),
            CallState::Running => {
                if let Err(broken) = invariants::may_run(self, who, id) {
                    self.broken.push(broken);
                }
                self.ledger.record(who, Act::Ran { call });
            }
            CallState::Denied => drop(self.ledger.record(who, Act::Refused { call })),
            CallState::Preparing | CallState::Cancelled | CallState::Cut => {}
        }
    }

    pub fn result(&mut self, who: Who, claim: &mut Claim, id: &str, content: &str) {
        let kind = PartKind::ToolResult { call: id.into(), content: content.into(), is_error: false, blob: None };
        self.push(who, claim, Part { kind, provider: None });
    }

    pub fn spend(&mut self, who: Who, claim: &Claim, tokens: u64, micros: u64) {
        self.spend_maybe(who, claim, tokens, Some(micros));
    }

    /// `None`: at an unknown price.
    pub fn spend_maybe(&mut self, who: Who, claim: &Claim, tokens: u64, micros: Option<u64>) {
        let usage = Usage { output: tokens, ..Usage::default() };
        let cost = Cost { micros: micros.map(Micros), ..Cost::default() };
        transact(&mut self.replicas[who], |tx| write::set_usage(tx, &claim.run.key(), &usage, &cost)).unwrap();
        self.ledger.record(who, Act::Spent { run: claim.run.key(), tokens, micros });
    }

    /// Gives the session a title, unless a later one stands there.
    pub fn title(&mut self, who: Who, claim: &Claim, title: &str) {
        let epoch = claim.run.epoch;
        transact(&mut self.replicas[who], |tx| write::set_auto_name(tx, title, epoch)).unwrap();
        self.ledger.record(who, Act::Titled { title: title.into(), epoch });
    }

    /// Ends the run, acknowledged, and releases the lease.
    pub fn end(&mut self, who: Who, claim: &Claim, state: RunState, reason: &str) {
        self.now = self.now.plus_ms(100);
        let error = (state == RunState::Failed).then(|| RunError {
            code: "network".into(),
            message: "the model could not be reached".into(),
            retryable: true,
        });
        let now = self.now;
        transact(&mut self.replicas[who], |tx| {
            write::end_run(tx, &claim.run.key(), state, reason, error.as_ref(), now)
        })
        .unwrap();
        self.ledger.record(who, Act::Ended { run: claim.run.key(), state, reason: reason.into() });
        if !off(Rule::Acknowledged) {
            self.sync(who);
        }
        self.release(claim.run.epoch);
    }

    fn release(&mut self, epoch: Epoch) {
        if self.live == Some(epoch) {
            self.live = None;
        }
    }

    /// Answers what is due with `a(…)`, naming the texts that it answers.
    pub fn answer(&mut self, who: Who) -> Work {
        let mut claim = self.claim(who).expect("something is due");
        let words = self.words(who, &claim);
        self.say(who, &mut claim, &words);
        self.end(who, &claim, RunState::Completed, "end");
        claim.work
    }

    /// A person sends a text, and a worker answers what is due; everyone hears of both.
    pub fn ask(&mut self, person: Who, worker: Who, text: &str) {
        self.send(person, text);
        self.sync_all();
        self.answer(worker);
        self.sync_all();
    }

    /// What [`World::answer`] says to a claim.
    pub fn words(&self, who: Who, claim: &Claim) -> String {
        let session = self.session(who);
        let asked: Vec<String> = claim.run.answers.iter().map(|id| text_of(&session, id)).collect();
        format!("a({})", asked.join("+"))
    }

    pub fn must_end(&self, who: Who, claim: &Claim) -> Option<MustEnd> {
        work::must_end(&self.session(who), &self.look(who), &claim.run.key())
    }

    /// The worker is gone; after a while so is its lease.
    pub fn die(&mut self) {
        self.live = None;
    }

    /// Everything due but a title is done; titles are given by the first words.
    pub fn settle(&mut self, who: Who) {
        while let Some(work) = self.due(who).filter(|work| work.kind != WorkKind::Name) {
            assert!(self.live.is_none(), "{work:?} is due under a lease that lives");
            self.answer(who);
        }
    }
}
