//! Cursors that go with one query of one person, and that nobody else can make: a query is recorded once, with its first
//! page, and a made-up cursor would be a query that nobody has recorded.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const KEY_BYTES: usize = 32;
const PLACE_BYTES: usize = 8;
/// Half of the hash is enough (RFC 2104, section 5).
const MAC_BYTES: usize = 16;

/// What cursors are made with. A start makes a new one, so a cursor does not outlive its server.
pub struct CursorKey([u8; KEY_BYTES]);

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CursorKey").finish_non_exhaustive()
    }
}

impl CursorKey {
    /// A new key.
    ///
    /// # Errors
    /// The kernel has no random bytes to give.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }

    /// The cursor of a query that goes on at this place.
    #[must_use]
    pub fn seal(&self, place: u64, query: &[u8]) -> String {
        let place = place.to_le_bytes();
        let mac = self.mac(&place, query).map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
        let mac = mac.get(..MAC_BYTES).unwrap_or_default();
        URL_SAFE_NO_PAD.encode([place.as_slice(), mac].concat())
    }

    /// Where a cursor goes on; `None` if it is not one of this query.
    #[must_use]
    pub fn open(&self, cursor: &str, query: &[u8]) -> Option<u64> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (place, mac) = bytes.split_first_chunk::<PLACE_BYTES>()?;
        if mac.len() != MAC_BYTES {
            return None;
        }
        self.mac(place, query)?.verify_truncated_left(mac).ok()?;
        Some(u64::from_le_bytes(*place))
    }

    fn mac(&self, place: &[u8; PLACE_BYTES], query: &[u8]) -> Option<Hmac<Sha256>> {
        // a key of any length will do, so there always is one
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(place);
        mac.update(query);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_goes_with_its_query_and_its_server(
            place in any::<u64>(),
            query in proptest::collection::vec(any::<u8>(), 0..40),
            other in proptest::collection::vec(any::<u8>(), 0..40),
            bit in 0..192_usize,
        ) {
            let (key, next) = (CursorKey::new().unwrap(), CursorKey::new().unwrap());
            let cursor = key.seal(place, &query);
            prop_assert_eq!(key.open(&cursor, &query), Some(place));
            prop_assert_eq!(next.open(&cursor, &query), None);
            prop_assert!(query == other || key.open(&cursor, &other).is_none());
            let mut bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(&bytes), &query), None);
            prop_assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(&bytes[1..]), &query), None);
        }

        #[test]
        fn arbitrary_text_is_no_cursor(text in ".{0,60}") {
            prop_assert_eq!(CursorKey::new().unwrap().open(&text, b"q"), None);
        }
    }
}
