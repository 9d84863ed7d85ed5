//! `data` of what every swipe becomes. By hand, because it is written and read for each of them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{
    building::Inside,
    event::{Decision, Entry, Exit, PassageDue, Swiped},
    ids::{BuildingId, CardId, EmployeeId, GateId},
    reason::{Anomaly, PASSBACK_VIOLATION_BACNET_CODE, Reason},
    time::Timestamp,
};

/// `data` of `access.entry.*` and `access.exit.recorded`: written once for every swipe, so nothing is copied.
#[derive(Serialize)]
pub(super) struct AccessOut<'a> {
    building: &'a BuildingId,
    gate: &'a GateId,
    card_id: &'a CardId,
    #[serde(skip_serializing_if = "Option::is_none")]
    employee_id: Option<&'a EmployeeId>,
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bacnet_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    violation: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anomaly: Option<Anomaly>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swipe_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
    /// Of an entry that was granted before.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// Of an entry that its gate will say more of.
    #[serde(skip_serializing_if = "Option::is_none")]
    passage_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a Inside>,
    by: &'a str,
}

/// The same, read back.
#[derive(Deserialize)]
pub(super) struct AccessIn {
    building: BuildingId,
    gate: GateId,
    card_id: CardId,
    employee_id: Option<EmployeeId>,
    reason: Option<Reason>,
    violation: Option<String>,
    anomaly: Option<Anomaly>,
    swipe_id: Option<Uuid>,
    occurred_at: Option<Timestamp>,
    since: Option<Timestamp>,
    passage_until: Option<Timestamp>,
    before: Option<Inside>,
}

pub(super) fn entry_data<'a>(entry: &'a Entry, by: &'a str) -> AccessOut<'a> {
    let (reason, bacnet_code, violation) = match entry.decision {
        Decision::Granted { violation: false } => (None, None, None),
        Decision::Granted { violation: true } => {
            (None, Some(PASSBACK_VIOLATION_BACNET_CODE), Some(Reason::AntiPassback))
        }
        Decision::Denied(reason) => (Some(reason), Some(reason.bacnet_code()), None),
    };
    let due = entry.passage.as_deref();
    AccessOut {
        reason,
        bacnet_code,
        violation,
        since: entry.since,
        passage_until: due.map(|due| due.until),
        before: due.and_then(|due| due.before.as_ref()),
        ..access_data(&entry.swipe, by)
    }
}

pub(super) fn exit_data<'a>(exit: &'a Exit, by: &'a str) -> AccessOut<'a> {
    AccessOut { anomaly: exit.anomaly, ..access_data(&exit.swipe, by) }
}

fn access_data<'a>(swipe: &'a Swiped, by: &'a str) -> AccessOut<'a> {
    AccessOut {
        building: &swipe.building,
        gate: &swipe.gate,
        card_id: &swipe.card_id,
        employee_id: swipe.employee_id.as_ref(),
        swipe_id: swipe.swipe_id,
        occurred_at: swipe.occurred_at,
        reason: None,
        bacnet_code: None,
        violation: None,
        anomaly: None,
        since: None,
        passage_until: None,
        before: None,
        by,
    }
}

impl AccessIn {
    pub(super) fn granted(mut self) -> Entry {
        let decision = Decision::Granted { violation: self.violation.is_some() };
        let (since, before) = (self.since, self.before.take());
        let passage = self.passage_until.map(|until| Box::new(PassageDue { until, before }));
        Entry { swipe: self.into(), decision, since, passage }
    }

    /// `None` without a reason.
    pub(super) fn denied(self) -> Option<Entry> {
        let reason = self.reason?;
        Some(Entry::new(self.into(), Decision::Denied(reason)))
    }

    pub(super) fn exit(self) -> Exit {
        let anomaly = self.anomaly;
        Exit { swipe: self.into(), anomaly }
    }
}

impl From<AccessIn> for Swiped {
    fn from(data: AccessIn) -> Self {
        let AccessIn { building, gate, card_id, employee_id, swipe_id, occurred_at, .. } = data;
        Self { building, gate, card_id, employee_id, swipe_id, occurred_at }
    }
}
