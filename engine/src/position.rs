//! Positions: where a session stands in a list (rule 17). Ten decimal digits and a fraction over `0-9A-Za-z`, compared
//! as bytes; a fraction never ends with `0`, so that there is always room before it. What isn't of that shape counts as
//! missing, and what is missing sorts last.
//!
//! Whole numbers are minted only for new and restored sessions ([`position_after`]); a drag makes a fraction
//! ([`between`]). Dragging into one gap over and over would let fractions grow without end: [`spread`] gives a stretch of
//! the list new, short ones. It is a pure function of the list, so two devices that do it to the same list write the
//! same, and whatever merges is still one order.

use crate::session::rules::{Rule, off};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Decimal digits of the whole number.
const WHOLE: usize = 10;
/// A fraction that grows longer than this is reason to spread.
pub const MAX_FRACTION: usize = 12;

/// The position after all of these: ten digits, no fraction.
pub fn position_after<'a>(positions: impl Iterator<Item = &'a str>) -> String {
    let highest = positions.filter_map(parse).map(|(whole, _)| whole).max().unwrap_or(0);
    let next = if off(Rule::RestoreLast) { highest } else { highest + 1 };
    written(next.min(9_999_999_999), &[])
}

/// Whether it is of the right shape.
pub fn is_valid(position: &str) -> bool {
    parse(position).is_some()
}

/// A position between two neighbours; `None` for a neighbour means the end of the list. After the last of all it is a
/// fraction above it, never a new whole number. `None` if there is no room: the two are equal, or in the wrong order.
pub fn between(before: Option<&str>, after: Option<&str>) -> Option<String> {
    let low = before.and_then(parse);
    let high = after.and_then(parse);
    let (whole, fraction) = match (low, high) {
        (None, None) => (0, middle(&[], None)?),
        (Some((whole, fraction)), None) => (whole, middle(fraction, None)?),
        (None, Some((whole, []))) => (whole.checked_sub(1)?, middle(&[], None)?),
        (None, Some((whole, fraction))) => (whole, middle(&[], Some(fraction))?),
        (Some((low, from)), Some((high, to))) if low == high => (low, middle(from, Some(to))?),
        (Some((low, from)), Some((high, _))) if low < high => (low, middle(from, None)?),
        _ => return None,
    };
    Some(written(whole, &fraction))
}

/// `count` positions in order between two neighbours, short and evenly apart; `None` if there is no room.
pub fn spread(before: Option<&str>, after: Option<&str>, count: usize) -> Option<Vec<String>> {
    let mut positions = vec![String::new(); count];
    fill(before, after, &mut positions)?;
    Some(positions)
}

/// The middle one first, then each half: the keys grow with the logarithm of the count.
fn fill(before: Option<&str>, after: Option<&str>, positions: &mut [String]) -> Option<()> {
    if positions.is_empty() {
        return Some(());
    }
    let (left, rest) = positions.split_at_mut(positions.len() / 2);
    let (own, right) = rest.split_first_mut()?;
    *own = between(before, after)?;
    fill(before, Some(own), left)?;
    fill(Some(own), after, right)
}

/// Characters of the fraction.
pub fn fraction_length(position: &str) -> usize {
    position.len().saturating_sub(WHOLE)
}

/// Whole number and fraction.
fn parse(position: &str) -> Option<(u64, &[u8])> {
    let (whole, fraction) = position.as_bytes().split_at_checked(WHOLE)?;
    let number =
        whole.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))?;
    let good = fraction.iter().all(u8::is_ascii_alphanumeric) && fraction.last() != Some(&b'0');
    good.then_some((number, fraction))
}

fn written(whole: u64, fraction: &[u8]) -> String {
    let mut text = format!("{whole:0WHOLE$}");
    text.extend(fraction.iter().map(|byte| char::from(*byte)));
    text
}

fn digit(byte: Option<&u8>) -> usize {
    byte.and_then(|byte| DIGITS.iter().position(|known| known == byte)).unwrap_or(0)
}

/// A fraction strictly between two; no upper one stands for 1. `None` if they are not in order.
fn middle(low: &[u8], high: Option<&[u8]>) -> Option<Vec<u8>> {
    if high.is_some_and(|high| low >= high) {
        return None;
    }
    let mut fraction = Vec::new();
    let mut high = high;
    for place in 0.. {
        let from = digit(low.get(place));
        let to = high.map_or(DIGITS.len(), |high| digit(high.get(place)));
        if to > from + 1 {
            fraction.push(DIGITS[usize::midpoint(from, to)]);
            break;
        }
        fraction.push(DIGITS[from]);
        if to > from {
            // Below the upper one from here on, whatever follows.
            high = None;
        }
    }
    Some(fraction)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_whole_number_is_minted_after_the_highest() {
        assert_eq!(position_after(std::iter::empty()), "0000000001");
        let known = ["0000000004", "0000000009V", "next", "99", "00000000990"];
        assert_eq!(position_after(known.into_iter()), "0000000010");
        assert_eq!(position_after(["9999999999"].into_iter()), "9999999999");
    }

    #[test]
    fn a_drag_makes_a_fraction() {
        assert_eq!(between(Some("0000000001"), Some("0000000002")).unwrap(), "0000000001V");
        assert_eq!(between(Some("0000000007"), None).unwrap(), "0000000007V");
        assert_eq!(between(None, Some("0000000001")).unwrap(), "0000000000V");
        assert_eq!(between(Some("0000000001"), Some("00000000011")).unwrap(), "00000000010V");
        assert_eq!(between(Some("0000000003"), Some("0000000003")), None);
        assert_eq!(between(Some("0000000004"), Some("0000000003")), None);
        assert_eq!(between(None, Some("0000000000")), None);
    }

    fn position() -> impl Strategy<Value = String> {
        (0_u64..4, "[0-9A-Za-z]{0,4}")
            .prop_map(|(whole, fraction)| format!("{whole:010}{}", fraction.trim_end_matches('0')))
    }

    proptest! {
        #[test]
        fn what_is_between_is_between(a in position(), b in position()) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            match between(Some(&low), Some(&high)) {
                Some(found) => {
                    prop_assert!(is_valid(&found), "{found}");
                    prop_assert!(low < found && found < high, "{low} {found} {high}");
                }
                None => prop_assert_eq!(low, high),
            }
        }

        #[test]
        fn a_spread_is_short_and_in_order(a in position(), b in position(), count in 0_usize..200) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            if let Some(found) = spread(Some(&low), Some(&high), count) {
                let all: Vec<&str> = [low.as_str()].into_iter().chain(found.iter().map(String::as_str)).chain([high.as_str()]).collect();
                prop_assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
                prop_assert!(found.iter().all(|position| fraction_length(position) <= 8), "{found:?}");
            }
        }
    }
}
