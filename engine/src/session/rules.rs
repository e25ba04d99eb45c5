//! The rules of `docs/session-rules.md`, clause by clause, as switches: a test turns one off, in its own thread, to show
//! that it would notice.
//!
//! Invariant: without the feature `testing`, so in everything that ships, every rule holds: [`off`] is a constant, and
//! the compiler drops what hangs on it.

macro_rules! rules {
    ($($number:literal $rule:ident $words:literal,)*) => {
        /// A rule, or a clause of one, that can be turned off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = concat!("Rule ", $number, ": ", $words)] $rule,)*
        }

        impl Rule {
            /// All of them, in the order of the rules.
            pub const ALL: &[Self] = &[$(Self::$rule,)*];

            /// The name by which `SKEIN_RULE_OFF` knows it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$rule => stringify!($rule),)*
                }
            }

            /// Its number in `docs/session-rules.md`; 19 is "Who wrote it".
            pub fn number(self) -> u8 {
                match self {
                    $(Self::$rule => $number,)*
                }
            }

            /// What it says.
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$rule => $words,)*
                }
            }
        }
    };
}

rules! {
    1 Hidden "a message that another names in `hides` is hidden",
    1 HiddenForEver "what a hidden message hides stays hidden",
    2 CurrentRun "a message's current run is the one with the highest epoch",
    3 ShownRun "a run is shown only while it is current for each message it answers",
    3 LastAnswered "a run is shown only while the last message it answers is visible",
    3 FrontRun "the front run is the shown run with the highest epoch, wherever it stands",
    4 WithoutParts "a message without parts only hides",
    4 Held "a stopped run holds the queue",
    4 PauseStops "a pause that holds is a stop",
    4 CallStops "a call that waits for a person is a stop",
    4 DoubtStops "a call in doubt is another stop than the question before it",
    4 FailureStops "a failed run, or one that a limit stopped, is a stop itself",
    4 OverEvery "one message's `over` must name every stop",
    4 OverMissing "a message without `over` counts as naming all stops",
    4 OverSeen "a message carries the stops that its author saw",
    5 Place "runs are shown by place",
    5 Continues "the text of a run begins with that of the run it continues",
    5 Cut "of the run that it continues, only the text up to there",
    6 CopiesPlace "a successor or retry copies `place`",
    6 RetryVisible "a retry answers only the visible ones",
    6 WritesContinues "a successor continues at the end of the text that its worker sees",
    7 EpochNamed "an epoch is above the one that the claim names",
    7 EpochClock "an epoch is at least the relay's clock in seconds",
    8 BeginLive "the change that makes a run is stored only while its claim is live",
    8 BeginFresh "a worker derives its work again on the heads of the grant",
    8 Acknowledged "a lease is released only when the last change is acknowledged",
    9 Lineage "a pause of a run holds for the run that took it over",
    9 LineageEnds "what was asked before a request's run doesn't hold for it",
    10 ContinueOver "a continue is in force only if it names every stop",
    10 ContinueWaits "no continue is in force while a call waits",
    11 RetryOnce "a retry is in force only while its turn doesn't exist",
    11 RetryAttempt "a retry is in force only while the attempt before it is shown",
    12 Steer "a steered run ends at the next tool boundary",
    13 RetryFirst "a retry goes before the queue",
    13 LostFirst "a lost run goes before the queue",
    13 Close "a lost run under a pause is closed, not taken over",
    13 GiveUp "after three take-overs a turn ends as failed",
    13 EndsPaused "a worker ends its run when a pause holds",
    13 EndsOvertaken "a worker ends its run when a retry of it is in force or it is not shown",
    14 LastState "the state of a call is that of its last part",
    14 Digest "an approval of another digest asks again",
    14 DenyFirst "deny beats approve",
    14 AllDecided "a run goes on when every waiting call is decided",
    14 TurnCancels "open calls read as cancelled once a new turn has begun",
    14 InDoubt "a call marked running without a result is in doubt, and asks anew",
    15 LeaseLives "a run whose lease is dead doesn't stream",
    15 Archived "ARCHIVED stands over the other statuses",
    15 DeletedRests "a deleted session starts nothing and stops what runs",
    16 NamedOnce "a title is due once",
    16 NamingLast "a naming run gives way to other work",
    16 HighestTitle "of automatic titles the highest epoch counts",
    16 UserTitle "a person's title beats an automatic one",
    17 HighestPosition "of conflicting positions the highest counts",
    17 OrderOver "a member's own order counts only while the session's position is the one it was made over",
    17 RestoreLast "a restored session gets a position after all others",
    18 HiddenMoney "runs that aren't shown count",
    18 ConflictingMoney "all values of a conflicting key count",
    18 InheritedMoney "inherited runs don't count",
    19 ByWorker "what a worker must have written and hasn't takes no part",
    19 ByMember "a request or message without the right to write takes no part",
    19 Verified "what nobody vouches for is shown as unverified, never acted on",
    19 InheritedMaker "an inherited run counts only when it is the maker's of the document",
}

#[cfg(not(feature = "testing"))]
#[inline(always)]
pub(crate) const fn off(_: Rule) -> bool {
    false
}

#[cfg(feature = "testing")]
pub use switch::{off, turn_off};

#[cfg(feature = "testing")]
mod switch {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static OFF: Cell<Option<Rule>> = Cell::new(named());
    }

    fn named() -> Option<Rule> {
        let name = std::env::var("SKEIN_RULE_OFF").ok()?;
        let known = Rule::ALL.iter().find(|rule| rule.name() == name);
        Some(*known.unwrap_or_else(|| panic!("SKEIN_RULE_OFF={name:?} is no rule")))
    }

    /// Whether this rule is off in this thread: at first the one that `SKEIN_RULE_OFF` names.
    pub fn off(rule: Rule) -> bool {
        OFF.get() == Some(rule)
    }

    /// Turns a rule off in this thread, or all on again.
    pub fn turn_off(rule: Option<Rule>) {
        OFF.set(rule);
    }
}
