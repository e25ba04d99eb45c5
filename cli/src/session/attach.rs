//! Files that go with a message: their content becomes blobs, kept on this device until the relay has them.

use std::path::{Path, PathBuf};

use skein_engine::blob::MAX_BYTES;
use skein_engine::session::command::Attachment;

use crate::failure::Failure;
use crate::place::Opened;

/// Keeps each file as a blob, durably.
pub(super) async fn attached(opened: &Opened, files: &[PathBuf]) -> Result<Vec<Attachment>, Failure> {
    let mut attachments = Vec::with_capacity(files.len());
    for file in files {
        let failed = |error: std::io::Error| Failure::new(format!("{error}: {}", file.display()));
        let about = tokio::fs::metadata(file).await.map_err(failed)?;
        if !about.is_file() {
            return Err(Failure::new(format!("this is no file: {}", file.display())));
        }
        if about.len() > MAX_BYTES {
            let most = MAX_BYTES >> 20;
            return Err(Failure::new(format!("this file is too large, at most {most} MiB: {}", file.display())));
        }
        let content = tokio::fs::read(file).await.map_err(failed)?;
        let size = content.len() as u64;
        let blob = opened.client.put_blob(content).await?.to_string();
        attachments.push(Attachment { blob, mime: mime(file), name: name(file), size });
    }
    Ok(attachments)
}

fn mime(file: &Path) -> String {
    mime_guess::from_path(file).first_or_octet_stream().essence_str().to_owned()
}

fn name(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
