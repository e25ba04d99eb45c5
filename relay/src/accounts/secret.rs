//! Tokens, tickets and codes: random bits that exist in the clear only on their way out, and are known here by their
//! SHA-256 alone. So nothing on disk is worth stealing, and what the timing of a lookup could tell is of a hash, which
//! nobody can steer: comparing takes the same time as far as anyone outside can use it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use skein_engine::ids::random_bytes;

/// What a secret is known by.
pub type Hash = [u8; 32];

/// A token, ticket or code in the clear.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// `N` random bytes behind a prefix.
    pub fn random<const N: usize>(prefix: &str) -> Self {
        Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random_bytes::<N>())))
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The hash of a secret.
pub fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}
