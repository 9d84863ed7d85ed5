//! Someone inside, and how sure that is.

use serde::{Deserialize, Serialize};

use crate::domain::{
    ids::{CardId, GateId},
    time::Timestamp,
};

/// Someone inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "InsideText", into = "InsideText")]
pub struct Inside {
    /// Since when.
    pub since: Timestamp,
    /// Through which gate.
    pub gate: GateId,
    /// With which card.
    pub card_id: CardId,
    /// What is known of the passage.
    pub entered: Entered,
    /// The sequence of the entry; 0: before any that counts, from a snapshot of an earlier version.
    pub sequence: u64,
}

/// What is known of a passage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entered {
    /// The entry was granted, and the gate says no more than that.
    #[default]
    Assumed,
    /// The entry was granted, and the gate will say what came of it.
    Pending {
        /// The place in the log of the grant.
        passage: u64,
        /// Until when; from then on it is assumed.
        until: Timestamp,
    },
    /// The gate has said that the holder went through.
    Confirmed,
    /// The gate let the holder in by itself, and said so later.
    Recorded,
}

/// How sure it is that someone is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// A granted entry is taken for a passage.
    Assumed,
    /// The gate has still time to say whether the holder went through.
    Pending,
    /// The gate has said that the holder went through.
    Confirmed,
    /// The gate decided alone and let the holder in.
    Recorded,
}

impl Certainty {
    /// The name in answers and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assumed => "assumed",
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Recorded => "recorded",
        }
    }
}

impl Inside {
    /// How sure it is at `now`.
    #[must_use]
    pub fn certainty(&self, now: Timestamp) -> Certainty {
        match self.entered {
            Entered::Pending { until, .. } if now <= until => Certainty::Pending,
            Entered::Assumed | Entered::Pending { .. } => Certainty::Assumed,
            Entered::Confirmed => Certainty::Confirmed,
            Entered::Recorded => Certainty::Recorded,
        }
    }

    /// Whether it comes of the grant at this place in the log, of which nothing was said yet.
    #[must_use]
    pub fn is_of_passage(&self, sequence: u64) -> bool {
        matches!(self.entered, Entered::Pending { passage, .. } if passage == sequence)
    }
}

/// As events have it. `passage` and `until` come with `pending`.
#[derive(Serialize, Deserialize)]
struct InsideText {
    since: Timestamp,
    gate: GateId,
    card_id: CardId,
    certainty: Certainty,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// Of the entry, 20 digits.
    #[serde(default)]
    sequence: String,
}

impl From<Inside> for InsideText {
    fn from(inside: Inside) -> Self {
        let (certainty, passage, until) = inside.entered.parts();
        let Inside { since, gate, card_id, sequence, .. } = inside;
        let sequence = format!("{sequence:020}");
        Self { since, gate, card_id, certainty, passage, until, sequence }
    }
}

impl TryFrom<InsideText> for Inside {
    type Error = &'static str;
    fn try_from(text: InsideText) -> Result<Self, Self::Error> {
        let InsideText { since, gate, card_id, certainty, passage, until, sequence } = text;
        let entered = Entered::of_parts(certainty, passage.as_deref(), until)?;
        let sequence = match sequence.as_str() {
            "" => 0,
            digits => digits.parse().map_err(|_| "the sequence of an entry is 20 digits")?,
        };
        Ok(Self { since, gate, card_id, entered, sequence })
    }
}

impl Entered {
    /// As JSON has it: the certainty while it lasts, and of a pending one its passage (20 digits) and its time limit.
    #[must_use]
    pub fn parts(self) -> (Certainty, Option<String>, Option<Timestamp>) {
        match self {
            Self::Assumed => (Certainty::Assumed, None, None),
            Self::Confirmed => (Certainty::Confirmed, None, None),
            Self::Recorded => (Certainty::Recorded, None, None),
            Self::Pending { passage, until } => {
                (Certainty::Pending, Some(format!("{passage:020}")), Some(until))
            }
        }
    }

    /// The same, read back.
    ///
    /// # Errors
    /// If a pending one lacks what belongs to it.
    pub fn of_parts(
        certainty: Certainty,
        passage: Option<&str>,
        until: Option<Timestamp>,
    ) -> Result<Self, &'static str> {
        Ok(match certainty {
            Certainty::Assumed => Self::Assumed,
            Certainty::Confirmed => Self::Confirmed,
            Certainty::Recorded => Self::Recorded,
            Certainty::Pending => {
                let passage = passage.and_then(|passage| passage.parse().ok());
                let (passage, until) =
                    passage.zip(until).ok_or("a pending passage needs its sequence and its time limit")?;
                Self::Pending { passage, until }
            }
        })
    }
}
