//! What the tests of streams share: a stream read however it is cut, and what its events come down to.

#![allow(dead_code, clippy::unwrap_used)]

use skein_worker::providers::event::{Event, Report, Stop};
use skein_worker::providers::failure::Class;
use skein_worker::providers::{Answer, Kind};

pub fn read_in(kind: Kind, bytes: &[u8], size: usize) -> Vec<Event> {
    let mut answer = Answer::new(kind);
    let mut events = Vec::new();
    for piece in bytes.chunks(size) {
        answer.feed(piece, &mut events);
    }
    answer.finish(&mut events);
    events
}

/// Events of a stream, which must not depend on how it is cut.
pub fn read(kind: Kind, text: &str) -> Vec<Event> {
    let whole = read_in(kind, text.as_bytes(), usize::MAX);
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(read_in(kind, text.as_bytes(), size), whole, "in pieces of {size}");
    }
    whole
}

pub fn text(events: &[Event]) -> String {
    events.iter().filter_map(|event| if let Event::Text(text) = event { Some(text.as_str()) } else { None }).collect()
}

pub fn thinking(events: &[Event]) -> String {
    let words = |event: &Event| if let Event::Thinking(text) = event { Some(text.clone()) } else { None };
    events.iter().filter_map(words).collect()
}

/// (name, whole input) of each call.
pub fn calls(events: &[Event]) -> Vec<(String, Option<String>)> {
    let mut calls = Vec::new();
    for event in events {
        match event {
            Event::CallStarted { index, name, .. } => {
                assert_eq!(*index, calls.len());
                calls.push((name.clone(), None));
            }
            Event::CallDone { index, input } => calls[*index].1 = Some(input.clone()),
            _ => {}
        }
    }
    calls
}

pub fn stop(events: &[Event]) -> Option<(Stop, Option<String>)> {
    events.iter().rev().find_map(|event| match event {
        Event::Stopped { class, word, .. } => Some((*class, word.clone())),
        _ => None,
    })
}

pub fn failure(events: &[Event]) -> Option<(Class, String)> {
    events.iter().find_map(|event| match event {
        Event::Failed(failure) => Some((failure.class, failure.message.clone())),
        _ => None,
    })
}

pub fn report(events: &[Event]) -> Report {
    let reports =
        events.iter().rev().find_map(|event| if let Event::Usage(report) = event { Some(*report) } else { None });
    reports.unwrap()
}

pub fn opaque(events: &[Event]) -> Vec<String> {
    let data = |event: &Event| match event {
        Event::Opaque { data, .. } | Event::Other { data, .. } => Some(data.clone()),
        _ => None,
    };
    events.iter().filter_map(data).collect()
}
