//! The wall clock, read here only: everything else is handed the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skein_engine::ids::Timestamp;

/// Now.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The moment on tokio's clock at which the wall clock should show `at`.
pub fn instant(at: Timestamp) -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_millis(at.ms_since(now()))
}
