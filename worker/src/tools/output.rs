//! What a call under way has given so far: its output, kept if it is stopped, and how far it has come, in words.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// The most bytes of output that are kept; the middle of what is more is left out.
pub const MOST: usize = 1 << 20;

/// See the module. Shared between the tool that fills it and the turn that shows it.
#[derive(Debug, Default)]
pub struct Output {
    said: Mutex<Said>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Said {
    head: String,
    tail: String,
    left_out: usize,
    progress: Option<String>,
}

impl Output {
    /// More output.
    pub fn push(&self, text: &str) {
        self.change(|said| {
            let room = (MOST / 2).saturating_sub(said.head.len());
            let split = if said.tail.is_empty() { text.floor_char_boundary(room.min(text.len())) } else { 0 };
            said.head.push_str(&text[..split]);
            said.tail.push_str(&text[split..]);
            if said.tail.len() > MOST {
                let cut = said.tail.ceil_char_boundary(said.tail.len() - MOST / 2);
                said.left_out += cut;
                said.tail.drain(..cut);
            }
        });
    }

    /// How far it has come, in words: `12 of 40 files`. Replaces what it said before.
    pub fn progress(&self, words: impl Into<String>) {
        self.change(|said| said.progress = Some(words.into()));
    }

    /// All output so far, at most [`MOST`] bytes and a half, with a note where something is left out.
    pub fn text(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match said.left_out {
            0 => format!("{}{}", said.head, said.tail),
            left_out => format!("{}\n[… {left_out} bytes left out here …]\n{}", said.head, said.tail),
        }
    }

    /// What it said last of its progress.
    pub fn last_progress(&self) -> Option<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).progress.clone()
    }

    /// Waits until something was said since the last call. Safe to cancel.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_keeps_its_beginning_and_its_end() {
        let output = Output::default();
        output.push("first ");
        for _ in 0..200 {
            output.push(&"é".repeat(16 << 10));
        }
        output.push(" last");
        let text = output.text();
        assert!(text.starts_with("first é") && text.ends_with("é last") && text.contains("bytes left out"));
        assert!(text.len() <= 2 * MOST);
    }

    #[tokio::test]
    async fn whoever_watches_hears_of_news() {
        let output = Output::default();
        output.progress("1 of 2");
        output.progress("2 of 2");
        output.news().await;
        assert_eq!(output.last_progress().as_deref(), Some("2 of 2"));
    }
}
