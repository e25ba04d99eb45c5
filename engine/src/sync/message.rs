//! Automerge sync messages: heads, need, have, changes, flags.
