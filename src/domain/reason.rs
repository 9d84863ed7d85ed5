//! Why an entry is denied, and what is odd about an exit.

use serde::{Deserialize, Serialize};

/// Why an entry is denied, in BACnet's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No such card is registered.
    UnknownCard,
    /// The card has no right to this building or gate.
    GateNotAllowed,
    /// The card's groups open this gate, but not now.
    OutOfSchedule,
    /// The building is in lockdown.
    Lockdown,
    /// The building is being evacuated.
    Evacuation,
    /// The holder is already inside.
    AntiPassback,
    /// As many people are inside as may be.
    OccupancyFull,
    /// The card was reported lost.
    Lost,
    /// Before the card's `valid_from`.
    NotYetValid,
    /// At or after the card's `valid_until`.
    Expired,
    /// The card is suspended.
    Suspended,
    /// The card is revoked, for good.
    Revoked,
}

impl Reason {
    /// Every reason, for metrics and documentation.
    pub const ALL: [Self; 12] = [
        Self::UnknownCard,
        Self::GateNotAllowed,
        Self::OutOfSchedule,
        Self::Lockdown,
        Self::Evacuation,
        Self::AntiPassback,
        Self::OccupancyFull,
        Self::Lost,
        Self::NotYetValid,
        Self::Expired,
        Self::Suspended,
        Self::Revoked,
    ];

    /// The name in answers, events and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCard => "unknown_card",
            Self::GateNotAllowed => "gate_not_allowed",
            Self::OutOfSchedule => "out_of_schedule",
            Self::Lockdown => "lockdown",
            Self::Evacuation => "evacuation",
            Self::AntiPassback => "anti_passback",
            Self::OccupancyFull => "occupancy_full",
            Self::Lost => "lost",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }

    /// The number in BACnet's `BACnetAccessEvent` enumeration (ASHRAE 135).
    #[must_use]
    pub fn bacnet_code(self) -> u16 {
        match self {
            Self::UnknownCard => 129,
            Self::GateNotAllowed => 134,
            Self::OutOfSchedule => 136,
            Self::Lockdown => 128,
            Self::Evacuation => 137,
            Self::AntiPassback => 138,
            Self::OccupancyFull => 142,
            Self::Lost => 143,
            Self::NotYetValid => 151,
            Self::Expired => 152,
            Self::Suspended => 153,
            Self::Revoked => 158,
        }
    }
}

/// BACnet's number for a granted entry that broke anti-passback (soft anti-passback).
pub const PASSBACK_VIOLATION_BACNET_CODE: u16 = 3;

/// What is odd about an exit. It is recorded all the same: exits are never denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anomaly {
    /// No such card is registered.
    UnknownCard,
    /// Its holder was not seen entering this building.
    NotInside,
}

impl Anomaly {
    /// The name in events and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCard => "unknown_card",
            Self::NotInside => "not_inside",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_json_is_the_name_in_metrics() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        for anomaly in [Anomaly::UnknownCard, Anomaly::NotInside] {
            assert_eq!(serde_json::to_value(anomaly).unwrap(), anomaly.as_str());
        }
    }
}
