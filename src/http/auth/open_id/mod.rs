//! People's tokens of an OpenID provider: JWTs signed with RS256 or ES256 by a key that the provider shows.
//!
//! The keys are fetched beside requests ([`refresh`]), and kept on disk for the day on which the provider cannot be
//! reached. A token that names an unknown key waits for one look whether the provider has changed its keys.

mod claims;
mod fetch;
mod key_set;
mod refresh;

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use self::key_set::KeySet;
pub use self::{claims::Refused, fetch::FetchError, key_set::KeySetError, refresh::Refresh};
use super::person::Person;
use crate::{
    clock,
    domain::{provider::Provider, time::Timestamp},
};

/// How long a token with an unknown key waits for a look at the provider's keys.
const KEY_WAIT: Duration = Duration::from_secs(3);

/// How often unknown keys may cause such a look: whoever makes names up makes no load at the provider.
pub const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(10);

/// Tokens are checked against what this knows.
#[derive(Debug)]
pub struct OpenId {
    provider: Provider,
    keys: watch::Receiver<Keys>,
    wanted: Arc<Notify>,
}

/// What is known of the provider's keys.
#[derive(Clone, Debug, Default)]
struct Keys {
    set: Arc<KeySet>,
    /// When the last look at the provider ended, well or badly.
    looked_at: Option<Instant>,
}

impl OpenId {
    /// Knows no key before `Refresh::run` does.
    #[must_use]
    pub fn new(provider: Provider) -> (Self, Refresh) {
        let (sender, keys) = watch::channel(Keys::default());
        let wanted = Arc::new(Notify::new());
        let refresh = Refresh::new(provider.clone(), sender, Arc::clone(&wanted));
        (Self { provider, keys, wanted }, refresh)
    }

    /// The person that a token names. It waits at most [`KEY_WAIT`].
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn person(&self, token: &str) -> Result<Person, Refused> {
        let mut keys = self.keys.clone();
        let first = keys.borrow_and_update().clone();
        match self.verify(token, &first.set, clock::wall()) {
            Err(Refused::UnknownKey) if may_look(first.looked_at, Instant::now()) => {
                self.wanted.notify_one();
                // too late, or nobody looks any more: what is known then decides
                let _ = timeout(KEY_WAIT, keys.changed()).await;
                let now = keys.borrow().clone();
                self.verify(token, &now.set, clock::wall())
            }
            judged => judged,
        }
    }

    fn verify(&self, token: &str, keys: &KeySet, now: Timestamp) -> Result<Person, Refused> {
        let header = decode_header(token).map_err(|_| Refused::NotSigned)?;
        let is_possible = matches!(header.alg, Algorithm::RS256 | Algorithm::ES256);
        // RFC 7515, section 4.1.11: what a token insists on must be understood
        if !is_possible || header.extras.get::<Value>("crit").is_ok_and(|crit| crit.is_some()) {
            return Err(Refused::NotSigned);
        }
        let key = keys.find(header.kid.as_deref()).ok_or(Refused::UnknownKey)?;
        // the signature here, everything else in `claims`
        let mut rules = Validation::new(key.algorithm);
        rules.required_spec_claims.clear();
        (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
        let token = decode::<Map<String, Value>>(token, &key.key, &rules).map_err(|_| Refused::NotSigned)?;
        claims::person(&token.claims, &self.provider, now)
    }
}

/// Whether an unknown key is a reason to look at the provider's keys.
fn may_look(looked_at: Option<Instant>, now: Instant) -> bool {
    looked_at.is_none_or(|looked_at| now.duration_since(looked_at) >= MIN_FETCH_INTERVAL)
}

#[cfg(test)]
mod tests;
