//! OpenAI's chat completions and what is compatible with them: prompt → request, stream → events.
//!
//! Compatible servers differ in everything but the outline: where reasoning and usage stand, whether calls have an
//! index or an id, whether `[DONE]` comes. Nothing is taken as an end but the end, since text may follow a finish
//! reason; only then are calls called whole, unless the answer was cut.

mod details;
mod reader;
mod request;
mod usage;

pub use reader::Reader;
pub use request::{Dialect, request};

/// Path below the base URL.
pub const PATH: &str = "chat/completions";
