//! A web page as text that a model can read: headings, lists and links kept, scripts and styles left out. One pass over
//! tokens, so that no page, however deep or broken, takes more than its length.

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{Token, Tokenizer};
use reqwest::Url;

/// What has no text for a reader.
const LEFT_OUT: [&[u8]; 7] = [b"script", b"style", b"template", b"noscript", b"svg", b"iframe", b"math"];
/// What begins a new paragraph.
const BLOCKS: [&[u8]; 24] = [
    b"p",
    b"div",
    b"section",
    b"article",
    b"header",
    b"footer",
    b"main",
    b"nav",
    b"aside",
    b"ul",
    b"ol",
    b"dl",
    b"table",
    b"blockquote",
    b"pre",
    b"figure",
    b"form",
    b"fieldset",
    b"hr",
    b"title",
    b"body",
    b"details",
    b"summary",
    b"address",
];

/// The text of a page that was found at `base`.
pub fn text(html: &str, base: &Url) -> String {
    let mut emitter = DefaultEmitter::default();
    // Scripts and styles are read to their end.
    emitter.naively_switch_states(true);
    let mut page = Page::default();
    for token in Tokenizer::new_with_emitter(html, emitter) {
        match token {
            Ok(Token::StartTag(tag)) => {
                let attribute = |name: &[u8]| {
                    tag.attributes.get(name).map(|value| String::from_utf8_lossy(value).trim().to_owned())
                };
                page.begin(&tag.name, tag.self_closing, attribute, base);
            }
            Ok(Token::EndTag(tag)) => page.end(&tag.name),
            Ok(Token::String(text)) if page.left_out.is_none() => page.say(&String::from_utf8_lossy(&text)),
            Ok(_) => {}
            Err(never) => match never {},
        }
    }
    page.text.truncate(page.text.trim_end().len());
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
    /// The element whose content is left out, and how often it stands in itself.
    left_out: Option<(Vec<u8>, usize)>,
    /// How many `<pre>` are open.
    pre: usize,
    /// Where the open link leads.
    link: Option<String>,
    /// Line breaks that come before the next text.
    breaks: usize,
    /// Whether a space comes before the next text.
    space: bool,
}

impl Page {
    fn begin(&mut self, name: &[u8], closed: bool, attribute: impl Fn(&[u8]) -> Option<String>, base: &Url) {
        if let Some((left_out, depth)) = &mut self.left_out {
            *depth += usize::from(left_out == name && !closed);
            return;
        }
        match name {
            name if LEFT_OUT.contains(&name) => self.left_out = (!closed).then(|| (name.to_vec(), 1)),
            b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => {
                self.break_line(2);
                self.say(&"#".repeat(usize::from(name[1] - b'0')));
                self.space = true;
            }
            b"br" => self.breaks = (self.breaks + 1).min(2),
            b"tr" | b"dt" | b"dd" => self.break_line(1),
            b"li" => {
                self.break_line(1);
                self.say("-");
                self.space = true;
            }
            b"td" | b"th" if !self.text.is_empty() && self.breaks == 0 => self.say(" | "),
            b"a" => {
                let target = attribute(b"href").and_then(|href| base.join(&href).ok());
                let target = target.filter(|url| matches!(url.scheme(), "http" | "https"));
                // A link that was never closed leads nowhere.
                self.link = target.filter(|url| url.fragment().is_none()).map(Url::into);
                if self.link.is_some() {
                    self.say("[");
                }
            }
            b"img" => {
                if let Some(words) = attribute(b"alt").filter(|words| !words.is_empty()) {
                    self.say(&format!("[picture: {words}]"));
                }
            }
            b"pre" => {
                self.break_line(2);
                self.pre += 1;
            }
            name if BLOCKS.contains(&name) => self.break_line(2),
            _ => {}
        }
    }

    fn end(&mut self, name: &[u8]) {
        if let Some((left_out, depth)) = &mut self.left_out {
            *depth -= usize::from(left_out == name);
            if *depth == 0 {
                self.left_out = None;
            }
            return;
        }
        match name {
            b"a" => {
                if let Some(target) = self.link.take() {
                    self.space = false;
                    self.say(&format!("]({target})"));
                }
            }
            b"pre" => {
                self.pre = self.pre.saturating_sub(1);
                self.break_line(2);
            }
            b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => self.break_line(2),
            name if BLOCKS.contains(&name) => self.break_line(2),
            _ => {}
        }
    }

    fn break_line(&mut self, lines: usize) {
        self.breaks = self.breaks.max(lines);
    }

    fn say(&mut self, text: &str) {
        if self.pre > 0 {
            self.settle();
            self.text.push_str(text);
            return;
        }
        if text.starts_with(char::is_whitespace) {
            self.space = true;
        }
        for word in text.split_whitespace() {
            self.settle();
            self.text.push_str(word);
            self.space = true;
        }
        if !text.is_empty() {
            self.space = text.ends_with(char::is_whitespace);
        }
    }

    /// Writes what was to come before the next text.
    fn settle(&mut self) {
        if self.text.is_empty() {
        } else if self.breaks > 0 {
            self.text.push_str(&"\n".repeat(self.breaks));
        } else if self.space {
            self.text.push(' ');
        }
        (self.breaks, self.space) = (0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(html: &str) -> String {
        text(html, &Url::parse("https://example.org/a/b").unwrap())
    }

    #[test]
    fn a_page_reads_as_a_person_would() {
        let page = "<!doctype html><html><head><title>The &amp; title</title><style>p{color:red}</style>\
            <script>if (a < b) document.write('<p>no</p>')</script></head><body><h1>Head<br></h1><p>One\n two&nbsp;<b>three\
            </b>.</p><ul><li>first</li><li><a href=\"../c?x=1\">second</a></ul><pre>a\n  b</pre>\
            <table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table><img alt='A cat'><svg><text>no</text></svg>\
            <a href=\"javascript:alert(1)\">plain</a> end";
        let text = "The & title\n\n# Head\n\nOne two three.\n\n- first\n- [second](https://example.org/c?x=1)\n\n\
            a\n  b\n\n1 | 2\n3\n\n[picture: A cat]plain end";
        assert_eq!(read(page), text);
    }

    #[test]
    fn deep_broken_and_unfinished_pages_are_read_as_far_as_they_go() {
        let deep = format!("{}words{}", "<div><b>".repeat(300_000), "</div>".repeat(10));
        assert_eq!(read(&deep), "words");
        assert_eq!(read("a<script>never closed"), "a");
        assert_eq!(read("a <a href='/x'>b <p"), "a [b");
        assert_eq!(read("</p></a></script>x &unknown; &#x1F600; &lt;b&gt;"), "x &unknown; 😀 <b>");
        assert_eq!(read(&format!("{}x", "<svg>".repeat(3))), "");
        assert_eq!(read(""), "");
    }
}
