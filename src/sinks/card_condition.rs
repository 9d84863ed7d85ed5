//! When a card's item may be written: by the rule of `domain/card_sync.rs`, so that a table that several servers write to, in
//! whatever order, comes to the card that they come to.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::domain::card::Status;

/// A state of a card, as far as its item is judged by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardState {
    /// Its version.
    pub version: u64,
    /// Its status.
    pub status: Status,
    /// The server that made the version.
    pub server: String,
}

impl CardState {
    /// It counts more than what is there: revoked before everything else, then the version, the more restrictive
    /// status, the server. Items of programs that knew no `version_by` lose a tie.
    pub(super) fn expression(&self) -> String {
        let is_by_less = "attribute_not_exists(#version_by) OR #version_by < :by";
        if self.status == Status::Revoked {
            return format!(
                "attribute_not_exists(PK) OR #status <> :status OR #version < :version OR (#version = :version AND ({is_by_less}))"
            );
        }
        let is_same = format!("#status = :status AND ({is_by_less})");
        let less: Vec<String> =
            self.less_restrictive().map(|status| format!(":{}", status.as_str())).collect();
        // DynamoDB refuses parentheses around parentheses
        let is_less = match less.as_slice() {
            [] => is_same,
            less => format!("#status IN ({}) OR ({is_same})", less.join(", ")),
        };
        format!(
            "attribute_not_exists(PK) OR (#status <> :revoked AND (#version < :version OR (#version = :version AND \
             ({is_less}))))"
        )
    }

    /// The attributes that the expression names.
    pub(super) const ATTRIBUTES: &[&str] = &["status", "version", "version_by"];

    pub(super) fn values(&self) -> HashMap<String, AttributeValue> {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut values = HashMap::from([
            (":version".to_owned(), AttributeValue::N(self.version.to_string())),
            (":status".to_owned(), text(self.status.as_str())),
            (":by".to_owned(), text(&self.server)),
        ]);
        // a value that the expression does not use is an error
        if self.status != Status::Revoked {
            values.insert(":revoked".to_owned(), text(Status::Revoked.as_str()));
            let less = self
                .less_restrictive()
                .map(|status| (format!(":{}", status.as_str()), text(status.as_str())));
            values.extend(less);
        }
        values
    }

    fn less_restrictive(&self) -> impl Iterator<Item = Status> {
        let status = self.status;
        [Status::Active, Status::Suspended, Status::Lost].into_iter().filter(move |less| *less < status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of each pair of parentheses.
    fn pairs(text: &str) -> Vec<(usize, usize)> {
        let (mut open, mut pairs) = (Vec::new(), Vec::new());
        for (place, byte) in text.bytes().enumerate() {
            match byte {
                b'(' => open.push(place),
                b')' => pairs.push((open.pop().unwrap(), place)),
                _ => {}
            }
        }
        assert!(open.is_empty(), "{text}");
        pairs
    }

    /// DynamoDB: "The expression has redundant parentheses".
    #[test]
    fn there_are_no_parentheses_around_parentheses() {
        for status in [Status::Active, Status::Suspended, Status::Lost, Status::Revoked] {
            let text = CardState { version: 3, status, server: "hq-1".to_owned() }.expression();
            let pairs = pairs(&text);
            for (from, to) in &pairs {
                assert!(!pairs.contains(&(from + 1, to - 1)), "{status:?}: {text}");
            }
        }
    }

    #[test]
    fn every_value_is_used_and_every_used_one_is_there() {
        for status in [Status::Active, Status::Suspended, Status::Lost, Status::Revoked] {
            let state = CardState { version: 3, status, server: "hq-1".to_owned() };
            let (text, values) = (state.expression(), state.values());
            let words: std::collections::BTreeSet<&str> = text
                .split(|c: char| !c.is_alphanumeric() && c != ':' && c != '_')
                .filter(|word| word.starts_with(':'))
                .collect();
            let given: std::collections::BTreeSet<&str> = values.keys().map(String::as_str).collect();
            assert_eq!(words, given, "{status:?}");
        }
    }
}
