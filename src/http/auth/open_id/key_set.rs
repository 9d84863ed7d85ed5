//! A provider's public keys (JWK Set, RFC 7517), as far as tokens may be signed with them. Pure.
//!
//! A key decides by its type which one algorithm it verifies; what a token's header says only has to agree. So no
//! token can have a public key taken for a shared secret.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// The most keys that are kept of a set; further ones are passed over. Providers have two to five.
pub(super) const MAX_KEYS: usize = 100;

/// RSA moduli below 2048 bits are no longer safe (RFC 7518, section 3.3); above 8192 a check takes too long.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// A coordinate on the curve P-256 (RFC 7518, section 6.2.1.2).
const P256_COORDINATE_BYTES: usize = 32;

/// The keys by which tokens are checked.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<PublicKey>,
}

/// One key, with the only algorithm that it verifies.
pub(super) struct PublicKey {
    id: Option<String>,
    /// RS256 or ES256.
    pub(super) algorithm: Algorithm,
    /// The key itself.
    pub(super) key: DecodingKey,
}

/// Why a text is no set of keys that can be used.
#[derive(Debug, Error)]
pub enum KeySetError {
    /// Something else.
    #[error("it is no JWK set: {0}")]
    Json(#[from] serde_json::Error),
    /// No key of it is fit.
    #[error("none of its {0} keys is an RSA key of 2048 to 8192 bits for RS256 or a P-256 key for ES256")]
    NoneFit(usize),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    used_for: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl KeySet {
    /// Reads a set. Keys for other uses, of other kinds and with mistakes are passed over, as RFC 7517 (section 5) wants.
    ///
    /// # Errors
    /// [`KeySetError`] if it is no set, or no key of it is left.
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let Set { keys } = serde_json::from_slice(json)?;
        let given = keys.len();
        let fit = keys.into_iter().filter_map(|key| serde_json::from_value(key).ok().and_then(PublicKey::of));
        let keys: Vec<_> = fit.take(MAX_KEYS).collect();
        if keys.is_empty() { Err(KeySetError::NoneFit(given)) } else { Ok(Self { keys }) }
    }

    /// The key that a token names. One without a name is meant for the only key there is.
    #[must_use]
    pub(super) fn find(&self, id: Option<&str>) -> Option<&PublicKey> {
        match (id, self.keys.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
        }
    }

    /// How many there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl PublicKey {
    fn of(jwk: Jwk) -> Option<Self> {
        let is_for_signatures = jwk.used_for.as_deref().is_none_or(|used_for| used_for == "sig")
            && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let is_named = |name: &str| jwk.alg.as_deref().is_none_or(|alg| alg == name);
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_or(0, |bytes| bytes.len());
        let (algorithm, key) = match jwk.kty.as_str() {
            "RSA" if is_named("RS256") => {
                let (n, e) = (jwk.n?, jwk.e?);
                let is_safe = RSA_MODULUS_BYTES.contains(&bytes(&n));
                (Algorithm::RS256, DecodingKey::from_rsa_components(&n, &e).ok().filter(|_| is_safe)?)
            }
            "EC" if is_named("ES256") && jwk.crv.as_deref() == Some("P-256") => {
                let (x, y) = (jwk.x?, jwk.y?);
                let is_whole = [&x, &y].iter().all(|text| bytes(text) == P256_COORDINATE_BYTES);
                (Algorithm::ES256, DecodingKey::from_ec_components(&x, &y).ok().filter(|_| is_whole)?)
            }
            _ => return None,
        };
        is_for_signatures.then_some(Self { id: jwk.kid, algorithm, key })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rsa(bytes: usize) -> Value {
        json!({ "kty": "RSA", "kid": "r", "n": URL_SAFE_NO_PAD.encode(vec![0xc1; bytes]), "e": "AQAB" })
    }

    fn ec() -> Value {
        // RFC 7517, appendix A.1
        json!({ "kty": "EC", "kid": "e", "crv": "P-256",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM" })
    }

    fn with(mut key: Value, member: &str, value: Value) -> Value {
        key[member] = value;
        key
    }

    fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn a_key_verifies_the_algorithm_of_its_type() {
        let set = set(&[rsa(256), ec()]).unwrap();
        assert_eq!(set.find(Some("r")).unwrap().algorithm, Algorithm::RS256);
        assert_eq!(set.find(Some("e")).unwrap().algorithm, Algorithm::ES256);
        assert!(set.find(Some("x")).is_none());
        assert!(set.find(None).is_none(), "which of the two?");
        assert!(self::set(&[ec()]).unwrap().find(None).is_some());
    }

    #[test]
    fn keys_for_something_else_are_passed_over() {
        for key in [
            rsa(128),
            rsa(2_048),
            with(rsa(256), "use", json!("enc")),
            with(rsa(256), "key_ops", json!(["sign"])),
            with(rsa(256), "alg", json!("RS512")),
            with(rsa(256), "n", json!("not base64!")),
            with(rsa(256), "kty", json!("oct")),
            with(ec(), "crv", json!("P-384")),
            with(ec(), "x", json!("AAAA")),
            with(ec(), "kty", json!(7)),
            json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "o" }),
            json!(null),
        ] {
            assert!(matches!(set(std::slice::from_ref(&key)), Err(KeySetError::NoneFit(1))), "{key}");
            assert_eq!(set(&[key, ec()]).unwrap().len(), 1);
        }
        for text in ["", "{}", "[]", "<html>"] {
            assert!(matches!(KeySet::parse(text.as_bytes()), Err(KeySetError::Json(_))), "{text}");
        }
    }
}
