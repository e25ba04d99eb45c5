//! Server-sent events from bytes, leniently: any line ending, a byte order mark, comments, invalid UTF-8, a last event
//! without its blank line, and bare JSON where an event should be (some servers send errors, or whole answers, so).
//!
//! Every byte is looked at once, so a line of 8 MiB in small pieces takes linear time; memory is bounded by
//! [`LIMIT`].

/// The most that one event may hold, in bytes.
pub const LIMIT: usize = 32 << 20;
/// Unfinished JSON is tried this often before it is given up until the end.
const TRIES: u8 = 16;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its `event` field; empty if it has none.
    pub name: String,
    /// Its `data` lines, joined; or bare JSON.
    pub data: String,
}

/// An event exceeds [`LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {LIMIT} bytes")]
pub struct TooLarge;

/// Bytes in, frames out.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    after_cr: bool,
    begun: bool,
    name: String,
    data: Option<String>,
    bare: String,
    tries: u8,
    noise: String,
}

impl Decoder {
    /// Takes bytes, cut anywhere.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<Frame>) -> Result<(), TooLarge> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            self.line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            if self.line.len() + self.data.as_ref().map_or(0, String::len) + self.bare.len() > LIMIT {
                return Err(TooLarge);
            }
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line(out);
        }
        Ok(())
    }

    /// The bytes are over: what was left open is an event too.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        if !self.line.is_empty() {
            self.end_line(out);
        }
        self.dispatch(out);
        if !self.bare.is_empty() {
            let bare = std::mem::take(&mut self.bare);
            match is_json(&bare) {
                true => out.push(Frame { name: String::new(), data: bare }),
                false => self.keep_noise(&bare),
            }
        }
    }

    /// The beginning of what came that was no event, for an error message.
    pub fn noise(&self) -> Option<&str> {
        Some(self.noise.trim()).filter(|noise| !noise.is_empty())
    }

    fn end_line(&mut self, out: &mut Vec<Frame>) {
        let bytes = std::mem::take(&mut self.line);
        let bytes = match std::mem::replace(&mut self.begun, true) {
            false => bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes),
            true => &bytes,
        };
        let line = String::from_utf8_lossy(bytes);
        if line.is_empty() {
            return self.dispatch(out);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" | "id" | "retry" => {}
            "event" => self.name = value.to_owned(),
            "data" => {
                self.bare.clear();
                match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => self.data = Some(value.to_owned()),
                }
            }
            _ if !self.bare.is_empty() || line.starts_with(['{', '[']) => self.bare_line(&line, out),
            _ => self.keep_noise(&line),
        }
    }

    /// A line of JSON outside of any field.
    fn bare_line(&mut self, line: &str, out: &mut Vec<Frame>) {
        let first = self.bare.is_empty();
        if first {
            self.tries = 0;
        } else {
            self.bare.push('\n');
        }
        self.bare.push_str(line);
        if (first || line.starts_with(['}', ']'])) && self.tries < TRIES {
            self.tries += 1;
            if is_json(&self.bare) {
                out.push(Frame { name: std::mem::take(&mut self.name), data: std::mem::take(&mut self.bare) });
            }
        }
    }

    fn dispatch(&mut self, out: &mut Vec<Frame>) {
        let name = std::mem::take(&mut self.name);
        if let Some(data) = self.data.take() {
            out.push(Frame { name, data });
        }
    }

    fn keep_noise(&mut self, line: &str) {
        if self.noise.len() < 200 {
            self.noise.extend(line.chars().take(200));
            self.noise.push(' ');
        }
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Vec<Frame> {
        let mut out = Vec::new();
        let mut decoder = Decoder::default();
        decoder.feed(bytes, &mut out).unwrap();
        decoder.finish(&mut out);
        out
    }

    fn byte_by_byte(bytes: &[u8]) -> Vec<Frame> {
        let mut out = Vec::new();
        let mut decoder = Decoder::default();
        for byte in bytes {
            decoder.feed(&[*byte], &mut out).unwrap();
        }
        decoder.finish(&mut out);
        out
    }

    fn frame(name: &str, data: &str) -> Frame {
        Frame { name: name.into(), data: data.into() }
    }

    #[test]
    fn every_line_ending_a_byte_order_mark_and_comments_read_alike_however_they_are_cut() {
        let want = vec![frame("a", "1\n2"), frame("", "drei – 3")];
        for end in ["\n", "\r", "\r\n"] {
            let text = ["\u{feff}event: a", "data: 1", ": keep-alive", "data:2", "id: 7", "", "data: drei – 3", "", ""]
                .join(end);
            assert_eq!(whole(text.as_bytes()), want, "{end:?}");
            assert_eq!(byte_by_byte(text.as_bytes()), want, "{end:?}");
        }
    }

    #[test]
    fn a_last_event_without_its_blank_line_counts() {
        assert_eq!(whole(b"data: 1\n\ndata: 2"), [frame("", "1"), frame("", "2")]);
    }

    #[test]
    fn invalid_utf8_is_replaced_and_the_stream_goes_on() {
        assert_eq!(whole(b"data: a\xffb\n\ndata: c\n\n"), [frame("", "a\u{fffd}b"), frame("", "c")]);
    }

    #[test]
    fn bare_json_is_an_event_on_one_line_or_many() {
        let one = b"data: 1\n\n{\"error\":{\"message\":\"no\"}}\n\ndata: 2\n\n";
        assert_eq!(whole(one), [frame("", "1"), frame("", "{\"error\":{\"message\":\"no\"}}"), frame("", "2")]);
        let many = b"{\n  \"error\": {\n    \"message\": \"no\"\n  }\n}\n";
        assert_eq!(whole(many).len(), 1);
        assert_eq!(byte_by_byte(many), whole(many));
    }

    #[test]
    fn what_is_no_stream_is_kept_for_the_error_message() {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        decoder.feed(b"<html>\n<title>502 Bad Gateway</title>\n", &mut out).unwrap();
        decoder.finish(&mut out);
        assert!(out.is_empty());
        assert_eq!(decoder.noise(), Some("<html> <title>502 Bad Gateway</title>"));
    }

    #[test]
    fn a_line_of_8_mib_in_small_pieces_is_linear_and_a_larger_event_is_refused() {
        let piece = [b'x'; 64];
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        decoder.feed(b"data: ", &mut out).unwrap();
        let begun = std::time::Instant::now();
        for _ in 0..(8 << 20) / piece.len() {
            decoder.feed(&piece, &mut out).unwrap();
        }
        decoder.feed(b"\n\n", &mut out).unwrap();
        assert_eq!(out[0].data.len(), 8 << 20);
        // Looking at the line anew for each piece would take minutes.
        assert!(begun.elapsed().as_secs() < 20);
        let mut refused = false;
        for _ in 0..=LIMIT / (1 << 20) {
            refused |= decoder.feed(&vec![b'x'; 1 << 20], &mut out).is_err();
        }
        assert!(refused);
    }
}
