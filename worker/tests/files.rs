//! Files that people attach reach the model as what they are, and what is left out doesn't.

#![allow(clippy::unwrap_used)]

mod support;

use skein_engine::session::Command;
use skein_engine::session::command::{Attachment, Draft};
use skein_engine::session::conversation::{Content, Status};
use support::model::{ModelServer, openai, stream};
use support::{Stage, provider};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_is_sent_as_one_until_it_is_left_out() {
    let stage = Stage::new().await;
    let model = ModelServer::start(vec![stream([openai(&["I see."], Some("stop")).as_bytes()])]).await;
    let session = stage.new_session("Hello").await;
    stage.command(session, Command::Rename { name: "Pictures".into() }).await;
    let png = [b"\x89PNG\r\n\x1a\n".as_slice(), &[7; 20]].concat();
    let mut attachments = Vec::new();
    for (name, bytes) in [("a.png", png.clone()), ("notes.txt", b"buy milk".to_vec())] {
        let size = bytes.len() as u64;
        let blob = stage.person.put_blob(bytes).await.unwrap().to_string();
        attachments.push(Attachment { blob, mime: "application/octet-stream".into(), name: name.into(), size });
    }
    let draft = Draft { text: "What is this?".into(), attachments: Some(attachments), ..Draft::default() };
    let message = stage.command(session, Command::Send(draft)).await.id.unwrap();
    let _worker = stage.worker(provider("openai", model.address, ""));
    let done = stage.settled(session, Status::Active).await;
    let body = model.bodies().pop().unwrap();
    assert!(body.contains("data:image/png;base64,iVBORw0KGgoHBwcH"), "{body}");
    assert!(body.contains("The file \\\"notes.txt\\\":\\nbuy milk"), "{body}");

    let parts = &done.messages.iter().find(|one| one.id == message).unwrap().parts;
    let picture =
        parts.iter().find(|part| matches!(&part.content, Content::Attachment { name, .. } if name == "a.png"));
    stage.command(session, Command::Omit { message, part: picture.unwrap().index }).await;
    stage.send(session, "And now?").await;
    stage
        .until(session, "answered", |seen| (seen.turns.len() == 2 && seen.status == Status::Active).then_some(()))
        .await;
    let body = model.bodies().pop().unwrap();
    assert!(!body.contains("base64") && body.contains("left the file \\\"a.png\\\" out"), "{body}");
}
