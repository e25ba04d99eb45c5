//! The rows of ten thousand sessions on the wire: what `/catalog` sends to a device that has none.

// The helpers of a test may fail as the test may.
#![allow(clippy::unwrap_used)]

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use skein_engine::ids::{DocumentId, Micros, Timestamp, random_bytes};
use skein_engine::session::summary::{self, NameSource};
use skein_engine::session::{Leases, Session, Summary, Writers, conversation};
use skein_engine::wire::catalog::{FromRelay, Row};
use skein_engine::wire::cbor;

const SESSIONS: usize = 10_000;
/// As the relay cuts them.
const PAGE: usize = 500;
const MOST: usize = 1_500_000;

/// Words in the order of how often they stand in English prose.
const WORDS: &str = "the of and to a in that it is was for on with as be at by this had not are but from or have an they \
    which one you were all her she there would their we him been has when who will no more if out so up said what its \
    about than into them can only other time new some could these two may first then do any like my now over such our \
    man me even most made after also did many off before must well back through years much where your way down should \
    because long each just state people those too little good world very make still see own work men day get here old \
    between both life being under three never know same last another while us might great year come since against go \
    came right used take himself few house use place without again though large often public school small system \
    answer question model worker change list server error build test release branch deploy review budget contract";

fn prose(random: &mut StdRng, letters: usize) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut text = String::new();
    while text.len() < letters {
        // Zipf's law, about: the lower of two draws.
        let at = random.random_range(0..words.len()).min(random.random_range(0..words.len()));
        text.push_str(words[at]);
        text.push(' ');
    }
    text.trim_end().to_owned()
}

fn row(random: &mut StdRng, n: usize, agents: &[String]) -> Row {
    let document = DocumentId::random();
    let at = Timestamp(1_795_000_000_000 + random.random_range(0..10_000_000_000));
    let session = Session::default();
    let empty = conversation(&session, &Leases::default(), &Writers::default(), at);
    let name = prose(random, 30);
    // A short question, or as much of an answer as a row holds.
    let preview = if random.random_bool(0.3) { 40 } else { 190 };
    let preview = prose(random, preview);
    let strand: String = (0..random.random_range(3..24)).map(|_| ['k', 't', 'b'][random.random_range(0..3)]).collect();
    let summary = Summary {
        name,
        name_source: NameSource::Auto,
        agent: Some(agents[random.random_range(0..agents.len())].clone()),
        cost_micros: Some(Micros(random.random_range(0..5_000_000))),
        duration_ms: random.random_range(0..600_000),
        created_at: Some(at),
        updated_at: Some(at.plus_ms(random.random_range(0..100_000_000))),
        position: Some(format!("{n:010}")),
        progress: random.random_range(1..400),
        preview,
        strand,
        ..summary::summary(document, &session, &empty, at)
    };
    let heads = vec![automerge::ChangeHash(random_bytes())];
    Row { document, heads, summary: Some(summary), live: None, tombstone: None }
}

#[test]
fn ten_thousand_sessions_take_at_most_one_and_a_half_megabytes() {
    let mut random = StdRng::seed_from_u64(9);
    let agents: Vec<String> = (0..5).map(|_| skein_engine::ids::random_id()).collect();
    let mut rows: Vec<Row> = (0..SESSIONS).map(|n| row(&mut random, n, &agents)).collect();
    // The relay sends them in the order in which they changed.
    rows.sort_by_key(|row| row.summary.as_ref().unwrap().updated_at);
    let plain = cbor::encode(&rows).len();
    let started = std::time::Instant::now();
    let pages =
        rows.chunks(PAGE).map(|rows| FromRelay::Rows { cursor: 1, reset: false, rows: rows.to_vec(), complete: false });
    let messages: Vec<Vec<u8>> = pages.map(|page| cbor::encode(&page)).collect();
    let encoded = started.elapsed();
    let sent: usize = messages.iter().map(Vec::len).sum();
    let started = std::time::Instant::now();
    let mut heard = Vec::with_capacity(SESSIONS);
    for message in &messages {
        let FromRelay::Rows { rows, .. } = cbor::decode(message).unwrap() else { panic!("rows") };
        heard.extend(rows);
    }
    let decoded = started.elapsed();
    println!("{SESSIONS} rows: {plain} bytes of CBOR, {sent} sent; {encoded:?} to make, {decoded:?} to read");
    assert_eq!(heard, rows);
    assert!(sent <= MOST, "{sent} bytes");
}
