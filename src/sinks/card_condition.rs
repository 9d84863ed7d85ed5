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
        let less: Vec<String> =
            self.less_restrictive().map(|status| format!(":{}", status.as_str())).collect();
        // DynamoDB refuses parentheses around parentheses
        let is_same = format!("#status = :status AND ({is_by_less})");
        let tie = if less.is_empty() {
            is_same
        } else {
            format!("#status IN ({}) OR ({is_same})", less.join(", "))
        };
        format!(
            "attribute_not_exists(PK) OR (#status <> :revoked AND (#version < :version OR (#version = :version AND ({tie}))))"
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
