#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]
use skein_engine::session::conversation::Leases;
use skein_engine::session::{conversation, read, summary};
use skein_model_bench::sessions::*;
use std::time::Instant;
fn t<T>(name: &str, f: impl FnOnce() -> T) -> T {
    let b = Instant::now();
    let v = f();
    println!("{name:<40} {:>10.3} ms", b.elapsed().as_secs_f64() * 1e3);
    v
}
fn main() {
    let mut a = Author::new(1);
    let (q, _) = a.ask(20);
    let mut total = 0;
    for _ in 0..10 {
        let ch = a.answer(&q, &[150, 200, 150], &[100, 200, 300, 400]);
        let mut s = 0;
        let mut l = vec![];
        for mut c in ch {
            let n = c.bytes().len();
            s += n;
            l.push((n, c.raw_bytes().len()));
        }
        println!("{s} {l:?}");
        total += s;
    }
    println!("bytes/token {}", total as f64 / 5000.0);
    println!("packed {}", a.document.save().len() as f64 / 5000.0);
    let mut a = Author::new(2);
    t("make", || a.turns(1000, &[300, 700]));
    let saved = t("save", || a.document.save());
    println!("saved {} ops?", saved.len());
    for _ in 0..3 {
        let d = t("load", || automerge::Automerge::load(&saved).unwrap());
        t("load unverified", || automerge::Automerge::load_unverified_heads(&saved).unwrap());
        t("iter", || automerge::ReadDoc::iter(&d).count());
        let s = t("read", || read::session(&d));
        let c = t("conversation", || conversation(&s, &Leases::default(), &a.writers, NOW));
        let id = skein_engine::ids::DocumentId::random();
        let _sum = t("summary", || summary::summary(id, &s, &c, NOW));
        let _c2 = t("clone conversation", || c.clone());
        t("eq conversation", || assert!(c == _c2));
    }
    let heads = a.document.get_heads();
    let (_, ch) = t("one person change", || {
        a.person(|tx| automerge::transaction::Transactable::put(tx, automerge::ROOT, "archivedAt", 5))
    });
    t("get_changes", || a.document.get_changes(&heads));
    t("decode", || ch.decode());
    let q = skein_engine::ids::random_id();
    t("answer", || a.answer(&q, &[150, 200, 150], &[100, 200, 300, 400]).len());
    let changes = t("changes", || a.document.get_changes(&[]));
    println!("{} changes, {} bytes", changes.len(), changes.iter().map(|c| c.raw_bytes().len()).sum::<usize>());
    t("apply all", || {
        let mut d = automerge::Automerge::new();
        d.apply_changes(changes).unwrap();
    });
}
