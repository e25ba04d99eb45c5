//! Ollama's own chat: prompt → request, lines of JSON → events
//! (<https://github.com/ollama/ollama/blob/main/docs/api.md#generate-a-chat-completion>).

mod reader;
mod request;

pub use reader::Reader;
pub use request::request;

/// Path below the base URL.
pub const PATH: &str = "chat";
