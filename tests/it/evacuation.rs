//! Hundreds leave at once: every exit is recorded, and the muster knows who did.

use std::{collections::BTreeSet, ops::Range};

use serde_json::{Value, json};

use crate::{
    daemon::Site,
    http::Caller,
    modes::{House, Open, states},
};

/// People inside when the alarm goes off; the numbers below are theirs, by the way they leave.
const PEOPLE: usize = 400;
const ONE_BY_ONE: Range<usize> = 0..160;
const IN_BATCHES: Range<usize> = 160..390;
/// Nobody sees these leave.
const MISSING: Range<usize> = 390..PEOPLE;
/// They come when the alarm has gone off.
const RESPONDERS: Range<usize> = 400..410;
const LATE: Range<usize> = 410..440;

/// Gates that are busy at once, each with a connection of its own: of each kind so many.
const GATES: usize = 8;
const BATCH: usize = 10;

fn swipe(number: usize) -> Value {
    json!({ "card_id": format!("C{number}"), "gate_id": "north-1" })
}

/// One share for each gate.
fn shares(people: Range<usize>) -> impl Iterator<Item = Vec<usize>> {
    (0..GATES).map(move |gate| people.clone().skip(gate).step_by(GATES).collect())
}

async fn leave_one_by_one(gate: Caller, people: Vec<usize>) {
    for number in people {
        let answer = gate.post("/v1/buildings/hq/exits", &swipe(number)).await.expect(202);
        assert!(answer["event_id"].is_string(), "{answer}");
    }
}

async fn leave_in_batches(gate: Caller, people: Vec<usize>) {
    for some in people.chunks(BATCH) {
        let exits: Vec<_> = some.iter().map(|number| swipe(*number)).collect();
        let answer = gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), some.len());
        assert!(results.iter().all(|result| result["event_id"].is_string()), "{answer}");
    }
}

/// What each was answered.
async fn come(gate: Caller, people: Vec<usize>) -> Vec<(usize, Value)> {
    let mut answers = Vec::new();
    for number in people {
        let answer = gate.post("/v1/buildings/hq/entries", &swipe(number)).await.expect(200);
        answers.push((number, json!([answer["decision"], answer["reason"]])));
    }
    answers
}

async fn come_all(open: &Open, gate_key: &str, people: Range<usize>) -> Vec<(usize, Value)> {
    let device = || open.daemon.device(gate_key);
    let tasks: Vec<_> = shares(people).map(|some| tokio::spawn(come(device(), some))).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.extend(task.await.unwrap());
    }
    answers
}

fn employees(people: Range<usize>) -> BTreeSet<String> {
    people.map(|number| format!("E{number}")).collect()
}

#[tokio::test]
async fn a_flood_of_exits_in_an_evacuation_is_all_recorded() {
    let house = House::at(Site::with_files());
    let key = house.site.key("hq");
    let open = house.open();
    let row = |number| format!("C{number},E{number},{}\n", RESPONDERS.contains(&number));
    let cards: String = (0..LATE.end).map(row).collect();
    let csv = format!("card_id,employee_id,responder\n{cards}");
    let headers = [("content-type", "text/csv")];
    let import = open.desk.send(reqwest::Method::POST, "/v1/cards/import", &headers, &csv).await;
    import.expect(200);
    let granted = json!(["granted", null]);
    let answers = come_all(&open, &key, 0..PEOPLE).await;
    assert!(answers.iter().all(|(_, answer)| *answer == granted), "{answers:?}");

    open.mode("evacuation").await;
    let device = || open.daemon.device(&key);
    let mut leaving: Vec<_> =
        shares(ONE_BY_ONE).map(|some| tokio::spawn(leave_one_by_one(device(), some))).collect();
    leaving.extend(shares(IN_BATCHES).map(|some| tokio::spawn(leave_in_batches(device(), some))));
    for (number, answer) in come_all(&open, &key, RESPONDERS.start..LATE.end).await {
        let expected =
            if RESPONDERS.contains(&number) { granted.clone() } else { json!(["denied", "evacuation"]) };
        assert_eq!(answer, expected, "C{number}");
    }
    for task in leaving {
        task.await.unwrap();
    }

    let muster = open.muster().await;
    let counts = json!({ "roster": PEOPLE, "left": MISSING.start, "accounted": 0, "missing": MISSING.len() });
    assert_eq!(muster["counts"], counts);
    let missing = states(&muster).into_iter().filter(|(_, state)| state == "missing");
    assert_eq!(missing.map(|(employee, _)| employee).collect::<BTreeSet<_>>(), employees(MISSING));
    open.mode("normal").await;
    let inside: BTreeSet<_> = open.inside().await.into_iter().collect();
    assert_eq!(inside, employees(RESPONDERS), "of the roster nobody is inside, who came since is");
    assert_eq!(open.muster().await["people"], json!([]));
    open.daemon.stop();
    let log = house.site.dump();
    let exits = log.iter().filter(|event| event["type"].as_str().unwrap().starts_with("access.exit."));
    let left: Vec<_> = exits.map(|event| event["data"]["employee_id"].as_str().unwrap()).collect();
    let once: BTreeSet<_> = left.iter().map(ToString::to_string).collect();
    assert_eq!((left.len(), once), (MISSING.start, employees(0..MISSING.start)), "each once");
}
