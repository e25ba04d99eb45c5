//! Google's Gemini: prompt → request, stream → events (<https://ai.google.dev/api/generate-content>).
//!
//! Text may follow a finish reason, so only the connection's end is the answer's. Signatures come on thoughts, on calls
//! and on empty text, and go back on the same kind of part. Calls have no ids: results are matched by name and order.

mod reader;
mod request;

pub use reader::Reader;
pub use request::request;

/// Path below the base URL.
pub fn path(model: &str) -> String {
    let model = model.strip_prefix("models/").unwrap_or(model);
    format!("models/{model}:streamGenerateContent?alt=sse")
}
