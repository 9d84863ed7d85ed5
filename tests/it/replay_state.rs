//! `--to state`: cards and presence rebuilt from the log and from archives are what the server has, and a planted
//! difference is found.

use std::fs;

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site, TWO_BUILDINGS, events},
    sinks::{conserves, settled, sinks_by_name},
};

/// The archive without the holder's name, and one with it.
const SINKS: &str = r#"
[sinks.files]
type = "file"
dir = "sinks/files"

[sinks.personal]
type = "file"
dir = "sinks/personal"

[[routes]]
name = "all"
types = ["**"]
to = ["files"]

[[routes]]
name = "personal"
types = ["**"]
to = ["personal"]
personal = true
"#;

/// Some cards, and some people inside two buildings.
async fn live(site: &Site, daemon: &Daemon) {
    let hr = daemon.person(&site.token("hr"));
    for number in 0..5 {
        let card = json!({ "employee_id": format!("E{number}"), "holder_name": format!("Name {number}") });
        hr.put(&format!("/v1/cards/C{number}"), &card).await.expect(201);
    }
    hr.post("/v1/cards/C4/suspend", &json!({})).await.expect(200);
    for (building, gate, cards) in [("hq", "north-1", 0..3), ("annex", "main", 2..4)] {
        let device = daemon.device(&site.key(building));
        for number in cards {
            let swipe = json!({ "card_id": format!("C{number}"), "gate_id": gate });
            device.post(&format!("/v1/buildings/{building}/entries"), &swipe).await.expect(200);
        }
    }
    let exit = json!({ "card_id": "C0", "gate_id": "north-1" });
    daemon.device(&site.key("hq")).post("/v1/buildings/hq/exits", &exit).await.expect(202);
    // of no weight for the state; what comes after the last event of an archive is taken from the log
    let denied = json!({ "card_id": "C4", "gate_id": "north-1" });
    daemon.device(&site.key("hq")).post("/v1/buildings/hq/entries", &denied).await.expect(200);
}

struct Compared {
    code: Option<i32>,
    out: String,
    err: String,
}

fn compare(site: &Site, daemon: &Daemon, token: &str, arguments: &[&str]) -> Compared {
    let url = ["replay", "--url", daemon.base_url(), "--token", token, "--to", "state", "--from"];
    let output = site.run(&[&url, arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Compared { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

#[tokio::test]
async fn the_state_is_what_its_events_come_to_and_a_planted_difference_is_found() {
    let site = Site::new(&format!("{TWO_BUILDINGS}{SINKS}"));
    let daemon = site.start();
    live(&site, &daemon).await;
    let token = site.token("admin");
    let admin = daemon.person(&token);
    // 5 cards, suspend, 5 entries, an exit, a denied entry
    settled(&admin, &[("files", 13), ("personal", 13)]).await;
    let copies = ["sinks/files", "sinks/personal"].map(|dir| (dir, site.file_lines(dir)));

    // 5 cards; 2 people in hq, 2 in annex, and one who has left
    for from in ["wal", "sinks/files", "sinks/personal"] {
        let Compared { code, out, err } = compare(&site, &daemon, &token, &[from]);
        assert_eq!((code, out.as_str()), (Some(0), "0 of 9 entries differ\n"), "{from}: {err}");
    }
    // without an event of this server nothing is proven
    for (dir, line) in [("empty", None), ("foreign", Some(copies[0].1[0].replace("\"hq-1.", "\"other-1.")))] {
        fs::create_dir(site.path(dir)).unwrap();
        if let Some(line) = line {
            fs::write(site.path(dir).join("a.ndjson"), line + "\n").unwrap();
        }
        let Compared { code, out, err } = compare(&site, &daemon, &token, &[dir]);
        assert!(code == Some(1) && out.is_empty() && err.contains("nothing is proven"), "{dir}: {out}{err}");
    }
    let Compared { out, err, .. } = compare(&site, &daemon, &token, &["wal", "--building", "annex"]);
    assert_eq!(out, "0 of 2 entries differ\n", "{err}");
    let Compared { out, err, .. } = compare(&site, &daemon, &token, &["wal", "--card", "C2"]);
    assert_eq!(out, "0 of 3 entries differ\n", "{err}");

    // planted: another name, a lost suspension, someone who has not left, and one who never came
    fs::create_dir(site.path("planted")).unwrap();
    let plant = |name: &str, lines: Vec<String>| {
        fs::write(site.path(&format!("planted/{name}.ndjson")), lines.join("\n") + "\n").unwrap();
    };
    let (_, files) = &copies[0];
    let lacks =
        |line: &&String| !["card.suspended", "access.exit.recorded"].iter().any(|it| line.contains(it));
    let mut lines: Vec<String> = files.iter().filter(lacks).cloned().collect();
    lines.retain(|line| {
        !(line.contains("access.entry.granted") && line.contains("\"annex\"") && line.contains("C3"))
    });
    // backwards: the order of an archive is not that of the log
    lines.reverse();
    plant("events", lines);
    let Compared { code, out, err } = compare(&site, &daemon, &token, &["planted"]);
    let found: Vec<&str> = out.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert!(code == Some(1) && found.len() == 4, "{out}{err}");
    assert_eq!(found[..3], ["card/C4", "inside/hq/E0", "inside/annex/E3"], "{out}");
    assert!(
        out.lines().next().unwrap().contains("\"suspended\"") && out.contains("inside/hq/E0: live null"),
        "{out}"
    );
    assert!(out.ends_with("3 of 10 entries differ\n"), "{out}");

    // a name that the source has is compared
    let (_, personal) = &copies[1];
    plant("events", personal.iter().map(|line| line.replace("Name 1", "Name X")).collect());
    let Compared { code, out, .. } = compare(&site, &daemon, &token, &["planted"]);
    assert!(code == Some(1) && out.contains("Name 1") && out.contains("Name X"), "{out}");
    assert!(out.ends_with("1 of 9 entries differ\n"), "{out}");

    // what cannot be read is said, and is no agreement
    plant("events", files.iter().cloned().chain(["{".to_owned()]).collect());
    let Compared { code, out, err } = compare(&site, &daemon, &token, &["planted"]);
    assert!(code == Some(1) && out == "0 of 9 entries differ\n" && err.contains("line 14"), "{out}{err}");

    for (field, value) in
        [("since", json!("2026-11-20T08:00:00Z")), ("type", json!("card.*")), ("rate", json!(5))]
    {
        let mut order = json!({ "from": "wal", "to": "state" });
        order[field] = value;
        let problem = admin.post("/v1/replays", &order).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let acts = events(site.file_lines("sinks/files").iter().map(String::as_str));
    assert!(acts.iter().filter(|event| event["type"] == "admin.replay").count() >= 8);
    let list = admin.get("/v1/replays").await.expect(200);
    // those that proved nothing have not compared anything
    let done = list["items"].as_array().unwrap().iter().filter(|it| it["state"] == "done");
    let listed = done.map(|it| &it["differences"]["listed"]);
    assert!(listed.into_iter().all(|listed| *listed == json!([])), "{list}");
    sinks_by_name(&admin).await.values().for_each(conserves);
    let sinks: Value = admin.get("/v1/sinks").await.expect(200);
    assert!(!sinks.to_string().contains("\"state\":\"open\""), "{sinks}");
}
