//! What has really happened, kept outside the documents: every act in the order of the test, and who knows of it.
//! Documents are checked against it.
//!
//! Invariant: nothing is read back from a document. Replicas that sync know of the same acts, so what a replica must
//! show follows from the acts that it knows, at any time.

use std::collections::{BTreeMap, BTreeSet};

use skein_engine::ids::Epoch;
use skein_engine::session::model::RunState;
use skein_engine::session::work::WorkKind;

use super::Who;

/// A set of acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(Vec<u64>);

impl Known {
    pub fn holds(&self, act: usize) -> bool {
        self.0.get(act / 64).is_some_and(|word| word >> (act % 64) & 1 == 1)
    }

    pub fn add(&mut self, act: usize) {
        let word = act / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (act % 64);
    }

    /// What this one holds and the other doesn't.
    pub fn beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        self.0.iter().enumerate().flat_map(move |(word, &bits)| {
            let new = bits & !other.0.get(word).copied().unwrap_or_default();
            (0..64).filter(move |bit| new >> bit & 1 == 1).map(move |bit| word * 64 + bit)
        })
    }

    pub fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }
}

/// An act. Messages and words are known by their texts, which are all different.
#[derive(Clone, Debug)]
pub enum Act {
    Said {
        text: String,
        hides: Vec<String>,
        over: Over,
    },
    Removed {
        text: String,
    },
    Paused {
        request: String,
        run: String,
    },
    Continued {
        request: String,
    },
    Steered {
        run: String,
    },
    Retried,
    Approved {
        call: String,
    },
    Denied {
        call: String,
    },
    Renamed {
        name: String,
    },
    AskedForName,
    Titled {
        title: String,
        epoch: Epoch,
    },
    Archived {
        yes: bool,
    },
    Deleted {
        yes: bool,
    },
    /// A field that people overwrite.
    Set {
        field: &'static str,
        value: Option<String>,
    },
    /// A run, in place of `of` if it goes on with one; the words that stood before its own.
    Began {
        run: Began,
    },
    Word {
        run: String,
        word: String,
    },
    Spent {
        run: String,
        tokens: u64,
        micros: Option<u64>,
    },
    Asked {
        run: String,
        call: String,
    },
    /// A call was let run, or a person's no was carried out.
    Ran {
        call: String,
    },
    Refused {
        call: String,
    },
    Ended {
        run: String,
        state: RunState,
        reason: String,
    },
}

/// Over which stops a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Those that its author knew.
    Known,
    /// None: it waits behind them.
    None,
    /// All: its author's client doesn't know of stops.
    All,
}

/// A run as its worker began it.
#[derive(Clone, Debug)]
pub struct Began {
    pub key: String,
    pub turn: String,
    pub epoch: Epoch,
    pub kind: WorkKind,
    pub asked_for: bool,
    /// Texts of what it answers.
    pub answers: Vec<String>,
    /// Words of the text that it continues.
    pub carried: Vec<String>,
    /// Calls in that text.
    pub calls: Vec<String>,
    /// The act that first gave its place in the conversation.
    pub place: usize,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub act: Act,
    pub by: Who,
    /// What its author knew.
    pub past: Known,
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub entries: Vec<Entry>,
    /// Of each replica.
    pub known: Vec<Known>,
}

impl Ledger {
    pub fn record(&mut self, by: Who, act: Act) -> usize {
        let index = self.entries.len();
        let past = self.known[by].clone();
        self.known[by].add(index);
        self.entries.push(Entry { act, by, past });
        index
    }

    /// Takes the last acts back, as if they had not been: those of someone whose word doesn't count.
    pub fn forget(&mut self, who: Who, known: Known) {
        self.known[who] = known;
    }

    /// The acts that a replica knows, in order.
    pub fn seen_by(&self, who: Who) -> impl Iterator<Item = (usize, &Entry)> {
        let known = &self.known[who];
        self.entries.iter().enumerate().filter(move |(index, _)| known.holds(*index))
    }

    pub fn run(&self, key: &str) -> Option<&Began> {
        self.runs().find(|run| run.key == key)
    }

    pub fn runs(&self) -> impl Iterator<Item = &Began> {
        self.entries.iter().filter_map(|entry| match &entry.act {
            Act::Began { run } => Some(run),
            _ => None,
        })
    }

    /// How a run ended, as far as a replica knows.
    pub fn end(&self, who: Who, key: &str) -> Option<(RunState, &str)> {
        self.seen_by(who).find_map(|(_, entry)| match &entry.act {
            Act::Ended { run, state, reason } if run == key => Some((*state, reason.as_str())),
            _ => None,
        })
    }

    /// Texts that people have hidden, as far as a replica knows.
    pub fn hidden(&self, who: Who) -> BTreeSet<&str> {
        let mut hidden = BTreeSet::new();
        for (_, entry) in self.seen_by(who) {
            match &entry.act {
                Act::Said { hides, .. } => hidden.extend(hides.iter().map(String::as_str)),
                Act::Removed { text } => {
                    hidden.insert(text.as_str());
                }
                _ => {}
            }
        }
        hidden
    }

    /// The runs that a replica must show, in their places.
    pub fn shown(&self, who: Who) -> Vec<&Began> {
        let hidden = self.hidden(who);
        let mut runs: Vec<&Began> = self
            .seen_by(who)
            .filter_map(|(_, entry)| match &entry.act {
                Act::Began { run } => Some(run),
                _ => None,
            })
            .collect();
        runs.sort_by_key(|run| run.epoch);
        let current: BTreeMap<&str, Epoch> =
            runs.iter().flat_map(|run| run.answers.iter().map(|text| (text.as_str(), run.epoch))).collect();
        let visible = |text: &String| !hidden.contains(text.as_str());
        runs.retain(|run| {
            run.answers.last().is_some_and(visible)
                && run.answers.iter().filter(|text| visible(text)).all(|text| current[text.as_str()] == run.epoch)
        });
        runs.sort_by_key(|run| run.place);
        runs
    }

    /// The shown run that began last.
    pub fn front(&self, who: Who) -> Option<&Began> {
        self.shown(who).into_iter().max_by_key(|run| run.epoch)
    }

    /// What stops a run, as acts that whoever goes on over it must have known (rule 4).
    pub fn stops(&self, who: Who, key: &str) -> Vec<usize> {
        let mut stops = self.pauses(who, key);
        let all: Vec<(usize, &Entry)> = self.seen_by(who).collect();
        for call in self.calls(who, key) {
            let asked = all.iter().rfind(|(_, entry)| matches!(&entry.act, Act::Asked { call: c, .. } if *c == call));
            let Some((asked, _)) = asked else { continue };
            let settled = all.iter().any(|(_, entry)| match &entry.act {
                Act::Approved { call: c } => *c == call && entry.past.holds(*asked),
                Act::Denied { call: c } | Act::Refused { call: c } => *c == call,
                _ => false,
            });
            if !settled {
                stops.push(*asked);
            }
        }
        stops.extend(all.iter().filter_map(|(index, entry)| match &entry.act {
            Act::Ended { run, state, reason } if run == key => {
                (*state == RunState::Failed || (*state == RunState::Paused && reason == "limit")).then_some(*index)
            }
            _ => None,
        }));
        stops
    }

    /// The words of a run, with those that it continues.
    pub fn words(&self, who: Who, key: &str) -> Vec<String> {
        let mut words = self.run(key).map(|run| run.carried.clone()).unwrap_or_default();
        words.extend(self.seen_by(who).filter_map(|(_, entry)| match &entry.act {
            Act::Word { run, word } if run == key => Some(word.clone()),
            _ => None,
        }));
        words
    }

    /// The calls of a run, with those that it continues.
    pub fn calls(&self, who: Who, key: &str) -> Vec<String> {
        let mut calls = self.run(key).map(|run| run.calls.clone()).unwrap_or_default();
        calls.extend(self.seen_by(who).filter_map(|(_, entry)| match &entry.act {
            Act::Asked { run, call } if run == key => Some(call.clone()),
            _ => None,
        }));
        calls
    }

    /// The run and those of its turn before it, back to the first that a person asked for (rule 9).
    pub fn lineage(&self, who: Who, key: &str) -> Vec<&Began> {
        let Some(this) = self.run(key) else { return Vec::new() };
        let mut runs: Vec<&Began> = self
            .seen_by(who)
            .filter_map(|(_, entry)| match &entry.act {
                Act::Began { run } if run.turn == this.turn && run.epoch <= this.epoch => Some(run),
                _ => None,
            })
            .collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.epoch));
        let first = runs.iter().position(|run| run.asked_for).unwrap_or(runs.len());
        runs.truncate(first + 1);
        runs
    }

    /// The pauses of a run that a replica knows, as acts.
    pub fn pauses(&self, who: Who, key: &str) -> Vec<usize> {
        let lineage = self.lineage(who, key);
        let pauses = self.seen_by(who).filter(|(_, entry)| match &entry.act {
            Act::Paused { run, .. } => lineage.iter().any(|began| began.key == *run),
            _ => false,
        });
        pauses.map(|(index, _)| index).collect()
    }

    /// What each run has spent, as far as a replica knows: tokens and money.
    pub fn spent(&self, who: Who) -> BTreeMap<&str, (u64, Option<u64>)> {
        let mut spent = BTreeMap::new();
        for (_, entry) in self.seen_by(who) {
            if let Act::Spent { run, tokens, micros } = &entry.act {
                spent.insert(run.as_str(), (*tokens, *micros));
            }
        }
        spent
    }

    /// Acts that no later one, by an author who knew of it, has undone: the state of a register that people overwrite.
    pub fn standing(&self, who: Who, sets: impl Fn(&Act) -> bool, undoes: impl Fn(&Act) -> bool) -> Vec<&Act> {
        let all: Vec<(usize, &Entry)> = self.seen_by(who).collect();
        let undone = |index: usize| all.iter().any(|(_, later)| later.past.holds(index) && undoes(&later.act));
        let stand = all.iter().filter(|(index, entry)| sets(&entry.act) && !undone(*index));
        stand.map(|(_, entry)| &entry.act).collect()
    }
}

impl std::fmt::Display for Ledger {
    /// One act a line: what, by whom, and who knows it by now.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, entry) in self.entries.iter().enumerate() {
            let known: Vec<Who> = (0..self.known.len()).filter(|&who| self.known[who].holds(index)).collect();
            writeln!(f, "{index:>4} by {} known to {known:?}: {:?}", entry.by, entry.act)?;
        }
        Ok(())
    }
}
