//! How much may come in how fast: a bucket that holds so much, and is filled again at a steady pace. Pure: time and
//! amounts in, how long to wait out.

use std::time::Duration;

use tokio::time::Instant;

/// See the module.
#[derive(Clone, Debug)]
pub struct Bucket {
    burst: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(now: Instant, burst: f64, per_second: f64) -> Self {
        Self { burst, per_second, left: burst, at: now }
    }

    /// Takes an amount, also when too little is left: the debt is what the next has to wait for.
    pub fn take(&mut self, now: Instant, amount: f64) {
        self.fill(now);
        self.left -= amount;
    }

    /// How long until this amount is there; zero if it is.
    pub fn wait(&mut self, now: Instant, amount: f64) -> Duration {
        self.fill(now);
        // More than fits is never there: then it need only be full.
        let lacking = amount.min(self.burst) - self.left;
        if lacking > 0.0 { Duration::from_secs_f64(lacking / self.per_second) } else { Duration::ZERO }
    }

    /// Whether nothing was taken, or all of it is back.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left >= self.burst
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.burst);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_may_go_at_once_and_the_rest_at_its_pace() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start, 10.0, 2.0);
        assert_eq!(bucket.wait(start, 10.0), Duration::ZERO);
        bucket.take(start, 10.0);
        assert_eq!(bucket.wait(start, 1.0), Duration::from_millis(500));
        let later = start + Duration::from_millis(500);
        assert_eq!(bucket.wait(later, 1.0), Duration::ZERO);
        bucket.take(later, 5.0);
        assert_eq!(bucket.wait(later, 0.0), Duration::from_secs(2));
        assert!(!bucket.is_full(later) && bucket.is_full(later + Duration::from_secs(7)));
        assert_eq!(bucket.wait(later + Duration::from_secs(7), 100.0), Duration::ZERO, "more than ever fits");
    }
}
