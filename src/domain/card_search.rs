//! Finding cards by a few letters: the beginning of a number, or any part of a name.

use super::card::Card;

/// What is looked for, in either case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardSearch {
    lower: String,
}

impl CardSearch {
    /// Cards whose id or whose holder's id begins with `text`, or whose holder's name has it somewhere.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { lower: text.to_lowercase() }
    }

    /// Whether the card is one of them.
    #[must_use]
    pub fn matches(&self, card: &Card) -> bool {
        let begins = |id: &str| {
            id.get(..self.lower.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(&self.lower))
        };
        begins(card.card_id.as_str())
            || begins(card.details.employee_id.as_str())
            || card.details.holder_name.as_deref().is_some_and(|name| self.is_in(name))
    }

    /// Without an allocation for most names: one read looks at thousands while gates wait.
    fn is_in(&self, name: &str) -> bool {
        if !name.is_ascii() {
            return name.to_lowercase().contains(&self.lower);
        }
        let lower = self.lower.as_bytes();
        lower.is_empty() || name.as_bytes().windows(lower.len()).any(|part| part.eq_ignore_ascii_case(lower))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn card(name: &str) -> Card {
        serde_json::from_value(serde_json::json!({
            "card_id": "04A2B9C1", "employee_id": "E1001", "holder_name": name, "status": "active", "version": 1
        }))
        .unwrap()
    }

    #[test]
    fn ids_by_their_beginning_and_names_by_any_part() {
        let found = |text: &str| CardSearch::new(text).matches(&card("Jörg van DYK"));
        for text in ["04a2", "04A2B9C1", "e10", "jörg", "JÖRG", "van dyk", "Dyk", ""] {
            assert!(found(text), "{text}");
        }
        for text in ["A2B9", "04A2B9C1X", "1001", "vandyk", "ü"] {
            assert!(!found(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn names_are_compared_in_lower_case(name in "[a-cA-C ]{0,6}|.{0,6}", text in "[a-cA-C]{0,2}|.{0,2}") {
            let expected = name.to_lowercase().contains(&text.to_lowercase());
            prop_assert_eq!(CardSearch::new(&text).is_in(&name), expected);
        }
    }
}
