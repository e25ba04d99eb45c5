//! Firings of tasks: granted once, with the session that they make, also over a restart of the relay; and who may ask.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use automerge::AutoCommit;
use bytes::Bytes;
use serde_json::{Value, json};
use skein_engine::ids::{DocumentId, Timestamp, random_id};
use skein_engine::wire::catalog::{Firing, FromRelay, ToRelay};
use skein_relay::Relay;
use support::{Catalog, client, relay, session};

fn firing(id: &str, session: Option<DocumentId>) -> Firing {
    let (task, run) = ("task".to_owned(), random_id());
    Firing { task, id: id.into(), at: Timestamp(5), run, session, error: None, values: Default::default() }
}

/// The first change of a session.
fn change(content: &mut AutoCommit) -> Bytes {
    let changes = content.get_changes(&[]);
    Bytes::copy_from_slice(changes[0].raw_bytes())
}

async fn fire(catalog: &mut Catalog, firing: Firing, change: Option<Bytes>) -> FromRelay {
    catalog.say(&ToRelay::Fire { ask: 7, firing, change }).await;
    let answers = |told: &FromRelay| {
        matches!(told, FromRelay::Fired { .. } | FromRelay::Taken { .. } | FromRelay::Refused { .. })
    };
    catalog.told(answers).await
}

async fn worker(relay: &Relay) -> Catalog {
    Catalog::open(relay.address(), &relay.mint_worker_token().await.unwrap(), None).await
}

async fn post(relay: &Relay, path: &str, token: &str, body: Value) -> (u16, Value) {
    let address = format!("http://{}{path}", relay.address());
    let answer = client().post(address).bearer_auth(token).body(body.to_string()).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

#[tokio::test]
async fn a_firing_is_granted_once_with_its_session_also_over_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let first = relay(data.path()).await;
    let [mut one, mut two] = [worker(&first).await, worker(&first).await];
    let [made, other] = [DocumentId::random(), DocumentId::random()];
    let [of_one, of_two] = ["one", "two"].map(|text| change(&mut session(text)));
    one.say(&ToRelay::Fire { ask: 1, firing: firing("9", Some(made)), change: Some(of_one.clone()) }).await;
    two.say(&ToRelay::Fire { ask: 2, firing: firing("9", Some(other)), change: Some(of_two.clone()) }).await;
    let answer = |told: &FromRelay| matches!(told, FromRelay::Fired { .. } | FromRelay::Taken { .. });
    let answers = [one.told(answer).await, two.told(answer).await];
    let fired = answers.iter().filter(|answer| matches!(answer, FromRelay::Fired { .. })).count();
    assert_eq!(fired, 1, "{answers:?}");
    let (is, is_not) = if matches!(answers[0], FromRelay::Fired { .. }) { (made, other) } else { (other, made) };
    one.row(is, |_| true).await;
    // What was granted without its answer arriving is told to be taken, and makes nothing.
    assert!(matches!(fire(&mut one, firing("9", Some(is)), Some(of_one.clone())).await, FromRelay::Refused { .. }));
    first.shutdown().await;

    let second = relay(data.path()).await;
    let mut late = worker(&second).await;
    let answer = fire(&mut late, firing("9", Some(DocumentId::random())), Some(of_two)).await;
    assert!(matches!(answer, FromRelay::Taken { .. }), "{answer:?}");
    late.say(&ToRelay::Firings { ask: 3 }).await;
    let told = late.told(|told| matches!(told, FromRelay::Firings { .. })).await;
    let FromRelay::Firings { firings, .. } = told else { unreachable!() };
    assert_eq!(firings.iter().map(|firing| firing.session).collect::<Vec<_>>(), [Some(is)]);
    assert!(late.rows.contains_key(&is) && !late.rows.contains_key(&is_not));
    second.shutdown().await;
}

#[tokio::test]
async fn a_session_that_the_relay_refuses_leaves_its_firing_to_be_made_again() {
    let data = tempfile::tempdir().unwrap();
    let relay = relay(data.path()).await;
    let mut worker = worker(&relay).await;
    let broken = Bytes::from_static(b"\x85\x6f\x4a\x83 no change");
    let refused = fire(&mut worker, firing("9", Some(DocumentId::random())), Some(broken)).await;
    assert!(matches!(refused, FromRelay::Refused { .. }), "{refused:?}");
    let made = DocumentId::random();
    let again = fire(&mut worker, firing("9", Some(made)), Some(change(&mut session("x")))).await;
    assert!(matches!(again, FromRelay::Fired { .. }), "{again:?}");
    worker.row(made, |_| true).await;
    // One without a session is kept with its reason.
    let skipped = Firing { error: Some("Skipped: x".into()), ..firing("10", None) };
    assert!(matches!(fire(&mut worker, skipped, None).await, FromRelay::Fired { .. }));
    let again = fire(&mut worker, firing("10", Some(DocumentId::random())), Some(change(&mut session("y")))).await;
    assert!(matches!(again, FromRelay::Taken { .. }), "{again:?}");
    relay.shutdown().await;
}

#[tokio::test]
async fn only_workers_fire_and_what_makes_no_sense_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let relay = relay(data.path()).await;
    let change = change(&mut session("x"));
    let id = Some(DocumentId::random());
    let mut member = Catalog::open(relay.address(), relay.owner_token(), None).await;
    assert!(matches!(fire(&mut member, firing("9", id), Some(change.clone())).await, FromRelay::Refused { .. }));
    let mut worker = worker(&relay).await;
    for bad in [
        (firing("", id), Some(change.clone())),
        (firing(&"9".repeat(65), id), Some(change.clone())),
        (firing("a\0b", id), Some(change.clone())),
        (firing("9", id), None),
        (firing("9", None), Some(change.clone())),
        (firing("9", Some(relay.workspace_document())), Some(change)),
    ] {
        let answer = fire(&mut worker, bad.0, bad.1).await;
        assert!(matches!(answer, FromRelay::Refused { .. }), "{answer:?}");
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn a_token_triggers_one_task_until_there_is_another_and_not_too_often() {
    let data = tempfile::tempdir().unwrap();
    let first = relay(data.path()).await;
    let owner = first.owner_token().to_owned();
    let made = post(&first, "/tasks/abc/token", &owner, json!({})).await.1["token"].as_str().unwrap().to_owned();
    let worker_token = first.mint_worker_token().await.unwrap();
    assert_eq!(post(&first, "/tasks/abc/token", &worker_token, json!({})).await.0, 403);
    let (status, triggered) = post(&first, "/tasks/abc/trigger", &made, json!({"set": {"a": "b"}})).await;
    assert_eq!((status, &triggered["session"]), (202, &Value::Null));
    first.shutdown().await;

    // It waits for a worker over a restart, and the token stands.
    let second = relay(data.path()).await;
    let mut worker = worker(&second).await;
    worker.say(&ToRelay::Offer(Default::default())).await;
    let told = worker.told(|told| matches!(told, FromRelay::Triggered { .. })).await;
    let FromRelay::Triggered { triggers } = told else { unreachable!() };
    assert_eq!((triggers.len(), &json!(triggers[0].run)), (1, &triggered["run"]));
    assert_eq!(triggers[0].values.get("a").map(String::as_str), Some("b"));
    let large = json!({"set": {"a": "x".repeat(17 << 10)}});
    assert_eq!(post(&second, "/tasks/abc/trigger", &made, large).await.0, 400);
    let mut throttled = 0;
    for _ in 0..70 {
        match post(&second, "/tasks/abc/trigger", &made, json!({})).await {
            (202, _) => {}
            (429, said) => {
                assert!(said["error"]["message"].as_str().unwrap().contains("too many at once"), "{said}");
                throttled += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(throttled > 0);
    let newer = post(&second, "/tasks/abc/token", &owner, json!({})).await.1["token"].as_str().unwrap().to_owned();
    assert_eq!(post(&second, "/tasks/abc/trigger", &made, json!({})).await.0, 401);
    assert_ne!(newer, made);
    assert!(matches!(post(&second, "/tasks/abc/trigger", &newer, json!({})).await.0, 202 | 429));
    second.shutdown().await;
}

#[tokio::test]
async fn a_run_by_hand_is_noted_once_and_only_of_a_session_that_is_there() {
    let data = tempfile::tempdir().unwrap();
    let relay = relay(data.path()).await;
    let owner = relay.owner_token().to_owned();
    let peer = support::bring(&relay, "by hand").await;
    let body = json!({"run": "abc", "session": peer.document});
    assert_eq!(post(&relay, "/tasks/t/runs", &owner, body.clone()).await.0, 201);
    assert_eq!(post(&relay, "/tasks/t/runs", &owner, body).await.0, 201);
    let missing = json!({"run": "abd", "session": DocumentId::random()});
    assert_eq!(post(&relay, "/tasks/t/runs", &owner, missing).await.0, 404);
    let bad = json!({"run": "a/b", "session": peer.document});
    assert_eq!(post(&relay, "/tasks/t/runs", &owner, bad).await.0, 400);
    let listed = client().get(format!("http://{}/tasks/t/runs", relay.address())).bearer_auth(&owner).send();
    let listed: Value = serde_json::from_str(&listed.await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&listed[0]["run"], &listed[0]["session"]), (&json!("abc"), &json!(peer.document)));
    relay.shutdown().await;
}
