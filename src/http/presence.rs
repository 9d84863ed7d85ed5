//! Who is inside: the security desk's list. Each look is recorded.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde_json::json;

use super::{
    Services,
    auth::person::{Person, Role},
    csv_cells::{wants_csv, write_row},
    error::ApiError,
    origin,
};
use crate::actors::building::{Presence, ReadPresence};

/// `GET /v1/buildings/{building}/presence`, JSON or, with `Accept: text/csv`, CSV.
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
    person.must_be(&[Role::Security, Role::Auditor], Some(&building.id))?;
    let origin = origin(person.as_actor(), &request);
    let mut presence = building.ask(|reply| ReadPresence { origin, reply }).await??;
    // Here and not on the log's thread, where gates wait.
    presence.people.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    if wants_csv(&request) {
        return Ok(HttpResponse::Ok().content_type("text/csv; charset=utf-8").body(as_csv(&presence)));
    }
    let people: Vec<_> = (presence.people.iter())
        .map(|(employee, inside, name)| {
            json!({ "employee_id": employee, "card_id": inside.card_id, "holder_name": name,
                    "since": inside.since, "gate": inside.gate, "certainty": inside.certainty(presence.as_of) })
        })
        .collect();
    Ok(HttpResponse::Ok().json(
        json!({ "building": building.id, "mode": presence.mode, "as_of": presence.as_of, "people": people }),
    ))
}

fn as_csv(presence: &Presence) -> String {
    let mut text = String::from("employee_id,card_id,holder_name,since,gate,certainty\r\n");
    for (employee, inside, name) in &presence.people {
        let since = inside.since.to_string();
        let cells = [
            employee.as_str(),
            inside.card_id.as_str(),
            name.as_deref().unwrap_or_default(),
            &since,
            inside.gate.as_str(),
            inside.certainty(presence.as_of).as_str(),
        ];
        text.push_str(&write_row(cells));
    }
    text
}
