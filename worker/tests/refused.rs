//! What becomes of a run whose changes the relay refuses: it ends here, so that another can take it up.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{ObjType, ROOT, ReadDoc, ScalarValue};
use skein_engine::ids::Epoch;
use skein_worker::lease::Lease;
use skein_worker::link::Link;
use skein_worker::signals::{Signals, Why};
use skein_worker::turn::settle;
use support::{PATIENCE, Stage, device};
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_change_is_refused_waits_for_nothing_and_keeps_no_lease() {
    let stage = Stage::new().await;
    let session = stage.new_session("Hello").await;
    let client = device(&stage.url, &stage.worker_token).await;
    let mut notices = client.notices();
    let link = Arc::new(Link::new(client.clone()));
    let pump = tokio::spawn({
        let link = link.clone();
        async move {
            while let Some(event) = notices.next().await {
                link.notice(&event);
            }
        }
    });
    client.cast(|device, now| device.open(now, session));
    client.until(PATIENCE, |device, _| device.up_to_date(session).then_some(())).await.unwrap();
    let seen = link.watch(session);
    let (lease, _) = Lease::claim(&link, session, Epoch(0), seen.clone()).await.unwrap();
    tokio::time::timeout(PATIENCE, lease.lives()).await.expect("the relay's word");

    // A run under way, and then a counter whose sum could overflow.
    let message = link.read(|device, _| device.session(session).unwrap().messages[0].id.clone());
    let run = format!("{message}/{}", lease.epoch.0);
    link.write(session, |tx| {
        let (_, runs) = tx.get(ROOT, "runs")?.unwrap();
        let fields = tx.put_object(runs, &run, ObjType::Map)?;
        tx.put(&fields, "turn", &message)?;
        tx.put(&fields, "epoch", lease.epoch.0 as i64)?;
        tx.put(&fields, "state", "streaming")?;
        let answers = tx.put_object(&fields, "answers", ObjType::List)?;
        tx.insert(answers, 0, &message)
    })
    .unwrap();
    link.write(session, |tx| tx.put(ROOT, "count", ScalarValue::counter(i64::MAX))).unwrap();
    let (_stop, stopping) = watch::channel(false);
    let mut signals = Signals::new(link.clone(), session, run, seen, lease.lost(), stopping);
    let acknowledged = tokio::time::timeout(PATIENCE, signals.acknowledged()).await;
    assert_eq!(acknowledged.expect("an answer"), Err(Why::Lost));
    tokio::time::timeout(Duration::from_secs(5), settle(&link, session, lease, false)).await.expect("an end");
    pump.abort();
}
