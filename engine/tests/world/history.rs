//! Random histories: people on two to four devices that come and go, two workers that sleep, die and wake, a relay that
//! is restored from a backup, partitions, and a stranger who writes what isn't theirs to write.
//!
//! Invariant: a seed tells one history, bit for bit.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use skein_engine::ids::{Epoch, Micros};
use skein_engine::session::Command;
use skein_engine::session::conversation::{Content, Decision, MemberRole, ShownCallState, WriterKind};
use skein_engine::session::model::{CallState, Cost, Part, PartKind, Role, Run, RunState, Usage};
use skein_engine::session::work::{MustEnd, WorkKind};
use skein_engine::session::write;
use skein_engine::testing;

use super::invariants::{self, Broken, open_calls};
use super::ledger::Act;
use super::workers::{Claim, Grant};
use super::{Backup, RELAY, Who, World, text, transact};

const WORKERS: usize = 2;
/// Runs after which work that doesn't end has a bug.
const PATIENCE: usize = 60;

/// What a worker believes that it is doing.
enum Doing {
    Granted(Grant),
    Running(Box<Claim>),
}

pub struct History {
    pub world: World,
    random: StdRng,
    people: usize,
    /// Workers die all the time, and people seldom look.
    frail: bool,
    /// Somebody who may only read, and writes all the same.
    stranger: Option<Who>,
    doing: BTreeMap<Who, Doing>,
    backup: Option<Backup>,
    count: u64,
}

/// Tells the whole history of a seed, and checks it all along.
pub fn tell(seed: u64) -> Result<World, Broken> {
    let mut history = History::new(seed);
    match history.tell() {
        Ok(()) => Ok(history.world),
        Err(broken) => {
            if std::env::var_os("SKEIN_SEED").is_some() {
                eprint!("{}", history.world.ledger);
            }
            Err(broken)
        }
    }
}

impl History {
    fn tell(&mut self) -> Result<(), Broken> {
        let steps = self.random.random_range(12..55);
        for step in 0..steps {
            self.step();
            if step % 6 == 0 {
                let who = self.random.random_range(0..self.world.replicas.len());
                self.check(who)?;
            }
        }
        self.meet();
        self.check(RELAY)?;
        self.settle()?;
        self.check(RELAY)?;
        invariants::check_rest(&self.world)?;
        // Whatever stopped it: a message of someone who has seen that goes on.
        let words = self.fresh('u');
        self.world.sync(1);
        self.world.send(1, &words);
        self.world.sync(1);
        self.settle()?;
        self.world.sync_all();
        self.world.raise_relay();
        invariants::check_all(&self.world)?;
        match self.world.look(1).queued.as_slice() {
            [] => Ok(()),
            [first, ..] => Err(("a message of someone who has seen all starts", text(first))),
        }
    }

    pub fn new(seed: u64) -> Self {
        testing::seed(Some(seed));
        let mut random = StdRng::seed_from_u64(seed);
        let people = random.random_range(2..=4);
        let mut world = World::new(people, WORKERS);
        let stranger = random.random_bool(0.25).then(|| world.join(WriterKind::Member, MemberRole::Viewer));
        world.sync_all();
        world.lazy_relay = true;
        Self {
            world,
            people,
            frail: random.random_bool(0.2),
            random,
            stranger,
            doing: BTreeMap::new(),
            backup: None,
            count: 0,
        }
    }

    fn fresh(&mut self, letter: char) -> String {
        self.count += 1;
        format!("{letter}{}.", self.count)
    }

    fn chance(&mut self, of: f64) -> bool {
        self.random.random_bool(of)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.random.random_range(0..of.len())].clone())
    }

    /// One of the many does something.
    pub fn step(&mut self) {
        match self.random.random_range(0..100) {
            0 => self.backup = Some(self.world.back_up()),
            1 => {
                if let Some(backup) = self.backup.take() {
                    self.world.restore(&backup);
                }
            }
            2..=4 if self.stranger.is_some() => self.stranger(),
            _ => {
                let who = self.random.random_range(1..=self.people + WORKERS);
                self.link(who);
                if who > self.people {
                    self.worker(who);
                } else if !self.frail || self.chance(0.3) {
                    self.person(who);
                    if self.chance(0.4) {
                        self.world.sync(who);
                    }
                }
            }
        }
    }

    /// Links go and come back.
    fn link(&mut self, who: Who) {
        if self.world.apart.contains_key(&who) {
            if self.chance(0.25) {
                self.world.rejoin(who);
            }
        } else if self.chance(0.04) {
            self.world.part(who);
            if matches!(self.doing.get(&who), Some(Doing::Running(claim)) if self.world.live == Some(claim.run.epoch)) {
                self.world.die();
            }
        }
    }

    // --- People ---------------------------------------------------------------------------------------------------

    fn person(&mut self, who: Who) {
        let seen = self.world.look(who);
        if self.world.session(who).deleted_at.is_some() && self.chance(0.5) {
            return self.ask(who, Command::Undelete);
        }
        // Whoever sees a question or a stop often answers it.
        if !seen.stops.is_empty() && self.chance(0.4) {
            return match open_calls(&seen).is_empty() {
                true => self.ask(who, Command::Continue),
                false => self.decide(who),
            };
        }
        match self.random.random_range(0..48) {
            0..=7 => {
                let words = self.fresh('u');
                let command = if self.chance(0.2) { Command::queue(words) } else { Command::send(words) };
                self.ask(who, command);
            }
            8 => {
                let words = self.fresh('u');
                self.world.foreign_message(who, &words);
            }
            9..=11 => self.edit(who),
            12..=13 => {
                if let Some(queued) = self.pick(&seen.queued) {
                    self.ask(who, Command::Remove { message: queued.id });
                }
            }
            14..=17 => self.ask(who, Command::Pause),
            18..=20 => self.ask(who, Command::Continue),
            21 => self.ask(who, Command::Retry { message: None }),
            22..=23 => {
                let shown: Vec<String> = seen.messages.iter().map(|message| message.id.clone()).collect();
                let message = self.pick(&shown);
                self.ask(who, Command::Retry { message });
            }
            24..=28 => self.decide(who),
            29..=30 => {
                if let Some(queued) = self.pick(&seen.queued) {
                    self.ask(who, Command::Steer { message: queued.id });
                }
            }
            31 => {
                let name = self.fresh('n');
                self.ask(who, Command::Rename { name });
            }
            32 => self.ask(who, Command::SmartRename),
            33 => {
                let agent = self.fresh('g');
                self.ask(who, Command::SetAgent { agent });
            }
            34 => {
                let micros = self.chance(0.6).then(|| Micros(self.random.random_range(1..1_000)));
                self.ask(who, Command::SetSpendLimit { micros });
            }
            35 => self.ask(who, Command::Archive),
            36 => self.ask(who, Command::Restore { position: "0000000002".into() }),
            37 => self.ask(who, Command::Delete),
            38 => self.omit(who),
            39 => self.world.fresh_actor(who),
            _ => self.world.sync(who),
        }
    }

    /// A command that can't be done is part of life.
    fn ask(&mut self, who: Who, command: Command) {
        drop(self.world.command(who, command));
    }

    fn edit(&mut self, who: Who) {
        let seen = self.world.look(who);
        let people = seen.messages.iter().chain(&seen.queued).filter(|message| message.role == Role::User);
        let ids: Vec<String> = people.map(|message| message.id.clone()).collect();
        if let Some(message) = self.pick(&ids) {
            let text = self.fresh('e');
            self.ask(who, Command::Edit { message, text, detach: Vec::new() });
        }
    }

    fn decide(&mut self, who: Who) {
        let open = open_calls(&self.world.look(who));
        let Some((call, _)) = self.pick(&open) else { return };
        match self.random.random_range(0..10) {
            0..=6 => self.ask(who, Command::Approve { call, for_session: false }),
            7 => {
                // Of another input than the one that is asked for.
                let digest = "0".repeat(64);
                let fields =
                    [("kind", "approve"), ("target", call.as_str()), ("digest", digest.as_str()), ("scope", "once")];
                self.world.foreign_request(who, &fields);
            }
            _ => self.ask(who, Command::Deny { call, reason: None }),
        }
    }

    fn omit(&mut self, who: Who) {
        let seen = self.world.look(who);
        let results = seen.messages.iter().flat_map(|message| {
            let parts = message.parts.iter().filter(|part| matches!(part.content, Content::ToolResult { .. }));
            parts.map(|part| (message.id.clone(), part.index))
        });
        if let Some((message, part)) = self.pick(&results.collect::<Vec<_>>()) {
            self.ask(who, Command::Omit { message, part });
        }
    }

    /// Nothing of it is in the ledger, so nothing of it may show.
    fn stranger(&mut self) {
        let Some(who) = self.stranger else { return };
        self.world.sync(who);
        let seen = self.world.look(who);
        let front = seen.front.clone().unwrap_or_default();
        match self.random.random_range(0..4) {
            0 => {
                let words = self.fresh('v');
                let known = self.world.ledger.known[who].clone();
                self.world.foreign_message(who, &words);
                self.world.ledger.forget(who, known);
            }
            1 => drop(self.world.foreign_request(who, &[("kind", "pause"), ("target", &front)])),
            2 => {
                let calls = seen.messages.iter().flat_map(|message| &message.parts);
                let call = calls.filter_map(|part| match &part.content {
                    Content::ToolCall { id, digest, .. } => Some((id.clone(), digest.clone())),
                    _ => None,
                });
                if let Some((call, digest)) = self.pick(&call.collect::<Vec<_>>()) {
                    let fields = [
                        ("kind", "approve"),
                        ("target", call.as_str()),
                        ("digest", digest.as_str()),
                        ("scope", "session"),
                    ];
                    self.world.foreign_request(who, &fields);
                }
            }
            _ => self.false_run(who),
        }
        self.world.sync(who);
    }

    fn false_run(&mut self, who: Who) {
        let session = self.world.session(who);
        let asked: Vec<String> = session
            .messages
            .iter()
            .filter(|message| message.role == Role::User)
            .map(|message| message.id.clone())
            .collect();
        let Some(turn) = self.pick(&asked) else { return };
        let epoch = Epoch(invariants::last_epoch(&self.world).0 + 1_000_000);
        let cost = Cost { micros: Some(Micros(1_000_000)), ..Cost::default() };
        let run = Run {
            state: RunState::Completed,
            usage: Usage { output: 1_000_000, ..Usage::default() },
            cost,
            ..Run::new(turn.clone(), epoch, vec![turn])
        };
        let (words, now) = (self.fresh('v'), self.world.now);
        transact(&mut self.world.replicas[who], |tx| {
            write::begin_run(tx, &run)?;
            let message = write::begin_message(tx, &run, "agent1", now)?;
            write::push_part(tx, &message, &Part { kind: PartKind::Text(words), provider: None }).map(drop)
        })
        .unwrap();
    }

    // --- Workers --------------------------------------------------------------------------------------------------

    fn worker(&mut self, who: Who) {
        let mut claim = match self.doing.remove(&who) {
            Some(Doing::Running(claim)) => *claim,
            Some(Doing::Granted(grant)) => return self.begin(who, grant),
            None => {
                if self.chance(0.7) {
                    self.world.sync(who);
                }
                return match self.world.grant(who) {
                    // Falls asleep between the grant and the beginning.
                    Some(grant) if self.chance(0.15) => drop(self.doing.insert(who, Doing::Granted(grant))),
                    Some(grant) => self.begin(who, grant),
                    None => {}
                };
            }
        };
        let lives = self.world.live == Some(claim.run.epoch);
        if lives && self.chance(0.4) {
            self.world.sync(who);
        }
        let must_end = self.world.must_end(who, &claim);
        match must_end {
            Some(MustEnd::Paused) if lives => return self.world.end(who, &claim, RunState::Paused, "pause"),
            Some(MustEnd::Overtaken) if lives => return self.world.end(who, &claim, RunState::Completed, "overtaken"),
            _ => {}
        }
        if self.frail && lives && self.chance(0.5) {
            return self.crash(who);
        }
        match self.random.random_range(0..16) {
            0..=4 => {
                let words = self.fresh('a');
                match self.random.random_range(0..4) {
                    0 => {
                        self.world.next_message(&mut claim);
                        self.world.say(who, &mut claim, &words);
                    }
                    1 => self.world.say(who, &mut claim, &words),
                    _ => self.world.append(who, &mut claim, &words),
                }
            }
            5..=6 => self.spend(who, &claim),
            7 if lives => self.world.sync(who),
            8..=9 if lives => {
                if must_end == Some(MustEnd::Steered) {
                    return self.world.end(who, &claim, RunState::Completed, "steered");
                }
                for _ in 0..self.random.random_range(1..=2) {
                    let call = self.fresh('c');
                    self.world.call(who, &mut claim, &call, Some("{}"), CallState::Waiting);
                }
                return self.world.end(who, &claim, RunState::Paused, "approval");
            }
            10..=11 if lives => return self.world.end(who, &claim, RunState::Completed, "end"),
            12 if lives && self.chance(0.4) => return self.world.end(who, &claim, RunState::Failed, "error"),
            12 if lives && self.chance(0.4) => return self.world.end(who, &claim, RunState::Paused, "limit"),
            13 => return self.crash(who),
            // Asleep: the lease lapses, and the worker doesn't know.
            14 if lives => self.world.die(),
            // Awake again: it hears that its lease is lost.
            15 if !lives => return self.world.sync(who),
            _ => {}
        }
        self.doing.insert(who, Doing::Running(Box::new(claim)));
    }

    fn crash(&mut self, who: Who) {
        if matches!(self.doing.remove(&who), Some(Doing::Running(_))) || self.world.live.is_some() {
            self.world.die();
        }
        let loses_unsent = self.chance(0.5);
        self.world.crash(who, loses_unsent);
    }

    fn spend(&mut self, who: Who, claim: &Claim) {
        let spent = self.world.ledger.spent(who).get(claim.run.key().as_str()).copied();
        let (tokens, micros) = spent.unwrap_or((0, Some(0)));
        let more = self.random.random_range(1..100);
        let known = self.chance(0.95);
        let micros = micros.filter(|_| known).map(|micros| micros + 3 * more);
        self.world.spend_maybe(who, claim, tokens + more, micros);
    }

    /// Begins what is due, and does at once what decisions and doubts ask for.
    fn begin(&mut self, who: Who, grant: Grant) {
        let Some(mut claim) = self.world.begin(who, grant) else { return };
        match claim.work.kind {
            WorkKind::Close => return self.world.end(who, &claim, RunState::Paused, "pause"),
            WorkKind::GiveUp => return self.world.end(who, &claim, RunState::Failed, "lost"),
            WorkKind::Name => {
                if self.chance(0.7) {
                    let title = self.fresh('t');
                    self.world.title(who, &claim, &title);
                    self.world.end(who, &claim, RunState::Completed, "end");
                } else {
                    self.doing.insert(who, Doing::Running(Box::new(claim)));
                }
                return;
            }
            _ => {}
        }
        let seen = self.world.look(who);
        for (call, state) in open_calls(&seen) {
            match (seen.decisions.get(&call), state) {
                (Some(Decision::Approved { .. }), _) => {
                    self.world.call(who, &mut claim, &call, None, CallState::Running);
                    self.world.sync(who);
                    if self.chance(0.3) {
                        // Dies in the middle of it.
                        return self.crash(who);
                    }
                    self.world.result(who, &mut claim, &call, "result");
                }
                (Some(Decision::Denied { .. }), _) => {
                    self.world.call(who, &mut claim, &call, None, CallState::Denied);
                    self.world.result(who, &mut claim, &call, "a person said no");
                }
                (None, ShownCallState::InDoubt) if !seen.stops.contains(&call) => {
                    self.world.call(who, &mut claim, &call, None, CallState::InDoubt);
                }
                _ => {}
            }
        }
        let seen = self.world.look(who);
        if open_calls(&seen).iter().any(|(call, _)| seen.stops.contains(call)) {
            return self.world.end(who, &claim, RunState::Paused, "approval");
        }
        self.doing.insert(who, Doing::Running(Box::new(claim)));
    }

    fn check(&mut self, who: Who) -> Result<(), Broken> {
        if who == RELAY {
            self.world.raise_relay();
        }
        invariants::check(&self.world, who)
    }

    // --- The end --------------------------------------------------------------------------------------------------

    /// Everyone meets, and whoever was at work is gone.
    fn meet(&mut self) {
        self.doing.clear();
        self.world.die();
        self.world.apart.clear();
        self.world.sync_all();
    }

    /// One worker does all that is due.
    fn settle(&mut self) -> Result<(), Broken> {
        let worker = self.people + 1;
        if self.world.session(1).deleted_at.is_some() {
            self.ask(1, Command::Undelete);
            self.world.sync(1);
        }
        self.world.sync(worker);
        for _ in 0..PATIENCE {
            if self.world.due(worker).is_none() {
                return Ok(());
            }
            if let Some(grant) = self.world.grant(worker) {
                self.begin(worker, grant);
            }
            if let Some(Doing::Running(mut claim)) = self.doing.remove(&worker) {
                if claim.work.kind == WorkKind::Name {
                    let title = self.fresh('t');
                    self.world.title(worker, &claim, &title);
                } else if self.world.must_end(worker, &claim).is_none() {
                    let words = self.fresh('a');
                    self.world.say(worker, &mut claim, &words);
                }
                match self.world.must_end(worker, &claim) {
                    Some(MustEnd::Paused) => self.world.end(worker, &claim, RunState::Paused, "pause"),
                    _ => self.world.end(worker, &claim, RunState::Completed, "end"),
                }
            }
            self.world.die();
            self.world.sync(worker);
        }
        Err(("work ends", format!("{:?} is still due", self.world.due(worker))))
    }
}

/// What came up in a world, for histories in which little happens to be noticed.
pub fn acts(world: &World) -> BTreeMap<String, usize> {
    let mut acts = invariants::kinds(world);
    for entry in &world.ledger.entries {
        let name = match &entry.act {
            Act::Said { hides, .. } if !hides.is_empty() => "Edited".to_owned(),
            act => format!("{act:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
        };
        *acts.entry(name).or_default() += 1;
    }
    acts
}
