//! The local issuer of people's tokens: HS256 with a key of the data directory's own, for a server that has
//! no identity provider yet.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::person::{Grant, Person};
use crate::{clock, data_dir, domain::time::Timestamp};

/// The key's file in the data directory.
pub const KEY_FILE: &str = "local-issuer.key";

/// 256 bits, as long as the hash (RFC 7518, section 3.2).
const KEY_BYTES: usize = 32;

/// How far the clocks of issuer and server may differ: they are the same machine's.
const LEEWAY_SECONDS: u64 = 5;

const AUDIENCE: &str = "turnstiled";

/// Issues and verifies tokens.
pub struct LocalIssuer {
    name: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// Why the issuer cannot be used.
#[derive(Debug, Error)]
pub enum IssuerError {
    /// The key file cannot be read or made.
    #[error("the local issuer's key {} cannot be used: {source}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file holds something else.
    #[error("the local issuer's key {} is {bytes} bytes long, not {KEY_BYTES}; move it away for a new one (tokens end)", path.display())]
    KeyLength {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The token cannot be made.
    #[error("the token cannot be made: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    exp: u64,
    roles: Vec<String>,
}

impl std::fmt::Debug for LocalIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalIssuer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LocalIssuer {
    /// The issuer of one server; its key is made at the first use, readable by the owner only.
    ///
    /// # Errors
    /// [`IssuerError`] if the key can be neither read nor made.
    pub fn open(data_dir: &Path, server: &str) -> Result<Self, IssuerError> {
        let path = data_dir.join(KEY_FILE);
        let key =
            read_or_make(&path).map_err(|source| IssuerError::KeyFile { path: path.clone(), source })?;
        if key.len() != KEY_BYTES {
            return Err(IssuerError::KeyLength { path, bytes: key.len() });
        }
        Ok(Self {
            name: format!("turnstiled/{server}"),
            encoding: EncodingKey::from_secret(&key),
            decoding: DecodingKey::from_secret(&key),
        })
    }

    /// A token for `subject`.
    ///
    /// # Errors
    /// [`IssuerError::Token`] if it cannot be signed.
    pub fn issue(&self, subject: &str, grants: &[Grant], ttl: Duration) -> Result<String, IssuerError> {
        let now = now_seconds();
        let claims = Claims {
            iss: self.name.clone(),
            aud: AUDIENCE.to_owned(),
            sub: subject.to_owned(),
            iat: now,
            exp: now.saturating_add(ttl.as_secs()),
            roles: grants.iter().map(ToString::to_string).collect(),
        };
        Ok(encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)?)
    }

    /// The person a token names, if it is this issuer's, unchanged and not over. Roles that this version
    /// does not know allow nothing.
    #[must_use]
    pub fn verify(&self, token: &str) -> Option<Person> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[&self.name]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.leeway = LEEWAY_SECONDS;
        rules.validate_nbf = true;
        let claims = decode::<Claims>(token, &self.decoding, &rules).ok()?.claims;
        let grants = claims.roles.iter().filter_map(|role| role.parse().ok()).collect();
        let expires_at = i64::try_from(claims.exp).unwrap_or(i64::MAX).saturating_mul(1_000);
        Some(Person {
            subject: claims.sub,
            grants,
            expires_at: Some(Timestamp::from_millis(expires_at)),
            key_id: None,
        })
    }
}

fn now_seconds() -> u64 {
    u64::try_from(clock::wall().as_millis()).unwrap_or(0) / 1_000
}

fn read_or_make(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = vec![0; KEY_BYTES];
            getrandom::fill(&mut key).map_err(io::Error::other)?;
            match data_dir::create_private(path, &key) {
                // Another process was first: its key counts.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read(path),
                made => made.map(|()| key),
            }
        }
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(issuer: &LocalIssuer, ttl: Duration) -> String {
        issuer.issue("ada", &["hr".parse().unwrap(), "security@hq".parse().unwrap()], ttl).unwrap()
    }

    #[test]
    fn a_token_names_its_person_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = LocalIssuer::open(dir.path(), "hq-1").unwrap();
        let token = issue(&LocalIssuer::open(dir.path(), "hq-1").unwrap(), Duration::from_secs(60));
        let person = issuer.verify(&token).unwrap();
        assert_eq!((person.subject.as_str(), person.grants.len()), ("ada", 2));

        let now = now_seconds();
        let over = Claims {
            iss: issuer.name.clone(),
            aud: AUDIENCE.into(),
            sub: "ada".into(),
            iat: now - 90,
            exp: now - 30,
            roles: vec![],
        };
        let over = encode(&Header::new(Algorithm::HS256), &over, &issuer.encoding).unwrap();
        assert!(issuer.verify(&over).is_none());
    }

    #[test]
    fn foreign_changed_and_unsigned_tokens_are_refused() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let issuer = LocalIssuer::open(here.path(), "hq-1").unwrap();
        let foreign = LocalIssuer::open(there.path(), "hq-1").unwrap();
        assert!(issuer.verify(&issue(&foreign, Duration::from_secs(60))).is_none());
        let other_server = LocalIssuer::open(here.path(), "hq-2").unwrap();
        assert!(issuer.verify(&issue(&other_server, Duration::from_secs(60))).is_none());
        let token = issue(&issuer, Duration::from_secs(60));
        let (_, rest) = token.split_once('.').unwrap();
        // {"alg":"none","typ":"JWT"}
        assert!(issuer.verify(&format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{rest}")).is_none());
        assert!(issuer.verify(&token[..token.len() - 2]).is_none());
        assert!(issuer.verify("").is_none());
    }
}
