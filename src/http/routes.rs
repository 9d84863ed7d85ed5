//! Which path and method leads where, in one table.

use actix_web::{
    Resource, Route,
    http::Method,
    web::{self, PayloadConfig, ServiceConfig},
};

use super::{cards, error::ApiError, health, presence, sinks, swipes};

/// The largest body (contract, section 3).
pub const MAX_BODY_BYTES: usize = 64 << 10;
/// The largest body of a batch.
pub const MAX_BATCH_BODY_BYTES: usize = 1 << 20;

/// Every route of the API.
pub fn configure(config: &mut ServiceConfig) {
    config.app_data(PayloadConfig::new(MAX_BODY_BYTES));
    config
        .service(resource(
            "/v1/buildings/{building}/entries",
            vec![(Method::POST, web::post().to(swipes::enter))],
        ))
        .service(resource(
            "/v1/buildings/{building}/exits",
            vec![(Method::POST, web::post().to(swipes::exit))],
        ))
        .service(
            resource(
                "/v1/buildings/{building}/exits/batch",
                vec![(Method::POST, web::post().to(swipes::exit_batch))],
            )
            .app_data(PayloadConfig::new(MAX_BATCH_BODY_BYTES)),
        )
        .service(resource(
            "/v1/buildings/{building}/presence",
            vec![(Method::GET, web::get().to(presence::get))],
        ))
        .service(resource("/v1/cards", vec![(Method::GET, web::get().to(cards::list))]))
        .service(resource(
            "/v1/cards/{card_id}",
            vec![(Method::GET, web::get().to(cards::get)), (Method::PUT, web::put().to(cards::put))],
        ))
        .service(resource("/v1/cards/{card_id}/{action}", vec![(Method::POST, web::post().to(cards::act))]))
        .service(resource("/v1/sinks", vec![(Method::GET, web::get().to(sinks::list))]))
        .service(resource("/v1/dead-letters", vec![(Method::GET, web::get().to(sinks::dead_letters))]))
        .service(resource("/healthz", vec![(Method::GET, web::get().to(health::live))]))
        .service(resource("/readyz", vec![(Method::GET, web::get().to(health::ready))]))
        .service(resource("/metrics", vec![(Method::GET, web::get().to(health::metrics))]))
        .service(resource("/openapi.json", vec![(Method::GET, web::get().to(health::openapi))]))
        .default_service(web::to(not_found));
}

/// A path with its methods; any other method is a 405 that says which there are.
fn resource(path: &str, routes: Vec<(Method, Route)>) -> Resource {
    let allow: Vec<String> = routes.iter().map(|(method, _)| method.to_string()).collect();
    let allow = allow.join(", ");
    let refuse = move || {
        let error = ApiError::MethodNotAllowed(allow.clone());
        async move { Err::<actix_web::HttpResponse, _>(error) }
    };
    let resource = web::resource(path).default_service(web::to(refuse));
    routes.into_iter().fold(resource, |resource, (_, route)| resource.route(route))
}

async fn not_found() -> Result<actix_web::HttpResponse, ApiError> {
    Err(ApiError::NotFound("there is nothing here; /openapi.json says what there is".to_owned()))
}
