//! SIGHUP: what changes, what stays, what is refused.

use std::sync::{Arc, Condvar, Mutex};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS},
    fake_service::{Reply, serve_requests},
    http::Caller,
    replay,
    sinks::{conserves, settled, sinks_by_name},
    wait::eventually,
};

const EXITS_SINK: &str = r#"
[sinks.exits]
type = "file"
dir = "sinks/exits"

[[routes]]
name = "exits"
types = ["access.exit.*"]
to = ["exits"]
"#;

pub(crate) const TAKEN: &str = "the configuration is reloaded";
pub(crate) const REFUSED: &str = "the configuration is refused";

fn count(daemon: &Daemon, what: &str) -> usize {
    daemon.stderr().matches(what).count()
}

/// Sends SIGHUP and waits until that is over.
pub(crate) async fn hang_up(daemon: &Daemon, expected: &str) {
    let before = count(daemon, expected);
    daemon.signal("HUP");
    eventually(expected, async || (count(daemon, expected) > before).then_some(())).await;
}

pub(crate) async fn reload(site: &Site, daemon: &Daemon, config: &str) {
    site.configure(config);
    hang_up(daemon, TAKEN).await;
}

async fn leave(gate: &Caller, times: usize) {
    for _ in 0..times {
        let exit = json!({ "card_id": "C1", "gate_id": "north-1" });
        gate.post("/v1/buildings/hq/exits", &exit).await.expect(202);
    }
}

fn everything() -> String {
    format!("{TWO_BUILDINGS}{FILE_SINK}")
}

fn with_exits(change: impl FnOnce(&str) -> String) -> String {
    format!("{}{}", everything(), change(EXITS_SINK))
}

/// `None` if the metrics have no such series.
async fn metric(daemon: &Daemon, series: &str) -> Option<f64> {
    let text = daemon.anyone().get("/metrics").await.body;
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn sinks_come_and_go_and_keep_their_places() {
    let site = Site::new(&everything());
    let daemon = site.start();
    let (gate, admin) = (daemon.device(&site.key("hq")), daemon.person(&site.token("admin")));
    leave(&gate, 3).await;

    // a new sink begins at the head, or with the oldest event
    let oldest = |text: &str| {
        let second = text.replace("exits", "all-exits");
        format!("{text}{}", second.replace("type = \"file\"", "type = \"file\"\nfrom = \"oldest\""))
    };
    reload(&site, &daemon, &with_exits(oldest)).await;
    leave(&gate, 2).await;
    settled(&admin, &[("exits", 2), ("all-exits", 5), ("files", 6)]).await;
    assert_eq!(site.files("sinks/exits").len(), 2);
    let reloads: Vec<Value> =
        site.files("sinks/files").into_iter().filter(|event| event["type"] == "admin.reload").collect();
    assert_eq!(reloads[0]["data"]["sinks_added"], json!(["exits", "all-exits"]));
    assert_eq!(reloads[0]["data"]["config_sha256"].as_str().map(str::len), Some(64));
    assert_eq!((reloads.len(), &reloads[0]["data"]["by"]), (1, &json!("server")));

    // one that left goes on where it was when it comes back
    reload(&site, &daemon, &everything()).await;
    assert_eq!(sinks_by_name(&admin).await.keys().collect::<Vec<_>>(), ["files"]);
    assert!(daemon.stderr().contains("DELETE /v1/sinks/exits/cursor"));
    let series = "turnstiled_sink_delivered_total{sink=\"exits\"}";
    assert_eq!(metric(&daemon, series).await, None);
    leave(&gate, 4).await;
    reload(&site, &daemon, &with_exits(str::to_owned)).await;
    leave(&gate, 1).await;
    settled(&admin, &[("exits", 7)]).await;
    assert_eq!(metric(&daemon, series).await, Some(7.0));
    assert_eq!(site.files("sinks/exits").len(), 7, "each once");
    admin.send(Method::DELETE, "/v1/sinks/exits/cursor", &[], "").await.expect(409);

    // one that was forgotten begins as a new one
    reload(&site, &daemon, &everything()).await;
    assert_eq!(admin.send(Method::DELETE, "/v1/sinks/exits/cursor", &[], "").await.status, 204);
    admin.send(Method::DELETE, "/v1/sinks/exits/cursor", &[], "").await.expect(404);
    leave(&gate, 1).await;
    reload(&site, &daemon, &with_exits(str::to_owned)).await;
    leave(&gate, 2).await;
    settled(&admin, &[("exits", 2)]).await;
    assert_eq!(site.files("sinks/exits").len(), 9);
    assert!(daemon.stop().0.success());
}

#[tokio::test]
async fn new_routes_apply_to_what_is_not_delivered_yet() {
    // nobody listens there
    let away = EXITS_SINK.replace(
        "type = \"file\"\ndir = \"sinks/exits\"",
        &format!("type = \"http\"\nurl = \"http://127.0.0.1:1\"\nsecret = \"whsec_{}\"", "A".repeat(32)),
    );
    let site = Site::new(&with_exits(|_| away.clone()));
    let daemon = site.start();
    let (gate, admin) = (daemon.device(&site.key("hq")), daemon.person(&site.token("admin")));
    leave(&gate, 5).await;
    let pending = |expected: u64| {
        let admin = admin.clone();
        async move {
            eventually("pending", async || {
                let sink = sinks_by_name(&admin).await.remove("exits").unwrap();
                conserves(&sink);
                (sink["pending"] == expected).then_some(())
            })
            .await;
        }
    };
    pending(5).await;
    // in another form, to another place
    let formed = |types: &str| {
        let added = EXITS_SINK.replace("to = ", "add = { site = \"x\" }\nto = ");
        with_exits(|_| added.replace("access.exit.*", types))
    };
    reload(&site, &daemon, &formed("access.exit.*")).await;
    settled(&admin, &[("exits", 5)]).await;
    let found = site.files("sinks/exits");
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|event| event["data"]["site"] == "x"));
    // fewer events: those that were pending are not for it any more
    reload(&site, &daemon, &with_exits(|_| away.clone())).await;
    leave(&gate, 4).await;
    pending(4).await;
    let accepted = "turnstiled_sink_accepted_total{sink=\"exits\"}";
    assert_eq!(metric(&daemon, accepted).await, Some(9.0));
    let slower = away.replace("type = \"http\"", "type = \"http\"\nrate_limit = 9");
    reload(&site, &daemon, &with_exits(|_| slower)).await;
    pending(4).await;
    assert_eq!(metric(&daemon, accepted).await, Some(9.0), "counted anew");
    reload(&site, &daemon, &with_exits(|_| away.replace("access.exit.*", "access.entry.*"))).await;
    pending(0).await;
    assert_eq!(metric(&daemon, accepted).await, Some(5.0));
    // and nothing is led there that it has passed
    reload(&site, &daemon, &formed("access.**")).await;
    leave(&gate, 2).await;
    settled(&admin, &[("exits", 7)]).await;
    assert_eq!(site.files("sinks/exits").len(), 7);
    assert!(daemon.stop().0.success());
}

#[tokio::test]
async fn a_file_that_cannot_be_taken_is_refused_and_the_old_one_stays() {
    let site = Site::new(&everything());
    let daemon = site.start();
    let (gate, admin) = (daemon.device(&site.key("hq")), daemon.person(&site.token("admin")));
    let is_taken = "turnstiled_config_last_reload_successful";
    let taken_at = "turnstiled_config_last_reload_success_timestamp_seconds";
    assert_eq!(metric(&daemon, is_taken).await, Some(1.0), "the start counts");
    let started_at = metric(&daemon, taken_at).await.unwrap();
    assert!(started_at > 1.7e9);
    let no_region = EXITS_SINK.replace(
        "type = \"file\"\ndir = \"sinks/exits\"",
        "type = \"sns\"\ntopic_arn = \"arn:aws:sns:eu-central-1:123456789012:t\"",
    );
    for (text, why) in [
        (everything().replace("[sinks.files]", "[sinks.files"), "routes.toml:"),
        (everything().replace("to = [\"files\"]", "to = [\"fils\"]"), "there is no sink"),
        (everything().replace("127.0.0.1:0", "127.0.0.1:1"), "server.listen cannot change"),
        (everything().replace("id = \"annex\"", "id = \"shed\""), "buildings (added: shed)"),
        (format!("[wal]\nstore = \"segments\"\n{}", with_exits(str::to_owned)), "wal.store cannot change"),
        (with_exits(|_| no_region), "has no AWS region"),
    ] {
        site.configure(&text);
        hang_up(&daemon, REFUSED).await;
        let stderr = daemon.stderr();
        assert!(stderr.lines().last().unwrap().contains(why), "{why}: {stderr}");
        assert_eq!(metric(&daemon, is_taken).await, Some(0.0));
    }
    std::fs::remove_file(site.path("routes.toml")).unwrap();
    hang_up(&daemon, REFUSED).await;
    assert_eq!(metric(&daemon, taken_at).await, Some(started_at));
    assert_eq!(sinks_by_name(&admin).await.len(), 1);
    leave(&gate, 2).await;
    settled(&admin, &[("files", 2)]).await;
    reload(&site, &daemon, &everything()).await;
    assert_eq!(metric(&daemon, is_taken).await, Some(1.0));
    assert!(daemon.stop().0.success());
}

#[tokio::test]
async fn gates_and_rules_change_while_people_are_inside() {
    let site = Site::with_files();
    let daemon = site.start();
    let gate = daemon.device(&site.key("hq"));
    let hr = daemon.person(&site.token("hr"));
    hr.put("/v1/cards/C1", &json!({ "employee_id": "E1" })).await.expect(201);
    let enter = async |at: &str| {
        let swipe = json!({ "card_id": "C1", "gate_id": at });
        gate.post("/v1/buildings/hq/entries", &swipe).await
    };
    assert_eq!(enter("north-1").await.expect(200)["decision"], "granted");
    enter("south").await.expect(404);
    let south = everything().replace("{ id = \"north-2\" }", "{ id = \"south\" }");
    reload(&site, &daemon, &south).await;
    assert_eq!(enter("south").await.expect(200)["reason"], "anti_passback");
    enter("north-2").await.expect(404);
    let card = json!({ "employee_id": "E2", "gates": ["south"] });
    hr.put("/v1/cards/C2", &card).await.expect(201);
    reload(&site, &daemon, &south.replace("anti_passback = \"hard\"", "anti_passback = \"off\"")).await;
    assert_eq!(enter("south").await.expect(200)["decision"], "granted");
    assert!(daemon.stop().0.success());
    assert_eq!(site.dump().iter().filter(|event| event["type"] == "admin.reload").count(), 2);
}

/// A webhook that answers only when it is let.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<bool>, Condvar)>);

impl Door {
    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

#[tokio::test]
async fn a_sink_that_hangs_holds_up_no_other_and_gets_nothing_twice() {
    let (door, taken) = (Door::default(), Arc::new(Mutex::new(Vec::new())));
    let url = serve_requests({
        let (door, taken) = (door.clone(), Arc::clone(&taken));
        move |request| {
            taken.lock().unwrap().push(request.header("webhook-id").to_owned());
            door.pass();
            Reply { status: 204, headers: vec![], body: String::new() }
        }
    });
    let hook = EXITS_SINK.replace("exits", "hook").replace(
        "type = \"file\"\ndir = \"sinks/hook\"",
        &format!("type = \"http\"\nurl = \"{url}\"\nsecret = \"whsec_{}\"", "A".repeat(32)),
    );
    let hook = hook.replace("access.exit.*", "access.exit.recorded");
    let both = |change: &dyn Fn(&str) -> String| format!("{}{}", with_exits(change), change(&hook));
    let site = Site::new(&both(&str::to_owned));
    let daemon = site.start();
    let (gate, admin) = (daemon.device(&site.key("hq")), daemon.person(&site.token("admin")));
    leave(&gate, 1).await;
    eventually("the webhook is asked", async || (taken.lock().unwrap().len() == 1).then_some(())).await;
    site.configure(&both(&|text| text.replace("to = ", "add = { site = \"x\" }\nto = ")));
    daemon.signal("HUP");
    eventually("the other sink has its new route", async || {
        leave(&gate, 1).await;
        site.files("sinks/exits").last().filter(|event| event["data"]["site"] == "x").map(drop)
    })
    .await;
    assert_eq!(count(&daemon, TAKEN), 0);
    let file_sink = sinks_by_name(&admin).await.remove("files").unwrap();
    conserves(&file_sink);
    door.open();
    eventually("the reload is over", async || (count(&daemon, TAKEN) == 1).then_some(())).await;
    leave(&gate, 1).await;
    let exits = site.files("sinks/files").iter().filter(|event| event["type"] != "admin.reload").count();
    settled(&admin, &[("hook", exits as u64 + 1), ("exits", exits as u64 + 1)]).await;
    let mut ids = taken.lock().unwrap().clone();
    let asked = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), asked), (exits + 1, exits + 1), "each once");
    assert!(daemon.stop().0.success());
}

#[tokio::test]
async fn a_replay_goes_on_into_a_sink_that_was_changed() {
    const EXITS: usize = 200;
    const RATE: usize = 50;
    let site = replay::site();
    let config = std::fs::read_to_string(site.path("routes.toml")).unwrap();
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    replay::leave(&site, &daemon, EXITS).await;
    settled(&admin, &[("copy", EXITS as u64)]).await;
    let order =
        json!({ "name": "again", "from": "wal", "to": "copy", "type": "access.exit.*", "rate": RATE });
    admin.post("/v1/replays", &order).await.expect(201);
    for (settings, delivered) in [("rate_limit = 5000", RATE), ("max_age = \"10m\"", 2 * RATE)] {
        replay::some_delivered(&admin, "again", delivered).await;
        let changed = format!("[sinks.copy]\n{settings}");
        reload(&site, &daemon, &config.replace("[sinks.copy]", &changed)).await;
    }
    let report = replay::over(&admin, "again").await;
    assert_eq!((&report["state"], &report["delivered"]), (&json!("done"), &json!(EXITS)), "{report}");
    // the replay's beginning, and two reloads
    settled(&admin, &[("copy", EXITS as u64 + 3)]).await;
    let (live, replayed) = replay::live_and_replayed(&site, "sinks/copy");
    assert_eq!(replay::assert_replayed(&live, &replayed, "access.exit.recorded"), 0, "each once");

    // one whose target has gone cannot go on
    let order = json!({ "name": "more", "from": "wal", "to": "copy", "rate": RATE });
    admin.post("/v1/replays", &order).await.expect(201);
    let without = config.replace("to = [\"files\", \"copy\"]", "to = [\"files\"]");
    let (head, tail) = without.split_once("[sinks.copy]").unwrap();
    reload(&site, &daemon, &format!("{head}{}", &tail[tail.find("[[routes]]").unwrap()..])).await;
    let report = replay::over(&admin, "more").await;
    assert_eq!(report["state"], "failed");
    assert!(report["last_error"]["text"].as_str().unwrap().contains("no longer has its sink"), "{report}");
    admin.post("/v1/replays", &json!({ "from": "wal", "to": "copy" })).await.expect(422);
    assert!(daemon.stop().0.success());
}
