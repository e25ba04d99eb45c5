//! What a server's tool gave → what the model reads: text as it is, structured content as JSON, pictures as pictures, links
//! and the rest by name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

use crate::files::{MAX_IMAGE, picture};
use crate::providers::prompt::Image;
use crate::tools::Outcome;

/// As a tool's outcome.
pub(super) fn outcome(result: CallToolResult) -> Outcome {
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    for block in result.content {
        match block {
            ContentBlock::Text(text) => texts.push(text.text),
            ContentBlock::Image(image) => match STANDARD.decode(&image.data) {
                // A picture is what its bytes say.
                Ok(bytes) if bytes.len() <= MAX_IMAGE && picture(&bytes).is_some() => {
                    let mime = picture(&bytes).unwrap_or_default().to_owned();
                    images.push(Image { mime, bytes: bytes.into() });
                }
                Ok(bytes) => texts.push(format!(
                    "[A picture of {} bytes ({}) is left out: it is too large, or of a kind that models don't take.]",
                    bytes.len(),
                    image.mime_type
                )),
                Err(_) => texts.push("[A picture that can't be read is left out.]".to_owned()),
            },
            ContentBlock::Audio(audio) => texts.push(format!("[Sound ({}) is left out.]", audio.mime_type)),
            ContentBlock::ResourceLink(link) => texts.push(format!("[{}: {}]", link.name, link.uri)),
            ContentBlock::Resource(resource) => match resource.resource {
                ResourceContents::TextResourceContents { uri, text, .. } => texts.push(format!("[{uri}]\n{text}")),
                ResourceContents::BlobResourceContents { uri, .. } => {
                    texts.push(format!("[{uri} holds bytes that can't be read here.]"));
                }
                _ => texts.push("[A resource of an unknown kind is left out.]".to_owned()),
            },
            _ => texts.push("[Content of an unknown kind is left out.]".to_owned()),
        }
    }
    // Servers that give structure repeat it as text; one that doesn't is read all the same.
    if texts.is_empty()
        && images.is_empty()
        && let Some(structured) = result.structured_content
    {
        texts.push(structured.to_string());
    }
    Outcome { content: texts.join("\n\n"), is_error: result.is_error.unwrap_or_default(), images }
}
