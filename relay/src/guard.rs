//! Which addresses and which pages a request may come by: `Host` and `Origin` are checked before anything else, so that
//! no web page reaches a relay on localhost, not even under a name that somebody points there.
//!
//! Pure: header values in, a verdict out. A refusal names the host and the key of `skein.toml` that allows it.

use std::net::{IpAddr, SocketAddr};

use axum::http::Uri;

/// What is allowed, from the configuration.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    public: Option<Authority>,
    hosts: Vec<String>,
    origins: Vec<Authority>,
}

/// A scheme, a host in lower case, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Authority {
    scheme: String,
    host: String,
    port: u16,
}

/// Why a request is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is addressed to a name that isn't the relay's.
    #[error("this relay is not known as \"{0}\": if it should be, add it to allowed_hosts under [relay] in skein.toml")]
    Host(String),
    /// It says to no host at all.
    #[error("the request has no usable Host header")]
    NoHost,
    /// It comes from a page of another site.
    #[error(
        "pages of {0} may not use this relay: if they should, add it to allowed_origins under [relay] in skein.toml"
    )]
    Origin(String),
}

/// Where an allowed request's page is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// No page (a program), or one that this relay served.
    Here,
    /// A page of an allowed origin, which must be told so.
    Elsewhere(String),
}

impl Guard {
    /// Reads the configuration; the error is the entry that is no address.
    pub fn new(public_url: Option<&str>, allowed_origins: &[String], allowed_hosts: &[String]) -> Result<Self, String> {
        let parse = |text: &str| Authority::parse(text).ok_or_else(|| text.to_owned());
        Ok(Self {
            public: public_url.map(parse).transpose()?,
            hosts: allowed_hosts.iter().map(|host| host.trim().to_ascii_lowercase()).collect(),
            origins: allowed_origins.iter().map(|origin| parse(origin)).collect::<Result<_, _>>()?,
        })
    }

    /// Judges a request by its headers.
    pub fn check(&self, host: Option<&str>, origin: Option<&str>) -> Result<From, Refused> {
        let shown = host.ok_or(Refused::NoHost)?;
        let (name, port) = split(shown).ok_or(Refused::NoHost)?;
        if !self.knows(&name) {
            return Err(Refused::Host(clip(shown)));
        }
        let Some(origin) = origin else { return Ok(From::Here) };
        let refused = || Refused::Origin(clip(origin));
        let from = Authority::parse(origin).ok_or_else(refused)?;
        // A page that was loaded from the very host and port that it now talks to. The host was checked above, so a
        // foreign name that was pointed at this machine doesn't get here. Behind a proxy that ends TLS the page's scheme
        // is https and the request's isn't, so only the port that the scheme stands for is compared.
        let same = from.host == name && port.unwrap_or(from.default_port()) == from.port;
        if same || self.public.as_ref() == Some(&from) {
            Ok(From::Here)
        } else if self.origins.contains(&from) {
            Ok(From::Elsewhere(origin.to_owned()))
        } else {
            Err(refused())
        }
    }

    fn knows(&self, name: &str) -> bool {
        name == "localhost"
            || name.parse::<IpAddr>().is_ok()
            || self.public.as_ref().is_some_and(|public| public.host == name)
            || self.hosts.iter().any(|host| host == name)
    }
}

impl Authority {
    fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let (host, port) = split(rest.split('/').next()?)?;
        Some(Self { scheme, host, port: port.unwrap_or(default) })
    }

    fn default_port(&self) -> u16 {
        if self.scheme == "https" { 443 } else { 80 }
    }
}

/// Host, in lower case and without brackets, and port of `host`, `host:port` or `[v6]:port`.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_string(), Some(address.port())));
    }
    if let Some(v6) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Some((v6.parse::<IpAddr>().ok()?.to_string(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return None;
    }
    Some((name, port))
}

fn clip(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(100).collect()
}

/// The host that a request names: its `Host` header, or the absolute address in its first line.
pub fn host_of<'a>(uri: &'a Uri, header: Option<&'a str>) -> Option<&'a str> {
    uri.authority().map(|authority| authority.as_str()).or(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let origins = ["https://app.example.net".to_owned()];
        Guard::new(Some("https://skein.example.org"), &origins, &["skein.lan".to_owned()]).unwrap()
    }

    #[test]
    fn addresses_localhost_and_configured_names_are_hosts() {
        for host in ["127.0.0.1:7700", "192.168.1.5", "[::1]:7700", "[::1]", "localhost", "LOCALHOST:1", "skein.lan:80"]
        {
            assert_eq!(guard().check(Some(host), None), Ok(From::Here), "{host}");
        }
        assert_eq!(guard().check(Some("skein.example.org"), None), Ok(From::Here));
    }

    #[test]
    fn a_foreign_name_is_refused_and_the_refusal_says_what_allows_it() {
        let refused = guard().check(Some("evil.example:7700"), None).unwrap_err();
        assert_eq!(refused, Refused::Host("evil.example:7700".into()));
        let text = refused.to_string();
        assert!(text.contains("evil.example:7700") && text.contains("allowed_hosts"));
        for host in
            ["localhost.evil.example", "127.0.0.1.nip.io", "user@localhost", "", "a b", "localhost:", "localhost:x"]
        {
            assert!(guard().check(Some(host), None).is_err(), "{host}");
        }
        assert_eq!(guard().check(None, None), Err(Refused::NoHost));
    }

    #[test]
    fn a_page_of_this_relay_may_use_it() {
        for (host, origin) in [
            ("127.0.0.1:7700", "http://127.0.0.1:7700"),
            ("localhost:7700", "http://localhost:7700"),
            ("192.168.1.5", "http://192.168.1.5"),
            ("skein.lan", "https://skein.lan"),
            ("[::1]:7700", "http://[::1]:7700"),
            ("127.0.0.1:7700", "https://skein.example.org"),
        ] {
            assert_eq!(guard().check(Some(host), Some(origin)), Ok(From::Here), "{host} {origin}");
        }
    }

    #[test]
    fn a_page_of_an_allowed_origin_is_told_so() {
        let from = guard().check(Some("127.0.0.1:7700"), Some("https://app.example.net"));
        assert_eq!(from, Ok(From::Elsewhere("https://app.example.net".into())));
    }

    #[test]
    fn no_other_page_reaches_a_relay_on_localhost() {
        for origin in [
            "http://evil.example",
            "null",
            "",
            "http://localhost:8080",
            "http://127.0.0.1",
            "http://localhost:7700.evil.example",
            "https://app.example.net:444",
            "http://app.example.net",
            "chrome-extension://abc",
            "file://",
        ] {
            let refused = guard().check(Some("localhost:7700"), Some(origin)).unwrap_err();
            assert!(matches!(&refused, Refused::Origin(_)), "{origin}");
            assert!(refused.to_string().contains("allowed_origins"));
        }
        // The name was pointed at this machine: its own page is of "the same origin".
        let rebound = guard().check(Some("evil.example:7700"), Some("http://evil.example:7700"));
        assert!(matches!(rebound, Err(Refused::Host(_))));
    }

    #[test]
    fn a_configured_address_that_is_none_is_named() {
        assert_eq!(Guard::new(Some("skein.example.org"), &[], &[]).unwrap_err(), "skein.example.org");
        assert_eq!(Guard::new(None, &["*".to_owned()], &[]).unwrap_err(), "*");
    }
}
