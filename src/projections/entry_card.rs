//! A card, as a snapshot has it.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::entry::{EntryError, json};
use crate::domain::{
    card::{Card, CardDetails, GateRight, Status},
    ids::{BuildingId, CardId, EmployeeId, GroupId},
    time::Timestamp,
};

#[derive(Serialize, Deserialize)]
struct StoredCard {
    employee_id: EmployeeId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder_name: Option<SmolStr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    buildings: Option<Box<[BuildingId]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gates: Option<Box<[GateRight]>>,
    /// Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    groups: Option<Box<[GroupId]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_until: Option<Timestamp>,
    #[serde(default)]
    anti_passback_exempt: bool,
    #[serde(default)]
    responder: bool,
    status: Status,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version_by: Option<SmolStr>,
}

/// A card as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_card(card: &Card) -> Result<String, serde_json::Error> {
    let CardDetails {
        employee_id,
        holder_name,
        buildings,
        gates,
        groups,
        valid_from,
        valid_until,
        anti_passback_exempt,
        responder,
    } = card.details.clone();
    serde_json::to_string(&StoredCard {
        employee_id,
        holder_name,
        buildings,
        gates,
        groups,
        valid_from,
        valid_until,
        anti_passback_exempt,
        responder,
        status: card.status,
        version: card.version,
        version_by: card.version_by.clone(),
    })
}

pub(super) fn read_card(card_id: CardId, key: &str, value: &str) -> Result<Card, EntryError> {
    let StoredCard {
        employee_id,
        holder_name,
        buildings,
        gates,
        groups,
        valid_from,
        valid_until,
        anti_passback_exempt,
        responder,
        status,
        version,
        version_by,
    } = json(key, value)?;
    let details = CardDetails {
        employee_id,
        holder_name,
        buildings,
        gates,
        groups,
        valid_from,
        valid_until,
        anti_passback_exempt,
        responder,
    };
    Ok(Card { card_id, details, status, version, version_by })
}
