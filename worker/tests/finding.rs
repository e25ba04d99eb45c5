//! Finding work: how soon what a person sends is claimed, and how soon others see what was written.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use skein_engine::session::Command;
use skein_engine::session::conversation::Status;
use support::{PATIENCE, Stage, demo, device};

/// Generous: the machine of a test is busy with other tests. What an idle one takes is printed.
const LOOSE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_claimed_at_once_when_the_worker_is_idle() {
    let stage = Stage::new().await;
    let worker = stage.worker(demo(100_000.0));
    let session = stage.new_session("hello").await;
    stage.settled(session, Status::Active).await;
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let idle = stage.person.until(PATIENCE, |device, _| device.leases(session).0.live.is_none().then_some(()));
        idle.await.expect("the lease of the turn before ends");
        let sent = Instant::now();
        stage.send(session, "again").await;
        let claimed = stage.person.until(PATIENCE, |device, _| device.leases(session).0.live);
        claimed.await.expect("it is claimed");
        quickest = quickest.min(sent.elapsed());
        stage.settled(session, Status::Active).await;
    }
    println!("from send to claim, seen by the sender: {quickest:?}");
    assert!(quickest < LOOSE, "{quickest:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_device_changes_is_soon_in_anothers_list() {
    let stage = Stage::new().await;
    let other = device(&stage.url, stage.relay.owner_token()).await;
    let session = stage.new_session("hello").await;
    let listed = other.until(PATIENCE, |device, now| device.summary(now, session));
    listed.await.expect("it is listed");
    let mut quickest = Duration::MAX;
    for n in 0..5 {
        let name = format!("name {n}");
        let changed = Instant::now();
        stage.command(session, Command::Rename { name: name.clone() }).await;
        let listed =
            other.until(PATIENCE, |device, now| device.summary(now, session).filter(|summary| summary.name == name));
        listed.await.expect("its name is listed");
        quickest = quickest.min(changed.elapsed());
    }
    println!("from a change to another device's list: {quickest:?}");
    assert!(quickest < LOOSE, "{quickest:?}");
}
