//! Documents on a device, and their sync with the relay: automerge's own protocol over automerge-repo frames.
