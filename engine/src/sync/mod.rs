//! The relay's half of the automerge sync protocol, over hashes and deps: [`message`] is what is said, [`bloom`] the
//! filter inside it, [`follower`] what one connection knows of one document, [`hub`] all connections and documents.

pub mod bloom;
pub mod follower;
pub mod hub;
pub mod message;

pub use hub::{ConnectionId, ConnectionInfo, Effects, Hub};
