//! Who works here: the cast of the day, their cards, and what the card office knows of them. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use super::setting::{ANNEX, HQ};
use crate::domain::time::Timestamp;

/// In every so many people each [`Character`] is there at least once.
pub(super) const CAST_SIZE: u32 = 50;
/// One in so many works in the annex.
const ANNEX_SHARE: u32 = 10;
/// Employee numbers begin here, because `E1001` looks like one and `E0` does not.
const FIRST_EMPLOYEE_NUMBER: u32 = 1_001;
/// Odd, so that multiplying by it maps each number to another one: cards look random and never repeat.
const CARD_NUMBER_FACTOR: u32 = 0x9E37_79B1;
/// How far validity that is over or has not begun is from now.
const VALIDITY_DISTANCE: Duration = Duration::from_secs(30 * 24 * 3_600);

const FIRST_NAMES: [&str; 12] = [
    "Ada", "Alan", "Barbara", "Claude", "Donald", "Edsger", "Grace", "Ken", "Leslie", "Niklaus", "Radia",
    "Tony",
];
const LAST_NAMES: [&str; 10] =
    ["Abel", "Brandt", "Castro", "Dubois", "Eriksen", "Fischer", "Gupta", "Haddad", "Ito", "Jansen"];

/// What makes someone's day differ from others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Character {
    /// Comes, has lunch, leaves.
    Regular,
    /// Lends the second card to a friend, who cannot get in with it.
    LendsSecondCard,
    /// Hands the card back over the gate for a friend.
    PassesCardBack,
    /// The card is suspended.
    Suspended,
    /// The card is revoked.
    Revoked,
    /// The card's validity is over.
    Expired,
    /// The card's validity has not begun.
    NotYetValid,
    /// Loses the card at lunch, reports it, has a spare one; someone tries the lost one.
    LosesCard,
    /// Has no right to the annex, and tries.
    HeadquartersOnly,
    /// Slips in behind someone, and is first seen leaving.
    Tailgates,
    /// Comes with a card of another company.
    Visitor,
    /// Comes in the afternoon, leaves in the morning.
    NightShift,
}

/// Someone with a card.
#[derive(Clone, Debug)]
pub(super) struct Employee {
    /// From 0.
    pub(super) number: u32,
    pub(super) character: Character,
    /// The building they work in.
    pub(super) home: usize,
    /// Their cards, one or two.
    pub(super) cards: Vec<String>,
}

/// So many people.
pub(super) fn staff(employees: u32) -> Vec<Employee> {
    (0..employees).map(Employee::new).collect()
}

/// The number in an employee's id, `None` if it is none of ours.
pub(super) fn number_of(employee_id: &str) -> Option<u32> {
    employee_id.strip_prefix('E')?.parse::<u32>().ok()?.checked_sub(FIRST_EMPLOYEE_NUMBER)
}

impl Employee {
    fn new(number: u32) -> Self {
        let character = match number % CAST_SIZE {
            0 => Character::LendsSecondCard,
            // one in each building: number 9 works in the annex
            1 | 9 => Character::PassesCardBack,
            2 => Character::Suspended,
            3 => Character::Revoked,
            4 => Character::Expired,
            5 => Character::NotYetValid,
            6 => Character::LosesCard,
            7 => Character::HeadquartersOnly,
            8 => Character::Tailgates,
            10 => Character::Visitor,
            11 => Character::NightShift,
            _ => Character::Regular,
        };
        let home = if number % ANNEX_SHARE == ANNEX_SHARE - 1 { ANNEX } else { HQ };
        let cards = match character {
            Character::LendsSecondCard | Character::LosesCard => 2,
            _ => 1,
        };
        let card = |index: u32| format!("{:08X}", (2 * number + index).wrapping_mul(CARD_NUMBER_FACTOR));
        Self { number, character, home, cards: (0..cards).map(card).collect() }
    }

    /// As in events.
    pub(super) fn id(&self) -> String {
        format!("E{}", self.number.saturating_add(FIRST_EMPLOYEE_NUMBER))
    }

    /// Whether the card office knows them.
    pub(super) fn is_registered(&self) -> bool {
        self.character != Character::Visitor
    }

    /// What the card office says of their cards: the body of `PUT /v1/cards/{card_id}`.
    pub(super) fn card_details(&self, now: Timestamp) -> Value {
        let distance_ms = i64::try_from(VALIDITY_DISTANCE.as_millis()).unwrap_or(i64::MAX);
        let past = Timestamp::from_millis(now.as_millis() - distance_ms);
        let future = Timestamp::from_millis(now.as_millis() + distance_ms);
        let mut details = json!({ "employee_id": self.id(), "holder_name": self.name() });
        let limit = match self.character {
            Character::Expired => Some(("valid_until", json!(past))),
            Character::NotYetValid => Some(("valid_from", json!(future))),
            Character::HeadquartersOnly => Some(("buildings", json!(["hq"]))),
            _ => None,
        };
        if let (Some((field, value)), Some(details)) = (limit, details.as_object_mut()) {
            details.insert(field.to_owned(), value);
        }
        details
    }

    /// What the card office has done to their cards since: the last word of
    /// `POST /v1/cards/{card_id}/{action}`.
    pub(super) fn sanction(&self) -> Option<&'static str> {
        match self.character {
            Character::Suspended => Some("suspend"),
            Character::Revoked => Some("revoke"),
            _ => None,
        }
    }

    fn name(&self) -> String {
        let pick = |names: &[&'static str], index: u32| {
            let index = usize::try_from(index).unwrap_or_default();
            names.iter().copied().cycle().nth(index % names.len().max(1)).unwrap_or_default()
        };
        format!("{} {}", pick(&FIRST_NAMES, self.number), pick(&LAST_NAMES, self.number / 12))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn cards_and_ids_never_repeat() {
        let people = staff(20_000);
        let cards: Vec<&String> = people.iter().flat_map(|person| &person.cards).collect();
        assert_eq!(cards.iter().collect::<HashSet<_>>().len(), cards.len());
        assert!(people.iter().all(|person| number_of(&person.id()) == Some(person.number)));
        assert_eq!(number_of("E12"), None);
        assert_eq!(number_of("X1001"), None);
    }

    #[test]
    fn the_card_office_knows_limits_and_sanctions() {
        let people = staff(CAST_SIZE);
        let now = Timestamp::from_millis(1_800_000_000_000);
        let of = |character| people.iter().find(|person| person.character == character).unwrap();
        assert_eq!(of(Character::Suspended).sanction(), Some("suspend"));
        assert_eq!(of(Character::Regular).sanction(), None);
        let expired = of(Character::Expired).card_details(now);
        assert!(expired["valid_until"].as_str().unwrap() < now.to_string().as_str());
        let later = of(Character::NotYetValid).card_details(now);
        assert!(later["valid_from"].as_str().unwrap() > now.to_string().as_str());
        assert_eq!(of(Character::HeadquartersOnly).card_details(now)["buildings"], json!(["hq"]));
        assert_eq!(people[0].card_details(now)["holder_name"], "Ada Abel");
    }
}
