//! Devices' keys beside requests: what is recorded of them, and when they were last used.

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site},
    wait::eventually,
};

const EXITS: &str = "/v1/buildings/hq/exits";

fn add(site: &Site, more: &[&str]) -> String {
    let arguments = [&["keys", "add", "--building", "hq"], more].concat();
    site.run_well(&arguments).trim().to_owned()
}

fn id_of(key: &str) -> &str {
    key.split_once('.').unwrap().0
}

/// What the events say came (`+`) and went (`-`), in their order.
fn told(events: &[Value]) -> Vec<String> {
    let of_keys = events.iter().filter(|event| event["type"] == "admin.keys");
    let mut told = Vec::new();
    for event in of_keys {
        assert_eq!(event["data"]["by"], "server");
        for (member, sign) in [("removed", '-'), ("added", '+')] {
            for fact in event["data"][member].as_array().unwrap() {
                let text = |name: &str| fact[name].as_str().unwrap_or("*").to_owned();
                assert_ne!(text("building"), "*");
                assert!(
                    fact.as_object()
                        .unwrap()
                        .keys()
                        .all(|name| ["id", "building", "gate", "kind"].contains(&name.as_str()))
                );
                told.push(format!("{sign}{} {} {}", text("id"), text("gate"), text("kind")));
            }
        }
    }
    told
}

async fn recorded(daemon: &Daemon, changes: usize) {
    let said =
        async || (daemon.stderr().matches("devices' keys came or went").count() >= changes).then_some(());
    eventually("the change is recorded", said).await;
}

fn last_used(site: &Site, key: &str) -> String {
    let list = site.run_well(&["keys", "list"]);
    let line = list.lines().find(|line| line.starts_with(id_of(key))).unwrap().to_owned();
    line.split_whitespace().nth(5).unwrap().to_owned()
}

#[tokio::test]
async fn keys_that_come_and_go_are_events() {
    let site = Site::with_files();
    let gate = add(&site, &["--gate", "north-1", "--name", "left of the lift"]);
    let daemon = site.start();
    let panel = add(&site, &["--kind", "panel"]);
    recorded(&daemon, 2).await;
    site.run_well(&["keys", "revoke", id_of(&gate)]);
    recorded(&daemon, 3).await;
    assert!(daemon.stop().0.success());
    // while it does not run
    site.run_well(&["keys", "revoke", id_of(&panel)]);
    let late = add(&site, &[]);
    assert!(site.start().stop().0.success());
    // nothing changed: nothing more
    assert!(site.start().stop().0.success());
    let events = site.dump();
    let expected = [
        format!("+{} north-1 gate", id_of(&gate)),
        format!("+{} * panel", id_of(&panel)),
        format!("-{} north-1 gate", id_of(&gate)),
        format!("-{} * panel", id_of(&panel)),
        format!("+{} * gate", id_of(&late)),
    ];
    assert_eq!(told(&events), expected);
    assert_eq!(events.len(), 4);
    let text = format!("{events:?}");
    assert!(!text.contains("left of the lift") && !text.contains("sha256"));
    assert!(!text.contains(gate.split_once('.').unwrap().1));

    // whoever loses the file gets all keys once more, and no gap
    std::fs::write(site.path("data/keys-recorded.json"), "{").unwrap();
    assert!(site.start().stop().0.success());
    let told = told(&site.dump());
    assert_eq!(told.iter().filter(|line| **line == expected[4]).count(), 2);
    assert!(told.len() > 5 && told[5..].iter().all(|line| line.starts_with('+')), "{told:?}");
}

#[tokio::test]
async fn the_list_shows_when_a_key_was_last_used() {
    let site = Site::with_files();
    let (used, unused) = (site.key("hq"), site.key("hq"));
    let daemon = site.start();
    assert_eq!(last_used(&site, &used), "-");
    let exit = json!({ "card_id": "C1", "gate_id": "north-1" });
    daemon.device(&used).post(EXITS, &exit).await.expect(202);
    // the first use is written down at once, later ones once a minute, and at the stop
    let shown = async || Some(last_used(&site, &used)).filter(|last| last != "-");
    let first = eventually("the first use", shown).await;
    let again = daemon.device(&used).post(EXITS, &exit).await.expect(202);
    assert!(daemon.stop().0.success());
    let second = last_used(&site, &used);
    assert!(second > first, "{first} {second}");
    assert!(again["event_id"].is_string());
    assert_eq!(last_used(&site, &unused), "-");
    // known to the next run, too
    assert!(site.start().stop().0.success());
    assert_eq!(last_used(&site, &used), second);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(site.path("data/keys-used.json")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}
