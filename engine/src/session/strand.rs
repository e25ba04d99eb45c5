//! The shape of a session in at most 24 letters, newest last: `k` a person's message, `b` a tool call, `t` a turn
//! without one, `x` a failure, `d` what waits for a person, `a` a change of agent.

use super::conversation::{Content, Conversation, Reason, ShownTurn, TurnState};
use super::model::Role;

/// What a card has room for.
const LENGTH: usize = 24;

/// The strand of a session.
pub(crate) fn strand(conversation: &Conversation) -> String {
    squeeze(&letters(conversation))
}

fn letters(conversation: &Conversation) -> Vec<u8> {
    let mut messages = conversation.messages.iter().peekable();
    let mut letters = Vec::new();
    let mut agent: Option<&String> = None;
    for turn in &conversation.turns {
        // Messages stand in the order of their turns.
        let (mut asked, mut calls) = (0, Vec::new());
        while let Some(message) = messages.next_if(|message| message.turn.as_ref() == Some(&turn.id)) {
            match message.role {
                Role::User => asked += 1,
                Role::Assistant => calls.extend(message.parts.iter().filter_map(|part| match &part.content {
                    Content::ToolCall { id, .. } => Some(conversation.stops.contains(id)),
                    _ => None,
                })),
            }
        }
        letters.extend(std::iter::repeat_n(b'k', asked));
        if agent.is_some() && turn.agent.is_some() && agent != turn.agent.as_ref() {
            letters.push(b'a');
        }
        agent = turn.agent.as_ref().or(agent);
        if calls.is_empty() {
            letters.push(b't');
        }
        letters.extend(calls.into_iter().map(|waits| if waits { b'd' } else { b'b' }));
        if turn.state == TurnState::Failed {
            letters.push(b'x');
        }
        if is_front(conversation, turn) && matches!(conversation.reason, Some(Reason::Limit { .. })) {
            letters.push(b'd');
        }
    }
    letters.extend(std::iter::repeat_n(b'k', conversation.queued.len()));
    letters
}

fn is_front(conversation: &Conversation, turn: &ShownTurn) -> bool {
    conversation.front.as_ref() == Some(&turn.run)
}

/// Drops `b` and `t` evenly; of the others the oldest, and only when they alone don't fit.
fn squeeze(letters: &[u8]) -> String {
    let is_bead = |letter: u8| matches!(letter, b'b' | b't');
    let beads = letters.iter().filter(|&&letter| is_bead(letter)).count();
    let others = letters.len() - beads;
    let room = LENGTH.saturating_sub(others).min(beads);
    let mut drop_others = others.saturating_sub(LENGTH);
    let mut bead = 0;
    let mut kept = String::new();
    for &letter in letters {
        let keep = if is_bead(letter) {
            bead += 1;
            // Bresenham's even spacing: `room` of `beads` are kept, the newest among them.
            bead * room / beads > (bead - 1) * room / beads
        } else if drop_others > 0 {
            drop_others -= 1;
            false
        } else {
            true
        };
        if keep {
            kept.push(char::from(letter));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::squeeze;

    #[test]
    fn a_short_strand_stays_as_it_is() {
        assert_eq!(squeeze(b"ktkbbxkd"), "ktkbbxkd");
        assert_eq!(squeeze(b""), "");
    }

    #[test]
    fn a_long_strand_drops_beads_evenly_and_no_knot() {
        let long = [b"kbbbbbbbbb".as_slice(); 6].concat();
        let squeezed = squeeze(&long);
        assert_eq!(squeezed.len(), 24);
        assert_eq!(squeezed, "kbbb".repeat(6));
    }

    #[test]
    fn knots_that_dont_fit_leave_the_newest() {
        let long = [b"kt".as_slice(); 40].concat();
        assert_eq!(squeeze(&long), "k".repeat(24));
        let long = [b"k".repeat(30), b"x".to_vec()].concat();
        assert_eq!(squeeze(&long), format!("{}x", "k".repeat(23)));
    }
}
