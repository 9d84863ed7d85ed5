//! The roster of an evacuation: who is missing, who has left, who was seen at the assembly point. Each look is recorded.

use std::collections::HashMap;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Services,
    auth::person::{Person, Role},
    body::Body,
    csv_cells::{wants_csv, write_row},
    error::ApiError,
    fields::{Fields, path_id, short_text},
    origin,
};
use crate::{
    actors::building::{
        FindPeople,
        modes::Account,
        muster::{EnteredSince, MusterNow, OnRoster, ReadMuster},
    },
    domain::{
        building::{
            Certainty, Inside,
            muster::{LineState, RosterLine},
        },
        card::Status,
        ids::{BuildingId, CardId, EmployeeId, GateId},
        time::Timestamp,
    },
};

/// The longest `note`, in characters.
const MAX_NOTE_CHARS: usize = 500;

/// People that another building is asked about at once: gates wait for it.
const MAX_ASKED_PEOPLE: usize = 1_000;

/// The state of who came in after the roster was taken.
const ENTERED_SINCE: &str = "entered_since";

/// One person as the lists show them.
#[derive(Debug, Serialize)]
struct Line {
    employee_id: EmployeeId,
    card_id: CardId,
    holder_name: Option<String>,
    /// Other than `active` is a warning: whoever holds the card may not be who it names. Null: there is no such card.
    card_status: Option<Status>,
    since: Timestamp,
    gate: GateId,
    certainty: Certainty,
    last_seen: Seen,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_by_gate: Option<GateId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accounted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accounted_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    also_inside: Vec<BuildingId>,
}

/// Where a gate saw someone last.
#[derive(Debug, Serialize)]
struct Seen {
    time: Timestamp,
    gate: GateId,
    direction: &'static str,
}

/// `GET /v1/buildings/{building}/muster`, JSON or, with `Accept: text/csv`, CSV.
///
/// # Errors
/// As the contract has them.
pub async fn get(
    services: Data<Services>,
    request: HttpRequest,
    building: Path<String>,
    person: Person,
) -> Result<HttpResponse, ApiError> {
    let building = services.building(&building)?;
    person.must_be(&[Role::Security], Some(&building.id))?;
    let origin = origin(person.as_actor(), &request);
    let mut muster = building.ask(|reply| ReadMuster { origin, reply }).await??;
    let (roster, since) = (std::mem::take(&mut muster.people), std::mem::take(&mut muster.entered_since));
    let employees: Vec<_> = (roster.iter().map(|person| &person.employee))
        .chain(since.iter().map(|person| &person.employee))
        .cloned()
        .collect();
    let mut elsewhere = also_inside(&services, &building.id, &employees).await?;
    let mut people: Vec<Line> =
        roster.into_iter().map(|person| Line::of_roster(person, muster.as_of, &mut elsewhere)).collect();
    let mut since: Vec<Line> =
        since.into_iter().map(|person| Line::of_entered(person, muster.as_of, &mut elsewhere)).collect();
    // Here and not on the log's thread, where gates wait.
    people.sort_by(|one, other| one.place().cmp(&other.place()));
    since.sort_by(|one, other| one.place().cmp(&other.place()));
    if wants_csv(&request) {
        let text = as_csv(people.iter().chain(&since));
        return Ok(HttpResponse::Ok().content_type("text/csv; charset=utf-8").body(text));
    }
    Ok(HttpResponse::Ok().json(as_json(&building.id, &muster, &people, &since)))
}

/// `POST /v1/buildings/{building}/muster/{employee_id}/account`
///
/// # Errors
/// As the contract has them: 404 for someone who is not on the roster, 409 if there is none.
pub async fn account(
    services: Data<Services>,
    request: HttpRequest,
    path: Path<(String, String)>,
    person: Person,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let (building, employee) = path.into_inner();
    let building = services.building(&building)?;
    person.must_be(&[Role::Security], Some(&building.id))?;
    let employee: EmployeeId = path_id("employee_id", employee)?;
    let mut fields = Fields::of_body(&body, true)?;
    let note = fields.optional("note", short_text(MAX_NOTE_CHARS));
    let note = fields.finish(Some(note)).map_err(ApiError::Invalid)?;
    let origin = origin(person.as_actor(), &request);
    let who = employee.clone();
    let line = building.ask(|reply| Account { employee, note, origin, reply }).await??;
    let RosterLine { accounted, .. } = &line;
    Ok(HttpResponse::Ok().json(json!({
        "building": building.id, "employee_id": who, "card_id": line.inside.card_id,
        "state": line.state().as_str(),
        "accounted_at": accounted.as_ref().map(|accounted| accounted.at),
        "accounted_by": accounted.as_ref().map(|accounted| &accounted.by),
        "note": accounted.as_ref().and_then(|accounted| accounted.note.as_ref()),
    })))
}

/// In which other buildings of this server each of these people is, too.
async fn also_inside(
    services: &Services,
    here: &BuildingId,
    employees: &[EmployeeId],
) -> Result<HashMap<EmployeeId, Vec<BuildingId>>, ApiError> {
    let mut places: HashMap<EmployeeId, Vec<BuildingId>> = HashMap::new();
    for building in services.buildings.values().filter(|building| building.id != *here) {
        for some in employees.chunks(MAX_ASKED_PEOPLE) {
            let asked = some.to_vec();
            let found = building.ask(|reply| FindPeople { employees: asked, reply }).await??;
            for (employee, _) in some.iter().zip(found).filter(|(_, inside)| inside.is_some()) {
                places.entry(employee.clone()).or_default().push(building.id.clone());
            }
        }
    }
    places.values_mut().for_each(|buildings| buildings.sort());
    Ok(places)
}

impl Line {
    /// As of someone who came in, and over that what the roster knows.
    fn of_roster(
        person: OnRoster,
        as_of: Timestamp,
        elsewhere: &mut HashMap<EmployeeId, Vec<BuildingId>>,
    ) -> Self {
        let OnRoster { employee, line, entered_again, card } = person;
        let state = line.state().as_str();
        let RosterLine { inside, left, accounted } = line;
        let last_seen = match (&left, &entered_again) {
            (Some(left), _) => Seen { time: left.at, gate: left.gate.clone(), direction: "exit" },
            (None, inside_again) => Seen::entering(inside_again.as_ref().unwrap_or(&inside)),
        };
        Self {
            last_seen,
            state,
            left_at: left.as_ref().map(|left| left.at),
            left_by_gate: left.map(|left| left.gate),
            accounted_at: accounted.as_ref().map(|accounted| accounted.at),
            accounted_by: accounted.as_ref().map(|accounted| accounted.by.clone()),
            note: accounted.and_then(|accounted| accounted.note),
            ..Self::of_entered(EnteredSince { employee, inside, card }, as_of, elsewhere)
        }
    }

    /// Someone who came in since. They are on no roster, and stay inside when the mode is normal again.
    fn of_entered(
        person: EnteredSince,
        as_of: Timestamp,
        elsewhere: &mut HashMap<EmployeeId, Vec<BuildingId>>,
    ) -> Self {
        let EnteredSince { employee, inside, card } = person;
        Self {
            also_inside: elsewhere.remove(&employee).unwrap_or_default(),
            employee_id: employee,
            last_seen: Seen::entering(&inside),
            certainty: inside.certainty(as_of),
            card_id: inside.card_id,
            holder_name: card.name,
            card_status: card.status,
            since: inside.since,
            gate: inside.gate,
            state: ENTERED_SINCE,
            left_at: None,
            left_by_gate: None,
            accounted_at: None,
            accounted_by: None,
            note: None,
        }
    }

    /// Missing people first, then by name; who has none by employee, at the end.
    fn place(&self) -> (bool, bool, Option<&str>, &EmployeeId) {
        let is_missing = self.state == LineState::Missing.as_str();
        (!is_missing, self.holder_name.is_none(), self.holder_name.as_deref(), &self.employee_id)
    }
}

impl Seen {
    fn entering(inside: &Inside) -> Self {
        Self { time: inside.since, gate: inside.gate.clone(), direction: "entry" }
    }
}

fn as_json(building: &BuildingId, muster: &MusterNow, people: &[Line], since: &[Line]) -> Value {
    let count = |state: LineState| people.iter().filter(|line| line.state == state.as_str()).count();
    json!({
        "building": building, "mode": muster.mode, "taken_at": muster.taken_at, "as_of": muster.as_of,
        "counts": {
            "roster": people.len(), "left": count(LineState::Left),
            "accounted": count(LineState::Accounted), "missing": count(LineState::Missing),
        },
        "people": people, "entered_since": since,
    })
}

fn as_csv<'a>(people: impl Iterator<Item = &'a Line>) -> String {
    let mut text = String::from(
        "state,employee_id,holder_name,card_id,card_status,since,gate,certainty,last_seen_time,last_seen_gate,\
         last_seen_direction,left_at,left_by_gate,accounted_at,accounted_by,note,also_inside\r\n",
    );
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    for line in people {
        let also_inside: Vec<&str> = line.also_inside.iter().map(BuildingId::as_str).collect();
        let cells = [
            line.state,
            line.employee_id.as_str(),
            line.holder_name.as_deref().unwrap_or_default(),
            line.card_id.as_str(),
            line.card_status.map_or("", Status::as_str),
            &time(Some(line.since)),
            line.gate.as_str(),
            line.certainty.as_str(),
            &time(Some(line.last_seen.time)),
            line.last_seen.gate.as_str(),
            line.last_seen.direction,
            &time(line.left_at),
            line.left_by_gate.as_ref().map_or("", GateId::as_str),
            &time(line.accounted_at),
            line.accounted_by.as_deref().unwrap_or_default(),
            line.note.as_deref().unwrap_or_default(),
            &also_inside.join(" "),
        ];
        text.push_str(&write_row(cells));
    }
    text
}
