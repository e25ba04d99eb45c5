//! Starting: what is in the way, what is broken, what is kept.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::Path;

use automerge::{ROOT, ReadDoc};
use skein_engine::ids::{PeerId, random_id};
use skein_engine::session::conversation::WriterKind;
use skein_engine::wire::catalog::{FromRelay, ToRelay};
use skein_relay::RelayError;
use support::{Catalog, Peer, bring, config, dial, relay};

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_said() {
    let [one, two] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let first = relay(one.path()).await;
    let mut second = config(two.path());
    second.listen = first.address();
    let error = skein_relay::start(second).await.err().unwrap();
    assert!(matches!(error, RelayError::Listen { .. }));
    let text = error.to_string();
    assert!(text.contains("in use") && text.contains(&first.address().to_string()), "{text}");
    first.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_in_use_is_said_and_is_free_after_the_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let first = relay(folder.path()).await;
    let error = skein_relay::start(config(folder.path())).await.err().unwrap();
    assert!(matches!(error, RelayError::Locked(_)), "{error}");
    first.shutdown().await;
    relay(folder.path()).await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_cannot_be_used_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let error = skein_relay::start(config(&file)).await.err().unwrap();
    assert!(matches!(error, RelayError::Data { .. }), "{error}");

    let data = folder.path().join("data");
    relay(&data).await.shutdown().await;
    std::fs::write(data.join("accounts.json"), "{").unwrap();
    let error = skein_relay::start(config(&data)).await.err().unwrap();
    assert!(matches!(error, RelayError::Accounts { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_in_the_configuration_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.public_url = Some("skein.example.org".to_owned());
    let error = skein_relay::start(config).await.err().unwrap();
    assert!(error.to_string().contains("skein.example.org"), "{error}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn tokens_on_disk_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let relay = relay(&folder.path().join("data")).await;
    let worker = relay.mint_worker_token().await.unwrap();
    assert_eq!(relay.mint_worker_token().await.unwrap(), worker);
    for (name, token) in [("owner-token", relay.owner_token()), ("worker-token", &worker)] {
        let path = folder.path().join("data").join(name);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), token);
    }
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_opened_is_moved_aside_and_a_device_fills_it_again() {
    let folder = tempfile::tempdir().unwrap();
    filled_again_after(folder.path(), |log| {
        std::fs::remove_file(log.join("db")).unwrap();
        std::fs::create_dir(log.join("db")).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_bytes_were_flipped_is_said_to_be_and_a_device_fills_it_again() {
    let folder = tempfile::tempdir().unwrap();
    filled_again_after(folder.path(), |log| {
        let file = log.join("db");
        let mut bytes = std::fs::read(&file).unwrap();
        for at in (64..bytes.len()).step_by(97) {
            bytes[at] ^= 0x5a;
        }
        std::fs::write(&file, bytes).unwrap();
    })
    .await;
}

async fn filled_again_after(data: &Path, break_it: impl Fn(&Path)) {
    let first = relay(data).await;
    let mut peer = bring(&first, "precious").await;
    let (token, workspace) = (first.owner_token().to_owned(), first.workspace_document());
    let worker_token = first.mint_worker_token().await.unwrap();
    let seed = {
        let mut reader = Peer::join(first.address(), &token, workspace).await;
        reader.until(|document| document.get(ROOT, "kind").unwrap().is_some()).await;
        reader.content.get_heads()
    };
    first.shutdown().await;
    break_it(&data.join("log"));

    let second = relay(data).await;
    assert!(second.moved_aside().next().unwrap().join("db").exists());
    assert!(second.damage().next().unwrap().contains("devices that connect bring back"));
    assert_eq!((second.owner_token(), second.workspace_document()), (token.as_str(), workspace));
    let mut reader = Peer::join(second.address(), &token, workspace).await;
    reader.until(|document| document.get(ROOT, "kind").unwrap().is_some()).await;
    assert_eq!(reader.content.get_heads(), seed, "the workspace's first change is the same one");

    // The worker brings it back, and the ledger still knows that a member wrote it.
    let socket = dial(second.address(), "/sync", &worker_token).await;
    let actor = peer.content.get_actor().clone();
    let mut bringer = Peer::over(socket, PeerId::from(random_id()), peer.document, peer.content.clone()).await;
    bringer.until_acknowledged().await;
    let mut catalog = Catalog::open(second.address(), &token, None).await;
    let row = catalog.row(peer.document, |row| row.summary.is_some()).await;
    assert_eq!(row.heads, peer.content.get_heads());
    catalog.say(&ToRelay::Follow { document: peer.document }).await;
    let told = catalog.told(|told| matches!(told, FromRelay::Writers { .. })).await;
    let FromRelay::Writers { rows, .. } = told else { unreachable!() };
    assert!(rows.len() == 1 && rows[0].actor == actor && rows[0].writer.kind == WriterKind::Member);
    second.shutdown().await;
}
