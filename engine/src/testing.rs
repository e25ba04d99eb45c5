//! Randomness that a test can repeat: a thread that has been seeded draws its ids and actors from the seed.
//!
//! Invariant: compiled only with the feature `testing`, which nothing that ships turns on (`tests/shipping.rs` asks
//! cargo), and without effect in a thread that has not been seeded.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Seeds this thread's ids and actors; `None`: they come from the system again.
pub fn seed(seed: Option<u64>) {
    STATE.set(seed);
}

/// Fills the bytes from the seed, if this thread has one. SplitMix64 (Steele, Lea, Flood 2014): every seed is a good
/// one, and no two of its first 2^64 words are alike.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    let Some(mut state) = STATE.get() else { return false };
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    STATE.set(Some(state));
    true
}
