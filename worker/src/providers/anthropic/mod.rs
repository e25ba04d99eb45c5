//! Anthropic's messages: prompt → request, stream → events.
//!
//! Every block is kept as the JSON that came (signatures, citations, server tools), and goes back so. A call's input is
//! called whole only when something follows its block, or when the model says that it stopped for another reason than
//! its token limit: a block's own end also stands behind an input that was cut.

mod block;
mod reader;
mod request;

pub use reader::Reader;
pub use request::request;

/// Path below the base URL.
pub const PATH: &str = "messages";
