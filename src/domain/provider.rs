//! An OpenID provider: whose tokens people may come with.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use thiserror::Error;

/// The longest URL, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;

/// Whose tokens are taken, and how their keys are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its tokens' `iss`, to the letter.
    pub issuer: TrustedUrl,
    /// Who its tokens must be meant for: one of these.
    pub audience: Vec<String>,
    /// The claim that lists roles.
    pub roles_claim: String,
    /// Where its public keys are.
    pub keys: KeySource,
}

/// Where a provider's public keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Where `<issuer>/.well-known/openid-configuration` says (OpenID Connect Discovery 1.0).
    Discovery,
    /// There.
    Url(TrustedUrl),
    /// In a file, for a server that has no way out.
    File(PathBuf),
}

/// An URL whose answer can be believed: `https://`, or `http://` of this machine. Kept to the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedUrl(String);

/// Why a text is no such URL.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidUrl {
    /// Too long.
    #[error("is longer than {MAX_URL_BYTES} bytes")]
    Length,
    /// Something else.
    #[error("is no URL of the form https://host/path")]
    Form,
    /// Whoever stands in between could answer.
    #[error("is neither https:// nor http:// of this machine (localhost, 127.0.0.1, [::1])")]
    NotTrusted,
}

impl TrustedUrl {
    /// The URL as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same with a path added.
    ///
    /// # Errors
    /// [`InvalidUrl::Length`] if it gets too long.
    pub fn join(&self, path: &str) -> Result<Self, InvalidUrl> {
        format!("{}/{path}", self.0.trim_end_matches('/')).parse()
    }
}

impl FromStr for TrustedUrl {
    type Err = InvalidUrl;
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        if text.len() > MAX_URL_BYTES {
            return Err(InvalidUrl::Length);
        }
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl::Form)?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = host_of(authority).ok_or(InvalidUrl::Form)?;
        if !text.bytes().all(is_plain) {
            return Err(InvalidUrl::Form);
        }
        match scheme {
            "https" => Ok(Self(text.to_owned())),
            "http" if is_loopback(host) => Ok(Self(text.to_owned())),
            _ => Err(InvalidUrl::NotTrusted),
        }
    }
}

impl fmt::Display for TrustedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The host of `host`, `host:port` or `[v6]:port`; none with a user in front, which is for fooling people.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let is_host = !host.is_empty() && !host.contains('@') && !port.contains('@');
    (is_host && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_is_trusted_and_http_of_this_machine_alone() {
        for text in [
            "https://a.example/pool",
            "https://a",
            "http://localhost:9",
            "http://127.0.0.1:1/x?y=z",
            "http://[::1]:8/",
        ] {
            assert_eq!(text.parse::<TrustedUrl>().map(|url| url.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["http://a.example", "http://localhost.example", "http://127.0.0.1.example/", "ftp://localhost"]
        {
            assert_eq!(text.parse::<TrustedUrl>(), Err(InvalidUrl::NotTrusted), "{text}");
        }
        for text in [
            "",
            "https://",
            "https:///x",
            "http://localhost@evil/",
            "http://localhost:80@evil/",
            "https://a b",
            "https://a/#x",
        ] {
            assert_eq!(text.parse::<TrustedUrl>(), Err(InvalidUrl::Form), "{text}");
        }
        assert_eq!(
            format!("https://{}", "a".repeat(MAX_URL_BYTES)).parse::<TrustedUrl>(),
            Err(InvalidUrl::Length)
        );
    }

    #[test]
    fn a_path_is_added_with_one_slash() {
        for issuer in ["https://a/pool", "https://a/pool/"] {
            let joined = issuer.parse::<TrustedUrl>().unwrap().join(".well-known/x").unwrap();
            assert_eq!(joined.as_str(), "https://a/pool/.well-known/x");
        }
    }
}
