//! Which network addresses a tool may reach: checked after resolving, at every connection, so that no name, redirect or
//! way of writing an address leads into the private network unless the operator allows it.
//!
//! Invariant: a connection goes to the very address that was checked; whoever resolves again might get another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Url};

/// Why an address isn't reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No address over HTTP, or one with a name and password in it.
    #[error("\"{0}\" is no http:// or https:// address that can be fetched")]
    NotHttp(String),
    /// A private, local or otherwise special address.
    #[error("{host} is an address of a private network ({address}), which this worker doesn't reach")]
    Private {
        /// As it was written.
        host: String,
        /// What it stands for.
        address: IpAddr,
    },
    /// The name has no address.
    #[error("the name {0} can't be resolved")]
    Unknown(String),
}

/// Whether an address belongs to the public internet: neither private, shared (CGNAT), loopback, link-local (cloud
/// metadata among them), unique-local, multicast, reserved, nor an IPv6 spelling of such an IPv4 address. From IANA's
/// special-purpose registries (RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., ..)
    );
    !special
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        // Translated by NAT64, or 6to4: as public as what it stands for.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Protocol assignments (Teredo among them), documentation, benchmarks.
        [0x2001, ..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, ..=0xfff, ..] => false,
        // Global unicast; mapped, loopback, unique-local, link-local and multicast addresses lie elsewhere.
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

/// What may be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Whether addresses of the private network may be.
    pub private: bool,
}

impl Reach {
    /// Checks what is known of an address before it is resolved: its scheme, and its host where that is an address
    /// itself, which no resolver is asked about.
    pub fn check(self, url: &Url) -> Result<(), AddressError> {
        let plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
        // Brackets and odd spellings (`0x7f.1`) are resolved by the parser of URLs.
        let host = url.host_str().filter(|_| plain).ok_or_else(|| AddressError::NotHttp(url.to_string()))?;
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => self.check_address(host, address),
            Err(_) => Ok(()),
        }
    }

    /// Makes a client that connects to checked addresses only: by names through this resolver, by no proxy, and with no
    /// redirect followed by itself. Each address still goes through [`Reach::check`] first.
    pub fn bind(self, builder: ClientBuilder) -> ClientBuilder {
        builder.dns_resolver(Checked(self)).no_proxy().redirect(reqwest::redirect::Policy::none())
    }

    fn check_address(self, host: &str, address: IpAddr) -> Result<(), AddressError> {
        if self.private || is_public(address) {
            Ok(())
        } else {
            Err(AddressError::Private { host: host.to_owned(), address })
        }
    }
}

/// Resolves by the system, and gives only what may be reached.
#[derive(Debug)]
struct Checked(Reach);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await.map(Iterator::collect::<Vec<SocketAddr>>);
            let Ok(found) = found else { return Err(AddressError::Unknown(host).into()) };
            // One private address among public ones is no accident: none of them is used.
            found.iter().try_for_each(|socket| reach.check_address(&host, socket.ip()))?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_special_addresses_are_told_from_public_ones() {
        for public in ["1.1.1.1", "93.184.216.34", "100.63.0.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn every_way_of_writing_a_private_address_is_refused() {
        let check = |text: &str| Reach::default().check(&Url::parse(text).unwrap());
        for text in [
            "http://127.0.0.1",
            "http://127.1/",
            "http://0/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://017700000001/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[fd00::1]:8080/",
            "http://169.254.169.254/latest/meta-data/",
            "https://192.168.0.1",
        ] {
            assert!(matches!(check(text), Err(AddressError::Private { .. })), "{text}: {:?}", check(text));
        }
        for text in ["ftp://example.org/", "file:///etc/passwd", "http://me:secret@example.org/", "data:text/plain,x"] {
            assert!(matches!(check(text), Err(AddressError::NotHttp(_))), "{text}");
        }
        assert_eq!(check("https://example.org/a"), Ok(()));
        assert_eq!(Reach { private: true }.check(&Url::parse("http://127.0.0.1/").unwrap()), Ok(()));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_private_address_is_refused() {
        let name = || "localhost".parse::<Name>().unwrap();
        let error = Checked(Reach::default()).resolve(name()).await.err().unwrap().to_string();
        assert!(error.contains("localhost is an address of a private network"), "{error}");
        assert!(Checked(Reach { private: true }).resolve(name()).await.unwrap().count() > 0);
    }
}
