//! `[server] admin_listen`: what only admins may ask for, and the metrics, answer there and nowhere else.

use reqwest::Method;

use crate::{
    daemon::{FILE_SINK, Site, TWO_BUILDINGS},
    http::Caller,
};

const LISTEN: &str = "listen = \"127.0.0.1:0\"";

const ADMINS: [(Method, &str); 10] = [
    (Method::GET, "/metrics"),
    (Method::GET, "/v1/dead-letters"),
    (Method::GET, "/v1/dead-letters/files:1"),
    (Method::DELETE, "/v1/dead-letters/files:1"),
    (Method::POST, "/v1/dead-letters/redrive"),
    (Method::GET, "/v1/replays"),
    (Method::POST, "/v1/replays"),
    (Method::GET, "/v1/replays/r"),
    (Method::DELETE, "/v1/replays/r"),
    (Method::DELETE, "/v1/sinks/files/cursor"),
];
const EVERYONES: [(Method, &str); 5] = [
    (Method::GET, "/docs"),
    (Method::GET, "/healthz"),
    (Method::GET, "/readyz"),
    (Method::GET, "/openapi.json"),
    (Method::GET, "/v1/sinks"),
];
const OTHERS: [(Method, &str); 8] = [
    (Method::POST, "/v1/buildings/hq/entries"),
    (Method::POST, "/v1/buildings/hq/exits"),
    (Method::POST, "/v1/buildings/hq/exits/batch"),
    (Method::GET, "/v1/buildings/hq/presence"),
    (Method::GET, "/v1/cards"),
    (Method::GET, "/v1/cards/C1"),
    (Method::PUT, "/v1/cards/C1"),
    (Method::POST, "/v1/cards/C1/suspend"),
];
const NOTHING_HERE: &str = "there is nothing here";

/// Whether an address has it at all; rights and bodies are another matter.
async fn has(caller: &Caller, (method, path): &(Method, &str)) -> bool {
    let answer = caller.send(method.clone(), path, &[], "").await;
    !(answer.status == 404 && answer.body.contains(NOTHING_HERE))
}

#[tokio::test]
async fn what_admins_may_ask_for_answers_only_there() {
    let config = format!("{TWO_BUILDINGS}{FILE_SINK}");
    let site = Site::new(&config.replace(LISTEN, &format!("{LISTEN}\nadmin_listen = \"127.0.0.1:0\"")));
    let token = site.token("admin,hr,security,auditor");
    let daemon = site.start();
    let (main, admin) = (daemon.person(&token), daemon.admin(&token));
    for route in &ADMINS {
        assert!(!has(&main, route).await, "{route:?} at listen");
        assert!(has(&admin, route).await, "{route:?} at admin_listen");
    }
    for route in &EVERYONES {
        assert!(has(&main, route).await && has(&admin, route).await, "{route:?}");
    }
    for route in &OTHERS {
        assert!(has(&main, route).await, "{route:?} at listen");
        assert!(!has(&admin, route).await, "{route:?} at admin_listen");
    }
    let letters = site.run_well(&["dlq", "list", "--url", daemon.admin_url().as_str(), "--token", &token]);
    assert_eq!(letters, "");
    let (status, _) = daemon.stop();
    assert!(status.success());
}

#[tokio::test]
async fn without_it_everything_answers_at_listen() {
    let site = Site::with_files();
    let token = site.token("admin,hr,security,auditor");
    let daemon = site.start();
    let main = daemon.person(&token);
    for route in ADMINS.iter().chain(&EVERYONES).chain(&OTHERS) {
        assert!(has(&main, route).await, "{route:?}");
    }
}
