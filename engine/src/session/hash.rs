//! Hash tables over ids that documents hold. Hashing is seeded, so that nobody can write ids that collide, and takes a
//! third of the time of the standard library's, which is what deriving a long session costs.

use foldhash::fast::RandomState;

/// A map.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;
/// A set.
pub(crate) type HashSet<K> = std::collections::HashSet<K, RandomState>;
