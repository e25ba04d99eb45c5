//! The Bloom filter of the automerge sync protocol: which changes a peer has since the last sync.
