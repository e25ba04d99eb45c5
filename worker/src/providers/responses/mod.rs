//! OpenAI's responses and what is compatible with them: prompt → request, stream → events
//! (<https://platform.openai.com/docs/api-reference/responses-streaming>).
//!
//! Items are told apart by `output_index`, since some gateways give every event another id. Reasoning goes back as the
//! whole item that came, with its encrypted content; nothing is stored at the provider.

mod reader;
mod request;

pub use reader::Reader;
pub use request::request;

/// Path below the base URL.
pub const PATH: &str = "responses";
