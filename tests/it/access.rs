//! Who may come in: names of the server, rates, failed attempts, addresses.

use reqwest::Method;
use serde_json::json;

use crate::{
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS},
    http::{Answer, Caller},
    reload,
};

const EXITS: &str = "/v1/buildings/hq/exits";
const LISTEN: &str = "listen = \"127.0.0.1:0\"";

/// With more lines in `[server]`.
fn config(server: &str) -> String {
    format!("{TWO_BUILDINGS}{FILE_SINK}").replace(LISTEN, &format!("{LISTEN}\n{server}"))
}

async fn leave(gate: &Caller) -> Answer {
    gate.post(EXITS, &json!({ "card_id": "C1", "gate_id": "north-1" })).await
}

#[track_caller]
fn retry_after(answer: &Answer) -> u64 {
    let problem = answer.expect(429);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(problem["status"], 429);
    answer.header("retry-after").parse().unwrap()
}

async fn named(caller: &Caller, path: &str, host: &str) -> u16 {
    caller.send(Method::GET, path, &[("Host", host)], "").await.status
}

#[tokio::test]
async fn only_the_names_of_the_server_are_answered() {
    let site = Site::new(&config("hosts = [\"Gate.hq.example\", \"desk:8443\"]"));
    let daemon = site.start();
    let anyone = daemon.anyone();
    for accepted in ["gate.hq.example", "GATE.HQ.EXAMPLE:80", "desk:8443"] {
        assert_eq!(named(&anyone, "/openapi.json", accepted).await, 200, "{accepted}");
    }
    for other in ["127.0.0.1", "evil.example", "gate.hq.example.evil", "desk", "x@gate.hq.example", ""] {
        assert_eq!(named(&anyone, "/openapi.json", other).await, 421, "{other}");
        assert_eq!(named(&anyone, "/no/such", other).await, 421, "{other}");
    }
    // whoever adds a header cannot make a name the right one
    let headers =
        [("Host", "evil.example"), ("X-Forwarded-Host", "desk:8443"), ("Forwarded", "host=desk:8443")];
    let answer = anyone.send(Method::GET, "/openapi.json", &headers, "").await;
    assert_eq!(answer.expect(421)["title"], "Misdirected Request");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(named(&anyone, path, "127.0.0.1").await, 200);
    }
    reload::reload(&site, &daemon, &config("hosts = [\"other\"]")).await;
    assert_eq!(named(&anyone, "/openapi.json", "other:1").await, 200);
    assert_eq!(named(&anyone, "/openapi.json", "gate.hq.example").await, 421);
    reload::reload(&site, &daemon, &config("")).await;
    assert_eq!(named(&anyone, "/openapi.json", "anything").await, 200);
}

#[tokio::test]
async fn a_device_beyond_its_rate_is_told_when_to_come_again() {
    let site = Site::new(&config("rate_limit = 1"));
    let (busy, calm) = (site.key("hq"), site.key("hq"));
    let daemon = site.start();
    let (busy, calm) = (daemon.device(&busy), daemon.device(&calm));
    // five seconds' worth at once, and one for each second that this takes
    let mut taken = 0;
    let refused = loop {
        let answer = leave(&busy).await;
        if answer.status != 202 {
            break answer;
        }
        taken += 1;
        assert!(taken < 60, "a rate of one a second holds nothing back");
    };
    assert!(taken > 5, "{taken}");
    assert_eq!(retry_after(&refused), 1);
    leave(&calm).await.expect(202);
    // a batch is one request
    let exits: Vec<_> = (0..500).map(|_| json!({ "card_id": "C1", "gate_id": "north-1" })).collect();
    calm.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
    leave(&calm).await.expect(202);
    reload::reload(&site, &daemon, &config("")).await;
    for _ in 0..20 {
        leave(&busy).await.expect(202);
    }
}

async fn failures(daemon: &Daemon, kind: &str) -> u64 {
    let text = daemon.anyone().get("/metrics").await.body;
    let series = format!("turnstiled_auth_failures_total{{kind=\"{kind}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn failures_slow_down_only_failures() {
    let site = Site::with_files();
    let (key, token) = (site.key("hq"), site.token("security"));
    let daemon = site.start();
    let (gate, desk) = (daemon.device(&key), daemon.person(&token));
    let wrong = daemon.device(&format!("{}x", &key[..key.len() - 1]));
    let mut refused = 0;
    let slowed = loop {
        let answer = leave(&wrong).await;
        leave(&gate).await.expect(202);
        if answer.status != 401 {
            break answer;
        }
        refused += 1;
        assert!(refused <= 20, "nothing is slowed down");
    };
    assert_eq!(refused, 20);
    assert!((1..=60).contains(&retry_after(&slowed)));
    retry_after(&daemon.anyone().get("/v1/sinks").await);
    retry_after(&daemon.person("x.y.z").get("/v1/sinks").await);
    for _ in 0..30 {
        leave(&gate).await.expect(202);
        desk.get("/v1/buildings/hq/presence").await.expect(200);
    }
    // rights are another matter
    desk.get("/v1/cards").await.expect(403);
    assert_eq!((failures(&daemon, "device").await, failures(&daemon, "person").await), (21, 2));
    let (_, log) = daemon.stop();
    let lines = log.lines().filter(|line| line.contains("missing or bad credentials")).count();
    assert!((1..=22).contains(&lines) && log.contains("\"address\":\"127.0.0.1\""), "{lines}");
    assert!(!log.contains(&key[12..]), "no key is logged");
}

#[tokio::test]
async fn a_key_is_shown_once_and_is_no_longer_than_a_key() {
    let site = Site::with_files();
    let (key, panel) =
        (site.key("hq"), site.run_well(&["keys", "add", "--building", "hq", "--kind", "panel"]));
    let daemon = site.start();
    let exit = json!({ "card_id": "C1", "gate_id": "north-1" }).to_string();
    let gate = daemon.device(&key);
    leave(&gate).await.expect(202);
    gate.send(Method::POST, EXITS, &[("X-Api-Key", &key)], &exit).await.expect(401);
    let anyone = daemon.anyone();
    for wrong in
        ["", ".", "k_", &format!("{key}{}", "x".repeat(7_000)), &format!("{key} "), &key.to_uppercase()]
    {
        let answer = anyone.send(Method::POST, EXITS, &[("X-Api-Key", wrong)], &exit).await;
        // a header's value has no white space at its end
        assert_eq!(answer.status, if wrong.trim() == key { 202 } else { 401 }, "{wrong}");
    }
    anyone.send(Method::POST, EXITS, &[], &exit).await.expect(401);
    let panel = daemon.device(panel.trim());
    for path in [EXITS, "/v1/buildings/hq/entries", "/v1/buildings/annex/exits"] {
        panel.send(Method::POST, path, &[], &exit).await.expect(403);
    }
    let batch = json!({ "exits": [{ "card_id": "C1", "gate_id": "north-1" }] });
    panel.post("/v1/buildings/hq/exits/batch", &batch).await.expect(403);
    let only = site.run_well(&["keys", "add", "--building", "hq", "--gate", "north-2"]);
    leave(&daemon.device(only.trim())).await.expect(403);
}

#[test]
fn an_address_that_is_not_loopback_is_refused_at_the_start_and_by_check() {
    let exposed = config("").replace(LISTEN, "listen = \"0.0.0.0:0\"");
    let site = Site::new(&exposed);
    let Err(refused) = site.try_start() else { panic!("it started") };
    assert_eq!(refused.status.code(), Some(1));
    for said in ["server.listen", "not loopback", "allow_plain_http", "auth.jwt", "allow_local_issuer"] {
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
    let checked = site.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8(checked.stderr).unwrap().contains("allow_plain_http"));
    let demo = site.run(&["demo", "--listen", "0.0.0.0:0", "--for", "1s"]);
    assert_eq!(demo.status.code(), Some(1));
    assert!(String::from_utf8(demo.stderr).unwrap().contains("--allow-plain-http"));
    let allowed = exposed
        .replace("[server]\n", "[server]\nallow_plain_http = true\n")
        .replace("[auth]\n", "[auth]\nallow_local_issuer = true\n");
    site.configure(&allowed);
    assert!(site.run(&["check"]).status.success());
    let (status, _) = site.start().stop();
    assert!(status.success());
}
