//! Which path and method leads where, in one table.

use actix_web::{
    HttpResponse, Resource, Route,
    http::Method,
    web::{self, PayloadConfig, ServiceConfig},
};

use super::{
    card_export, card_import, cards, dead_letters, device_events, docs, error::ApiError, feed, forgive,
    health, history, modes, muster, passages, presence, recorded, replays, sinks, swipes,
};

/// The largest body (contract, section 3).
pub const MAX_BODY_BYTES: usize = 64 << 10;
/// The largest body of a batch.
pub const MAX_BATCH_BODY_BYTES: usize = 1 << 20;

/// At which address a path answers, if there is one for admins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// `[server] listen`: turnstiles and people.
    Listen,
    /// `[server] admin_listen`: what only the role `admin` may ask for, and the metrics.
    AdminListen,
    /// Both.
    Either,
}

/// What an address answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Everything: there is no other.
    Everything,
    /// What is not kept for `admin_listen`.
    Listen,
    /// What is.
    AdminListen,
}

impl Answers {
    fn has(self, at: At) -> bool {
        match self {
            Self::Everything => true,
            Self::Listen => at != At::AdminListen,
            Self::AdminListen => at != At::Listen,
        }
    }
}

struct Path {
    path: &'static str,
    at: At,
    routes: Vec<(Method, Route)>,
    max_body_bytes: usize,
}

fn paths() -> Vec<Path> {
    use At::{AdminListen, Either, Listen};
    let small = |path, routes| Path { path, at: Listen, routes, max_body_bytes: MAX_BODY_BYTES };
    let get = |path, route| small(path, vec![(Method::GET, route)]);
    let post = |path, route| small(path, vec![(Method::POST, route)]);
    let at = |at, path: Path| Path { at, ..path };
    vec![
        get("/v1/buildings/{building}", web::get().to(modes::get)),
        post("/v1/buildings/{building}/entries", web::post().to(swipes::enter)),
        post("/v1/buildings/{building}/exits", web::post().to(swipes::exit)),
        Path {
            max_body_bytes: MAX_BATCH_BODY_BYTES,
            ..post("/v1/buildings/{building}/exits/batch", web::post().to(swipes::exit_batch))
        },
        post("/v1/buildings/{building}/events", web::post().to(device_events::record)),
        post("/v1/buildings/{building}/mode", web::post().to(modes::change)),
        get("/v1/buildings/{building}/muster", web::get().to(muster::get)),
        post("/v1/buildings/{building}/muster/{employee_id}/account", web::post().to(muster::account)),
        Path {
            max_body_bytes: MAX_BATCH_BODY_BYTES,
            ..post("/v1/buildings/{building}/entries/recorded", web::post().to(recorded::record))
        },
        post("/v1/buildings/{building}/passages", web::post().to(passages::end)),
        get("/v1/buildings/{building}/presence", web::get().to(presence::get)),
        post("/v1/buildings/{building}/presence/{employee_id}/forgive", web::post().to(forgive::forgive)),
        post("/v1/buildings/{building}/presence/reset", web::post().to(forgive::reset)),
        get("/v1/cards", web::get().to(cards::list)),
        // before the paths of cards, so no card has these ids
        Path {
            max_body_bytes: card_import::MAX_IMPORT_BYTES,
            ..post("/v1/cards/import", web::post().to(card_import::import))
        },
        get("/v1/cards/export", web::get().to(card_export::export)),
        small(
            "/v1/cards/{card_id}",
            vec![(Method::GET, web::get().to(cards::get)), (Method::PUT, web::put().to(cards::put))],
        ),
        get("/v1/cards/{card_id}/events", web::get().to(history::of_card)),
        get("/v1/employees/{employee_id}/events", web::get().to(history::of_employee)),
        post("/v1/cards/{card_id}/{action}", web::post().to(cards::act)),
        get("/v1/events/stream", web::get().to(feed::stream)),
        at(Either, get("/v1/sinks", web::get().to(sinks::list))),
        at(
            AdminListen,
            small("/v1/sinks/{name}/cursor", vec![(Method::DELETE, web::delete().to(sinks::forget))]),
        ),
        at(AdminListen, get("/v1/dead-letters", web::get().to(dead_letters::list))),
        at(AdminListen, post("/v1/dead-letters/redrive", web::post().to(dead_letters::redrive))),
        at(
            AdminListen,
            small(
                "/v1/dead-letters/{id}",
                vec![
                    (Method::GET, web::get().to(dead_letters::get)),
                    (Method::DELETE, web::delete().to(dead_letters::discard)),
                ],
            ),
        ),
        at(
            AdminListen,
            small(
                "/v1/replays",
                vec![
                    (Method::GET, web::get().to(replays::list)),
                    (Method::POST, web::post().to(replays::begin)),
                ],
            ),
        ),
        at(
            AdminListen,
            small(
                "/v1/replays/{name}",
                vec![
                    (Method::GET, web::get().to(replays::get)),
                    (Method::DELETE, web::delete().to(replays::delete)),
                ],
            ),
        ),
        at(Either, get("/healthz", web::get().to(health::live))),
        at(Either, get("/readyz", web::get().to(health::ready))),
        at(AdminListen, get("/metrics", web::get().to(health::metrics))),
        at(Either, get("/openapi.json", web::get().to(health::openapi))),
        at(Either, get("/docs", web::get().to(docs::page))),
    ]
}

/// The routes of an address.
pub fn configure(config: &mut ServiceConfig, answers: Answers) {
    for path in paths().into_iter().filter(|path| answers.has(path.at)) {
        config.service(resource(path));
    }
    config.default_service(web::to(not_found));
}

/// A path with its methods; any other method is a 405 that says which there are.
fn resource(path: Path) -> Resource {
    let allow = allow(&path);
    let refuse = move || {
        let error = ApiError::MethodNotAllowed(allow.clone());
        async move { Err::<HttpResponse, _>(error) }
    };
    let resource = web::resource(path.path)
        .app_data(PayloadConfig::new(path.max_body_bytes))
        .default_service(web::to(refuse));
    path.routes.into_iter().fold(resource, |resource, (_, route)| resource.route(route))
}

/// HEAD is answered as GET is, see `answers.rs`.
fn allow(path: &Path) -> String {
    let methods = path.routes.iter().map(|(method, _)| method.as_str());
    methods.map(|method| if method == "GET" { "GET, HEAD" } else { method }).collect::<Vec<_>>().join(", ")
}

async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound("there is nothing here; /openapi.json says what there is".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_openapi_document_has_exactly_the_routes() {
        let document: serde_json::Value = serde_json::from_str(health::OPENAPI).unwrap();
        let documented: BTreeSet<String> = (document["paths"].as_object().unwrap().iter())
            .flat_map(|(path, methods)| {
                methods
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        let routed: BTreeSet<String> = (paths().iter())
            .flat_map(|path| path.routes.iter().map(|(method, _)| format!("{method} {}", path.path)))
            .collect();
        assert_eq!(documented, routed);
    }
}
