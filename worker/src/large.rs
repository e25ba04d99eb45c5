//! What is too large for a document: kept whole in a blob on the relay, with its head and its tail inline, so that a
//! session with large results still opens at once. Text in; what stands in the document out, and the blob to store
//! before the change that names it.

/// Bytes above which a piece goes to a blob (design: 32 KB).
pub const INLINE: usize = 32 << 10;
/// Bytes of the head, and of the tail, that stay inline.
const KEPT: usize = 4 << 10;

/// A piece that is kept in a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Large {
    /// Head, what is left out in words, tail.
    pub inline: String,
    /// The whole.
    pub bytes: Vec<u8>,
}

/// Head and tail of a text above [`INLINE`] bytes; `None`: it is small enough to stand as it is.
pub fn large(text: &str) -> Option<Large> {
    if text.len() <= INLINE {
        return None;
    }
    let (head, tail) = (text.floor_char_boundary(KEPT), text.ceil_char_boundary(text.len() - KEPT));
    let inline = format!("{}\n[… {} bytes left out here …]\n{}", &text[..head], tail - head, &text[tail..]);
    Some(Large { inline, bytes: text.as_bytes().to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stands_as_it_is() {
        assert_eq!(large(&"a".repeat(INLINE)), None);
    }

    #[test]
    fn a_large_text_keeps_its_ends_and_is_cut_between_characters() {
        let text = format!("begin{}end", "é".repeat(INLINE));
        let kept = large(&text).unwrap();
        assert!(kept.inline.starts_with("beginé") && kept.inline.ends_with("éend"));
        assert!(kept.inline.len() < 3 * KEPT && kept.inline.contains("bytes left out"));
        assert_eq!(kept.bytes, text.as_bytes());
    }
}
