//! The secret that a webhook is signed with, as Standard Webhooks writes it.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret, by Standard Webhooks 1.0.
const SECRET_BYTES: RangeInclusive<usize> = 24..=64;

/// The key of a webhook's signatures. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

/// A text is no such secret. The message does not repeat the text.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a secret is {PREFIX} and {} to {} bytes in base64", SECRET_BYTES.start(), SECRET_BYTES.end())]
pub struct InvalidWebhookSecret;

impl WebhookSecret {
    /// The key itself.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for WebhookSecret {
    type Err = InvalidWebhookSecret;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidWebhookSecret)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidWebhookSecret)?;
        if SECRET_BYTES.contains(&key.len()) { Ok(Self(key)) } else { Err(InvalidWebhookSecret) }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("WebhookSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_prefix_and_enough_bytes_and_is_not_shown() {
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        assert_eq!(secret.key().len(), 24);
        assert_eq!(format!("{secret:?}"), "WebhookSecret(..)");
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for wrong in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_?", &short, &long] {
            assert_eq!(wrong.parse::<WebhookSecret>(), Err(InvalidWebhookSecret), "{wrong}");
        }
    }
}
