//! Full text in any script: what goes into the index, what a person's words ask of it, and where they stand in a text.
//!
//! FTS5's tokenizer finds no words in Chinese, Japanese and Korean, so their characters are indexed one by one and
//! searched as phrases; other words match by their beginnings, without accents and in any case. Nothing that a person types
//! is an operator.
//!
//! Beside its text a row has facets: its session, agent, status and so on, as one token each, so that a filter and words
//! are asked of one index together. They begin with a character of private use, which no word that is asked does.

use sha2::{Digest, Sha256};

/// Characters of a snippet around what was found.
const AROUND: usize = 60;

/// A text as it is indexed: characters of scripts without spaces stand by themselves.
pub fn indexed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_ideographic(letter) {
            out.push(' ');
            out.push(letter);
            out.push(' ');
        } else {
            // What SQLite's folding leaves, such as ł and ø.
            out.extend(plain(letter));
        }
    }
    out
}

/// What a row is, as a token of the index: 64 bits of SHA-256 tell values apart.
pub fn facet(kind: &str, value: &str) -> String {
    format!("\u{e000}{kind}{}", hex::encode(&Sha256::digest(value)[..8]))
}

/// What is asked of the index: all facets, and all words of a text.
pub fn matching(facets: &[String], words: Option<&str>) -> String {
    let facets = facets.iter().map(|facet| format!("\"{facet}\"")).collect::<Vec<_>>().join(" AND ");
    match (facets.is_empty(), words) {
        (true, words) => format!("text : ({})", words.unwrap_or_default()),
        (false, None) => format!("facets : ({facets})"),
        (false, Some(words)) => format!("facets : ({facets}) AND text : ({words})"),
    }
}

/// What is asked of texts: all words, each by its beginning, characters of scripts without spaces as phrases. `None`:
/// there is no word in it.
pub fn asked(text: &str) -> Option<String> {
    let mut terms = Vec::new();
    for word in words(text) {
        match word.chars().next().is_some_and(is_ideographic) {
            true => {
                let letters: Vec<String> = word.chars().map(String::from).collect();
                terms.push(format!("\"{}\"", letters.join(" ")));
            }
            false => terms.push(format!("\"{}\"*", folded_word(word))),
        }
    }
    (!terms.is_empty()).then(|| terms.join(" AND "))
}

/// The part of a text around the first of the words.
pub fn snippet(text: &str, asked: &str) -> String {
    let (folded, places) = folded(text);
    let found = words(asked).filter_map(|word| folded.find(&folded_word(word))).min();
    let at = found.map_or(0, |byte| places[byte]);
    let start = text[..at].char_indices().rev().nth(AROUND - 1).map_or(0, |(start, _)| start);
    let end = text[at..].char_indices().nth(2 * AROUND).map_or(text.len(), |(end, _)| at + end);
    let dots = |cut: bool| if cut { "…" } else { "" };
    let words = text[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}{words}{}", dots(start > 0), dots(end < text.len()))
}

/// Runs of letters and digits, and runs of ideographs.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|letter: char| !letter.is_alphanumeric());
        let first = rest.chars().next()?;
        let ideographic = is_ideographic(first);
        let end = rest.find(|letter: char| !letter.is_alphanumeric() || is_ideographic(letter) != ideographic);
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(word)
    })
}

/// A text without case and accents, and for each of its bytes where it stands in the text.
fn folded(text: &str) -> (String, Vec<usize>) {
    let (mut out, mut places) = (String::with_capacity(text.len()), Vec::with_capacity(text.len()));
    for (at, letter) in text.char_indices() {
        for plain in plain(letter) {
            out.push(plain);
            places.extend(std::iter::repeat_n(at, plain.len_utf8()));
        }
    }
    (out, places)
}

fn folded_word(word: &str) -> String {
    folded(word).0
}

/// A letter without case and accent, for the letters of European languages; the tokenizer folds those of others.
fn plain(letter: char) -> impl Iterator<Item = char> {
    let lower = letter.to_lowercase().next().unwrap_or(letter);
    let base = match lower {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'ď' | 'đ' => 'd',
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ė' | 'ę' | 'ě' => 'e',
        'ì' | 'í' | 'î' | 'ï' | 'ī' | 'į' => 'i',
        'ł' => 'l',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ř' => 'r',
        'ś' | 'š' | 'ş' => 's',
        'ť' | 'ţ' => 't',
        'ù' | 'ú' | 'û' | 'ü' | 'ū' | 'ů' | 'ű' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        other => other,
    };
    // A combining mark is none.
    (!('\u{300}'..='\u{36f}').contains(&base)).then_some(base).into_iter()
}

/// Whether a script writes without spaces between words: Han, kana, hangul, Thai and its neighbours.
fn is_ideographic(letter: char) -> bool {
    matches!(letter,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}' | '\u{1100}'..='\u{11ff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_typed_is_an_operator() {
        assert_eq!(
            asked("TODO: don't \"quote\" NEAR(a b) -x*").unwrap(),
            r#""todo"* AND "don"* AND "t"* AND "quote"* AND "near"* AND "a"* AND "b"* AND "x"*"#
        );
        assert_eq!(asked(" :*\"()- "), None);
        assert_eq!(asked("今日は weather東京").unwrap(), r#""今 日 は" AND "weather"* AND "東 京""#);
    }

    #[test]
    fn a_snippet_shows_what_was_found_where_it_stands() {
        let text = format!("{} the Café of Zoë {}", "before ".repeat(40), "after ".repeat(40));
        let found = snippet(&text, "cafe");
        assert!(found.contains("Café of Zoë") && found.starts_with('…') && found.ends_with('…'), "{found}");
        assert!(found.chars().count() <= 3 * AROUND + 2);
        assert_eq!(snippet("今日は東京へ", "東京"), "今日は東京へ");
        assert_eq!(snippet("short", "nothing"), "short");
    }
}
