//! What a continued answer repeats of the text it goes on from, dropped. Models that are asked to go on often say the
//! last words again, or begin anew.
//!
//! Text is held back only while it may still turn out to be a repetition, so that an answer that goes on at once is
//! shown at once.

/// How much of the existing text is looked at, from its end, in bytes.
const WINDOW: usize = 2000;
/// Fewer repeated bytes than this may be chance ("hel" + "lo"), unless they are all that was quoted.
const CHANCE: usize = 12;

/// See the module.
#[derive(Debug)]
pub struct Overlap {
    /// Whether the model saw its words quoted, rather than going on from them itself.
    quoted: bool,
    existing: String,
    held: String,
    over: bool,
}

impl Overlap {
    /// Of an answer that a model goes on with itself, from `existing` (a prefill).
    pub fn prefilled(existing: &str) -> Self {
        Self::new(existing, false)
    }

    /// Of an answer that goes on from `existing`, whose last words were quoted.
    pub fn quoted(existing: &str) -> Self {
        Self::new(existing, true)
    }

    fn new(existing: &str, quoted: bool) -> Self {
        let start = existing.len().saturating_sub(WINDOW);
        let start = (start..=existing.len()).find(|at| existing.is_char_boundary(*at)).unwrap_or(existing.len());
        Self { quoted, existing: existing[start..].to_owned(), held: String::new(), over: existing.is_empty() }
    }

    /// Takes new text; gives what is really new, as far as that is known.
    pub fn push(&mut self, text: &str) -> String {
        if self.over {
            return text.to_owned();
        }
        self.held.push_str(text);
        let undecided = self
            .starts()
            .any(|at| self.existing.len() - at > self.held.len() && self.existing[at..].starts_with(&self.held));
        if undecided { String::new() } else { self.end() }
    }

    /// The answer is over (or the part is): what was held back and is no repetition.
    pub fn end(&mut self) -> String {
        if std::mem::replace(&mut self.over, true) {
            return String::new();
        }
        let held = std::mem::take(&mut self.held);
        let repeated = self
            .starts()
            .map(|at| self.existing.len() - at)
            .find(|bytes| held.starts_with(&self.existing[self.existing.len() - bytes..]));
        match repeated {
            Some(bytes) if bytes >= CHANCE || bytes == self.existing.len() => held[bytes..].to_owned(),
            // The white space that the text ends with was not seen by the model, or is said again: it is meant once. What
            // follows it is the answer's own, such as an indentation.
            _ if self.existing.ends_with(char::is_whitespace) => {
                let seam = &self.existing[self.existing.trim_end().len()..];
                let again = std::iter::zip(seam.chars(), held.chars()).take_while(|(old, new)| old == new);
                let bytes: usize = again.map(|(_, new)| new.len_utf8()).sum();
                let rest = &held[bytes..];
                // A space that only parts two words is not doubled.
                if seam == " " || seam.trim_end_matches(' ').is_empty() { rest.trim_start_matches(' ') } else { rest }
                    .to_owned()
            }
            _ if self.quoted && seam_is_missing(&self.existing, &held) => format!(" {held}"),
            _ => held,
        }
    }

    fn starts(&self) -> impl Iterator<Item = usize> + '_ {
        self.existing.char_indices().map(|(at, _)| at)
    }
}

/// A new sentence that would stick to the end of the old one. Where it may be the rest of a word, nothing is added.
fn seam_is_missing(existing: &str, new: &str) -> bool {
    let (Some(before), Some(after)) = (existing.chars().next_back(), new.chars().next()) else { return false };
    let ends_sentence = matches!(before, '.' | '!' | '?' | ':' | ';' | ',');
    (before.is_alphanumeric() && after.is_uppercase()) || (ends_sentence && after.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(existing: &str, pieces: &[&str]) -> String {
        let mut overlap = Overlap::quoted(existing);
        let mut text = existing.to_owned();
        for piece in pieces {
            text.push_str(&overlap.push(piece));
        }
        text + &overlap.end()
    }

    #[test]
    fn repeated_words_are_dropped_however_they_come() {
        let existing = "The quick brown fox jumps over";
        for pieces in [
            vec!["brown fox jumps over the lazy dog."],
            vec!["brown", " fox", " jumps over", " the lazy dog."],
            vec!["The quick brown fox jumps over the lazy dog."],
            vec![" the lazy dog."],
        ] {
            assert_eq!(joined(existing, &pieces), "The quick brown fox jumps over the lazy dog.", "{pieces:?}");
        }
    }

    #[test]
    fn what_goes_on_at_once_is_not_held_back_and_chance_is_no_repetition() {
        let mut overlap = Overlap::prefilled("hel");
        assert_eq!(overlap.push("lo there"), "lo there");
        assert_eq!(joined("Well, hel", &["lo"]), "Well, hello");
        assert_eq!(joined("", &["a", "b"]), "ab");
    }

    #[test]
    fn a_new_sentence_does_not_stick_to_the_old_one_unless_the_model_goes_on_itself() {
        assert_eq!(joined("rivers and forests", &["In a land"]), "rivers and forests In a land");
        assert_eq!(joined("It ended.", &["Then it began."]), "It ended. Then it began.");
        assert_eq!(Overlap::prefilled("Java").push("Script"), "Script");
    }

    #[test]
    fn white_space_at_the_seam_comes_once() {
        assert_eq!(joined("one ", &[" two"]), "one two");
        assert_eq!(joined("eins – ", &["zwei"]), "eins – zwei");
    }
}
