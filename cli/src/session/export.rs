//! `skein session export` and `import`: a session as a document for people, or as JSON that a relay of anyone's can take
//! in again. The JSON is what `show --json` prints, and `export` beside it, which alone is read back.

use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use skein_engine::blob::BlobId;
use skein_engine::session::blobs;
use skein_engine::session::export::Exported;

use super::args::Format;
use super::show::{Json, Shown};
use crate::failure::Failure;
use crate::place::Opened;
use crate::print::{Made, json, out, remark};

#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    shown: Json<'a>,
    export: &'a Exported,
}

#[derive(Deserialize)]
struct Kept {
    export: Exported,
}

/// Prints a session.
pub(super) async fn export(opened: &Opened, id: &str, format: Format) -> Result<(), Failure> {
    let shown = Shown::read(opened, id).await?;
    if let Format::Markdown = format {
        return out(&shown.markdown());
    }
    let id = opened.session(id).await?;
    let (mut exported, named) = opened.client.read(|device, now| {
        let named = blobs::named(device.document(id)?);
        Ok::<_, Failure>((device.export(now, id)?, named))
    })?;
    let mut missing = 0;
    for blob in named {
        match opened.client.get_blob(blob).await {
            Ok(Some(bytes)) => _ = exported.blobs.insert(blob.to_string(), STANDARD.encode(bytes)),
            // What merely looks like a file's name.
            Ok(None) => {}
            Err(_) => missing += 1,
        }
    }
    if missing > 0 {
        remark(&format!("without the relay {missing} of its files can't be had: they are not in the export"));
    }
    json(&Written { shown: shown.json(), export: &exported })
}

/// Makes a session of an export.
pub(super) async fn import(opened: &Opened, file: &Path, as_json: bool) -> Result<(), Failure> {
    let Kept { export } = serde_json::from_slice(&read(file)?)
        .map_err(|error| Failure::new(format!("this is no export of a session: {error}: {}", file.display())))?;
    for (name, content) in &export.blobs {
        let bytes = STANDARD.decode(content).ok().filter(|bytes| BlobId::of(bytes).to_string() == *name);
        let bytes = bytes.ok_or_else(|| Failure::new(format!("a file in the export is damaged: {name}")))?;
        opened.client.put_blob(bytes).await?;
    }
    let id = opened.client.act(|device, now| device.import(now, &export)).await?;
    opened.brought(id).await?;
    Made::of(id.to_string()).print(as_json)
}

/// A file, or standard input if it is called `-`.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().lock().read_to_end(&mut bytes).map(drop),
        _ => std::fs::read(file).map(|read| bytes = read),
    };
    read.map_err(|error| Failure::new(format!("{error}: {}", file.display())))?;
    Ok(bytes)
}
