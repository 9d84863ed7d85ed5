//! Which names a server answers to. A browser that was led here under another name (DNS rebinding) is sent away.

use core::net::Ipv6Addr;

use thiserror::Error;

/// The longest name of a host (RFC 1035), with room for a port.
const MAX_HOST_BYTES: usize = 255 + 6;

/// A name that is accepted in `Host`: `gate.hq.example` with any port, `gate.hq.example:8443` with this one only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// In lower case, without brackets and a last dot.
    name: String,
    port: Option<u16>,
}

/// Why a text names no host.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("is no name of a host")]
pub struct InvalidHost;

impl HostName {
    /// Reads a name, an IPv4 address or an IPv6 address in brackets, each possibly with `:port`.
    ///
    /// # Errors
    /// [`InvalidHost`] if it is none of these.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        if text.len() > MAX_HOST_BYTES {
            return Err(InvalidHost);
        }
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').ok_or(InvalidHost)?;
                let address: Ipv6Addr = address.parse().map_err(|_| InvalidHost)?;
                (address.to_string(), rest.strip_prefix(':').or(rest.is_empty().then_some("")))
            }
            None => match text.split_once(':') {
                Some((name, port)) => (dns_name(name)?, Some(port)),
                None => (dns_name(text)?, Some("")),
            },
        };
        let port = match port.ok_or(InvalidHost)? {
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| InvalidHost)?)
            }
            _ => return Err(InvalidHost),
        };
        Ok(Self { name, port })
    }

    /// Whether a request that says `Host: <host>` is meant.
    #[must_use]
    pub fn accepts(&self, host: &HostName) -> bool {
        self.name == host.name && (self.port.is_none() || self.port == host.port)
    }
}

fn dns_name(text: &str) -> Result<String, InvalidHost> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(allowed) {
        return Err(InvalidHost);
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(entry: &str, host: &str) -> bool {
        let host = HostName::parse(host);
        host.is_ok_and(|host| HostName::parse(entry).unwrap().accepts(&host))
    }

    #[test]
    fn a_name_is_accepted_in_any_case_and_with_any_port() {
        for host in ["gate.hq.example", "GATE.hq.Example", "gate.hq.example:8443", "gate.hq.example."] {
            assert!(accepts("Gate.hq.example", host), "{host}");
        }
        for host in
            ["hq.example", "x.gate.hq.example", "gate.hq.example.evil", "", ":80", "gate.hq.example:x"]
        {
            assert!(!accepts("gate.hq.example", host), "{host}");
        }
    }

    #[test]
    fn a_port_that_is_given_counts() {
        assert!(accepts("gate:8443", "gate:8443"));
        assert!(!accepts("gate:8443", "gate") && !accepts("gate:8443", "gate:80"));
    }

    #[test]
    fn addresses_are_names_too() {
        assert!(accepts("127.0.0.1", "127.0.0.1:8080"));
        assert!(accepts("[::1]", "[0:0::1]:8080"));
        for wrong in ["::1", "[::1", "[::1]x", "a b", "a/b", "a@b", "a:1:2", "a:65536", "a:+1", "..", "."] {
            assert_eq!(HostName::parse(wrong), Err(InvalidHost), "{wrong}");
        }
        assert!(HostName::parse(&"a".repeat(300)).is_err());
    }
}
