//! Which path and method leads where, in one table.

use actix_web::{
    HttpResponse, Resource, Route,
    http::Method,
    web::{self, PayloadConfig, ServiceConfig},
};

use super::{cards, dead_letters, error::ApiError, health, presence, replays, sinks, swipes};

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
    let small = |at, path, routes| Path { path, at, routes, max_body_bytes: MAX_BODY_BYTES };
    let get = |at, path, route| small(at, path, vec![(Method::GET, route)]);
    let post = |at, path, route| small(at, path, vec![(Method::POST, route)]);
    let delete = |at, path, route| small(at, path, vec![(Method::DELETE, route)]);
    vec![
        post(Listen, "/v1/buildings/{building}/entries", web::post().to(swipes::enter)),
        post(Listen, "/v1/buildings/{building}/exits", web::post().to(swipes::exit)),
        Path {
            max_body_bytes: MAX_BATCH_BODY_BYTES,
            ..post(Listen, "/v1/buildings/{building}/exits/batch", web::post().to(swipes::exit_batch))
        },
        get(Listen, "/v1/buildings/{building}/presence", web::get().to(presence::get)),
        get(Listen, "/v1/cards", web::get().to(cards::list)),
        small(
            Listen,
            "/v1/cards/{card_id}",
            vec![(Method::GET, web::get().to(cards::get)), (Method::PUT, web::put().to(cards::put))],
        ),
        post(Listen, "/v1/cards/{card_id}/{action}", web::post().to(cards::act)),
        get(Either, "/v1/sinks", web::get().to(sinks::list)),
        delete(AdminListen, "/v1/sinks/{name}/cursor", web::delete().to(sinks::forget)),
        get(AdminListen, "/v1/dead-letters", web::get().to(dead_letters::list)),
        post(AdminListen, "/v1/dead-letters/redrive", web::post().to(dead_letters::redrive)),
        small(
            AdminListen,
            "/v1/dead-letters/{id}",
            vec![
                (Method::GET, web::get().to(dead_letters::get)),
                (Method::DELETE, web::delete().to(dead_letters::discard)),
            ],
        ),
        small(
            AdminListen,
            "/v1/replays",
            vec![(Method::GET, web::get().to(replays::list)), (Method::POST, web::post().to(replays::begin))],
        ),
        small(
            AdminListen,
            "/v1/replays/{name}",
            vec![
                (Method::GET, web::get().to(replays::get)),
                (Method::DELETE, web::delete().to(replays::delete)),
            ],
        ),
        get(Either, "/healthz", web::get().to(health::live)),
        get(Either, "/readyz", web::get().to(health::ready)),
        get(AdminListen, "/metrics", web::get().to(health::metrics)),
        get(Either, "/openapi.json", web::get().to(health::openapi)),
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
