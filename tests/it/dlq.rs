//! `turnstiled dlq`, beside a running daemon.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    moody_queue::{Mood, Service, Taken, moody_queue, queue_site},
    sinks::settled,
    wait::eventually,
};

#[tokio::test]
async fn dead_letters_are_looked_after_from_the_command_line() {
    let (taken, mood) = (Taken::default(), Mood::default());
    let site = queue_site(&moody_queue(Arc::clone(&taken), Taken::default(), Arc::clone(&mood)));
    let daemon = site.start();
    let (token, key) = (site.token("admin"), site.key("hq"));
    for exit in 0..105 {
        let body = json!({ "card_id": format!("CARD{exit}"), "gate_id": "north-1" });
        daemon.device(&key).post("/v1/buildings/hq/exits", &body).await.expect(202);
    }
    settled(&daemon.person(&token), &[("queue", 105)]).await;

    let url = daemon.base_url().to_owned();
    let dlq =
        |arguments: &[&str]| [&["dlq", "--url", &url, "--token", &token], arguments].concat().join("\n");
    let run = |arguments: &[&str]| site.run(&dlq(arguments).lines().collect::<Vec<_>>());
    let well = |arguments: &[&str]| site.run_well(&dlq(arguments).lines().collect::<Vec<_>>());
    let list = well(&["list"]);
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 105, "more than one page: {list}");
    let id = lines[0][0];
    assert_eq!(
        (lines[0].len(), lines[0][1], lines[0][2], lines[0][5]),
        (7, "dead", "1", "InvalidMessageContents")
    );
    assert!(lines[0][6].starts_with("The message is not what this queue takes."), "{list}");
    assert!(!list.contains('\u{1b}'), "a service's words are no orders for the terminal");
    assert_eq!(well(&["list", "--sink", "files"]), "");
    let letter: Value = serde_json::from_str(&well(&["show", id])).unwrap();
    assert_eq!((&letter["id"], &letter["event"]["data"]["card_id"]), (&json!(id), &json!("CARD0")));

    assert_eq!(well(&["discard", id, "--reason", "a test card"]), format!("discarded {id}\n"));
    let gone = run(&["show", id]);
    assert_eq!((gone.status.code(), gone.stdout.is_empty()), (Some(1), true));
    let words = String::from_utf8(gone.stderr).unwrap();
    assert!(words.contains("404") && words.contains("no dead letter"), "{words}");
    assert_eq!(run(&["list", "--sink", "no/such?sink=files"]).status.code(), Some(1));
    assert_eq!(run(&["show", "../sinks"]).status.code(), Some(1), "an id is one part of the path");

    *mood.lock().unwrap() = Service::RefusesOnly("nothing");
    let ids: Vec<&str> = lines[1..102].iter().map(|line| line[0]).collect();
    let redriven = well(&[&["redrive"], ids.as_slice()].concat());
    assert_eq!(redriven, "100 on their way\n1 on their way\n");
    eventually("those are delivered", async || (well(&["list"]).lines().count() == 3).then_some(())).await;
    assert_eq!(well(&["redrive", "--sink", "queue"]), "3 on their way\n");
    eventually("all are delivered", async || well(&["list"]).is_empty().then_some(())).await;
    assert_eq!(well(&["redrive", "--all"]), "0 on their way\n");
    assert_eq!(taken.lock().unwrap().len(), 104, "once each, and not the one that was thrown away");

    for usage in [&["redrive"][..], &["redrive", "--all", "--sink", "queue"], &["discard", id], &["show"]] {
        assert_eq!(run(usage).status.code(), Some(2), "{usage:?}");
    }
    let hr = site.token("hr");
    for (url, token) in [(url.as_str(), hr.as_str()), (&url, "no token"), ("https://localhost:1", &token)] {
        let output = site.run(&["dlq", "list", "--url", url, "--token", token]);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{url}");
        assert!(!output.stderr.is_empty());
    }
    let without = site.run(&["dlq", "list", "--url", &url]);
    assert!(String::from_utf8(without.stderr).unwrap().contains("TURNSTILED_TOKEN"));
    let mut command = site.command(&["dlq", "list", "--url", &url]);
    assert!(command.env("TURNSTILED_TOKEN", &token).output().unwrap().status.success());
    assert!(daemon.stop().0.success());
}
