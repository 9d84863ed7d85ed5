//! Names of things: each is checked once, at the edge, and cannot be wrong afterwards. Cheap to clone: up to 23 bytes
//! without an allocation.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};
use smol_str::SmolStr;
use thiserror::Error;

/// The longest card, employee, building or gate id, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// Why a text is not an id.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidId {
    /// Empty, or longer than [`MAX_ID_BYTES`].
    #[error("must be 1 to {MAX_ID_BYTES} characters long, is {0}")]
    Length(usize),
    /// A character that the id may not hold.
    #[error("must hold only {allowed}, has {found:?}")]
    Character {
        /// The first character that is not allowed.
        found: char,
        /// Which ones are.
        allowed: &'static str,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $extra:literal, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks `text` and keeps it exactly as it is.
            ///
            /// # Errors
            /// [`InvalidId`] if the length or a character is not allowed.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                check(text, $extra, $allowed).map(|()| Self(text.into()))
            }

            /// The id as it was sent.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                check(&text, $extra, $allowed).map(|()| Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        /// Lets maps keyed by the id be asked with plain text from a request.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// A card number, kept as the reader sent it: no guessing of byte order or facility codes.
    CardId, ":_-", "A-Z a-z 0-9 : _ -"
);
id!(
    /// A person, as the card office names them. Anti-passback is keyed on this, not on the card.
    EmployeeId, ":_-.@", "A-Z a-z 0-9 : _ - . @"
);
id!(
    /// A building; belongs to exactly one server.
    BuildingId, "_-", "A-Z a-z 0-9 _ -"
);
id!(
    /// A gate, unique within its building.
    GateId, "_-", "A-Z a-z 0-9 _ -"
);
id!(
    /// An access group, as the configuration has it and cards name it.
    GroupId, "_-", "A-Z a-z 0-9 _ -"
);

id!(
    /// A replay, as the operator who began it names it.
    ReplayName, "_-.", "A-Z a-z 0-9 _ - ."
);

fn check(text: &str, extra: &str, allowed: &'static str) -> Result<(), InvalidId> {
    if text.is_empty() || text.len() > MAX_ID_BYTES {
        return Err(InvalidId::Length(text.chars().count()));
    }
    match text.chars().find(|&c| !c.is_ascii_alphanumeric() && !extra.contains(c)) {
        Some(found) => Err(InvalidId::Character { found, allowed }),
        None => Ok(()),
    }
}

/// The name of a sequence of events: the server's id and an epoch, written `hq-1.1`. A new, restored or
/// repaired data directory has the next epoch, so `(log, sequence)` never names two events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogName {
    /// `[server] id`.
    pub server: String,
    /// Rises with every new data directory of this server.
    pub epoch: u64,
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.server, self.epoch)
    }
}

/// Why a text is not the name of a log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not the name of a log, expected `<server id>.<epoch>`")]
pub struct InvalidLogName(String);

impl FromStr for LogName {
    type Err = InvalidLogName;
    fn from_str(text: &str) -> Result<Self, InvalidLogName> {
        let parts = text.rsplit_once('.').and_then(|(server, epoch)| Some((server, epoch.parse().ok()?)));
        match parts {
            Some((server, epoch)) if !server.is_empty() => Ok(Self { server: server.to_owned(), epoch }),
            _ => Err(InvalidLogName(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_what_was_sent_and_refuse_the_rest() {
        assert_eq!(CardId::parse("04A2:b9_C-1").unwrap().as_str(), "04A2:b9_C-1");
        assert_eq!(CardId::parse(""), Err(InvalidId::Length(0)));
        assert_eq!(CardId::parse(&"x".repeat(65)), Err(InvalidId::Length(65)));
        assert!(matches!(CardId::parse("a b"), Err(InvalidId::Character { found: ' ', .. })));
        assert!(matches!(GateId::parse("../x"), Err(InvalidId::Character { found: '.', .. })));
        assert!(EmployeeId::parse("jane.doe@hq").is_ok());
    }

    #[test]
    fn a_log_is_named_by_server_and_epoch() {
        let name = LogName { server: "hq.west-1".into(), epoch: 3 };
        assert_eq!(name.to_string(), "hq.west-1.3");
        assert_eq!(name.to_string().parse(), Ok(name));
        for text in ["", "hq", ".3", "hq.", "hq.x", "hq.-1"] {
            assert!(text.parse::<LogName>().is_err(), "{text}");
        }
    }
}
