//! Attempts with wrong tokens and codes, by address: so many at once, then one now and then; more are told how long to
//! wait.
//!
//! A right token is let in all the same: it is 256 random bits, which no number of attempts finds, and behind a proxy
//! all devices come from one address, where a stranger must not lock out everyone. A code is not even looked at while
//! its address has to wait.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::bucket::Bucket;

/// Wrong attempts that an address may make at once.
const BURST: f64 = 30.0;
/// How many more each second.
const PER_SECOND: f64 = 0.5;
/// Addresses that are remembered. With more, those that have waited longest are forgotten.
const MAX_ADDRESSES: usize = 10_000;

/// See the module.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<IpAddr, Bucket>>);

impl Throttle {
    /// How long this address has to wait before another attempt; `None`: it may try.
    pub fn wait(&self, now: Instant, address: IpAddr) -> Option<Duration> {
        let wait = self.lock().get_mut(&network(address))?.wait(now, 1.0);
        (!wait.is_zero()).then_some(wait)
    }

    /// An attempt of it has failed. How long it has to wait, if this was one too many.
    pub fn failed(&self, now: Instant, address: IpAddr) -> Option<Duration> {
        let address = network(address);
        let mut addresses = self.lock();
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&address) {
            addresses.retain(|_, bucket| !bucket.is_full(now));
            let most = addresses.iter_mut().map(|(of, bucket)| (bucket.wait(now, BURST), *of)).min();
            if let Some((_, nearest)) = most.filter(|_| addresses.len() >= MAX_ADDRESSES) {
                addresses.remove(&nearest);
            }
        }
        let bucket = addresses.entry(address).or_insert_with(|| Bucket::new(now, BURST, PER_SECOND));
        let wait = bucket.wait(now, 1.0);
        if !wait.is_zero() {
            return Some(wait);
        }
        bucket.take(now, 1.0);
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Bucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever has one address of IPv6 has its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_tries_too_often_waits_and_others_do_not() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        for _ in 0..30 {
            assert_eq!(throttle.failed(now, one), None);
        }
        assert_eq!(throttle.failed(now, one), Some(Duration::from_secs(2)));
        assert_eq!(throttle.wait(now, one), Some(Duration::from_secs(2)));
        assert_eq!((throttle.wait(now, other), throttle.failed(now, other)), (None, None));
        assert_eq!(throttle.wait(now + Duration::from_secs(2), one), None);
    }

    #[test]
    fn neighbours_of_one_ipv6_network_are_one_and_memory_is_bounded() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..31_u16 {
            throttle.failed(now, Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n).into());
        }
        assert!(throttle.wait(now, "2001:db8:0:1::ffff".parse().unwrap()).is_some());
        assert!(throttle.wait(now, "2001:db8:0:2::1".parse().unwrap()).is_none());
        for n in 0..(MAX_ADDRESSES as u32 + 50) {
            throttle.failed(now, IpAddr::V4(n.into()));
        }
        assert_eq!(throttle.lock().len(), MAX_ADDRESSES);
        assert!(throttle.wait(now, "2001:db8:0:1::ffff".parse().unwrap()).is_some(), "the worst is remembered");
    }
}
