//! What a service itself calls invalid becomes a dead letter, alone; everything around it is delivered.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    aws::ACCOUNT,
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS},
    fake_service::{Reply, serve},
    http::{Answer, Caller},
    moody_queue::{Mood, Service, Taken, moody_queue, queue_site},
    sinks::{conserves, settled, sinks_by_name},
    wait::eventually,
};

/// Events of this card are what the services refuse.
const POISON: &str = "POISON";
pub(crate) const EXITS: usize = 25;
const POISONED_AT: usize = 7;

#[tokio::test]
async fn a_refused_event_dies_alone_and_is_kept() {
    let (by_topic, by_queue) = (Taken::default(), Taken::default());
    let site = site(&picky_topic(Arc::clone(&by_topic)), &picky_queue(Arc::clone(&by_queue)));
    let daemon = site.start();
    let event_id = leave_in_a_batch(&site, &daemon).await;

    let admin_token = site.token("admin");
    let admin = daemon.person(&admin_token);
    let expected = EXITS as u64;
    settled(&admin, &[("topic", expected), ("queue", expected), ("files", expected)]).await;
    check_letters(&daemon, &admin_token, &event_id).await;
    for (name, taken) in [("topic", &by_topic), ("queue", &by_queue)] {
        let taken = taken.lock().unwrap();
        assert_eq!(taken.len(), EXITS - 1, "{name}: the others came, once each");
        assert!(!taken.iter().any(|event| event.contains(POISON)));
    }

    let roles = ["hr", "auditor", "security", "admin@hq"];
    for role in roles {
        let answer = daemon.person(&site.token(role)).get("/v1/dead-letters").await;
        assert_eq!(answer.status, 403, "{role}: {}", answer.body);
    }
    assert_eq!(daemon.anyone().get("/v1/dead-letters").await.status, 401);
    assert_eq!(admin.get("/v1/dead-letters?sink=nosuch").await.status, 404);
    assert_eq!(admin.get("/v1/dead-letters?colour=red").await.status, 422);
    let twice = admin.get("/v1/dead-letters?sink=topic&sink=queue").await.expect(422);
    assert_eq!(twice["errors"][0]["detail"], "is there more than once", "{twice}");
    assert_eq!(admin.get("/v1/sinks?sink=topic").await.status, 422);
    assert_eq!(admin.get("/healthz?probe=1").await.status, 200);
    assert_eq!(admin.get("/v1/dead-letters?cursor=topic:1").await.status, 422);

    // killed, not stopped: a dead letter is durable at once
    let mut daemon = daemon;
    daemon.kill();
    let daemon = site.start();
    let admin = daemon.person(&admin_token);
    settled(&admin, &[("topic", expected), ("queue", expected)]).await;
    check_letters(&daemon, &admin_token, &event_id).await;
    // a later event shows that delivery goes on behind a dead letter
    let exit = json!({ "card_id": "LATER", "gate_id": "north-1" });
    daemon.device(&site.key("hq")).post("/v1/buildings/hq/exits", &exit).await.expect(202);
    eventually("a later event arrives", async || {
        let arrived = |taken: &Taken| taken.lock().unwrap().iter().any(|event| event.contains("LATER"));
        (arrived(&by_topic) && arrived(&by_queue)).then_some(())
    })
    .await;
}

/// The whole life of dead letters: refused again, killed in the middle, delivered, thrown away.
#[tokio::test]
async fn dead_letters_are_redriven_and_discarded() {
    let (taken, asked, mood) = (Taken::default(), Taken::default(), Mood::default());
    let queue_url = moody_queue(Arc::clone(&taken), Arc::clone(&asked), Arc::clone(&mood));
    let site = queue_site(&queue_url);
    let mut daemon = site.start();
    let (admin_token, key) = (site.token("admin"), site.key("hq"));
    let gate = daemon.device(&key);
    for card in ["P1", "P2", "P3"] {
        gate.post("/v1/buildings/hq/exits", &json!({ "card_id": card, "gate_id": "north-1" }))
            .await
            .expect(202);
    }
    let admin = daemon.person(&admin_token);
    settled(&admin, &[("queue", 3)]).await;
    let letters = admin.get("/v1/dead-letters").await.expect(200)["items"].clone();
    let ids: Vec<String> = (0..3).map(|place| letters[place]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(asked.lock().unwrap().len(), 3);

    // refused again: it stays, with its attempts counted on
    let one = json!({ "ids": [ids[0]] });
    assert_eq!(admin.post(REDRIVE, &one).await.expect(202), json!({ "letters": 1 }));
    let again = eventually("it is a dead letter again", async || {
        let letter = admin.get(&format!("/v1/dead-letters/{}", ids[0])).await.expect(200);
        (letter["attempts"] == 2 && letter["redriving"] == false).then_some(letter)
    })
    .await;
    assert_eq!(again["first_at"], letters[0]["first_at"]);
    assert!(again["last_at"].as_str().unwrap() > letters[0]["last_at"].as_str().unwrap());
    assert_eq!(asked.lock().unwrap().len(), 4);

    // the service is away while they are redriven, and the daemon is killed: they stay, and go on after the start
    *mood.lock().unwrap() = Service::Away;
    assert_eq!(admin.post(REDRIVE, &json!({ "sink": "queue" })).await.expect(202), json!({ "letters": 3 }));
    eventually("it is asked again", async || (asked.lock().unwrap().len() > 4).then_some(())).await;
    let answer = discard(&admin, &ids[1], &json!({ "reason": "too late" })).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    daemon.kill();
    let daemon = site.start();
    let admin = daemon.person(&admin_token);
    let sinks = sinks_by_name(&admin).await;
    conserves(&sinks["queue"]);
    assert_eq!((&sinks["queue"]["dead"], &sinks["queue"]["dead_letters"]), (&json!(3), &json!(3)));
    assert_eq!(admin.get("/v1/dead-letters").await.expect(200)["items"][0]["redriving"], true);
    // one of them is still refused
    *mood.lock().unwrap() = Service::RefusesOnly("P2");
    eventually("two are delivered", async || {
        let sink = sinks_by_name(&admin).await["queue"].clone();
        conserves(&sink);
        (sink["delivered"] == 2).then_some(())
    })
    .await;
    let delivered: Vec<Value> =
        taken.lock().unwrap().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let original = |place: usize| &letters[place]["event"];
    assert_eq!(delivered.len(), 2, "each once: {delivered:?}");
    assert!(delivered.contains(original(0)) && delivered.contains(original(2)), "with its own id and hash");
    let left = eventually("the third is refused again", async || {
        let left = admin.get("/v1/dead-letters?sink=queue").await.expect(200)["items"].clone();
        (left[0]["redriving"] == false).then_some(left)
    })
    .await;
    assert_eq!((left.as_array().unwrap().len(), &left[0]["id"]), (1, &json!(ids[1])));

    check_discard(&site, daemon, &ids[1], &left[0]).await;
}

async fn check_discard(site: &Site, daemon: Daemon, id: &str, letter: &Value) {
    let (admin_token, hr_token) = (site.token("admin"), site.token("hr"));
    let (admin, hr) = (daemon.person(&admin_token), daemon.person(&hr_token));
    for (body, status) in [
        (json!({}), 422),
        (json!({ "reason": "  " }), 422),
        (json!({ "reason": 7 }), 422),
        (json!({ "reason": "x".repeat(1_001) }), 422),
        (json!({ "reason": "x", "more": 1 }), 422),
    ] {
        let answer = discard(&admin, id, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    let reason = json!({ "reason": "agreed with the owner of the queue" });
    assert_eq!(discard(&hr, id, &reason).await.status, 403);
    assert_eq!(hr.post(REDRIVE, &json!({})).await.status, 403);
    assert_eq!(hr.get(&format!("/v1/dead-letters/{id}")).await.status, 403);
    for unknown in ["queue:00000000000000000099", "nosuch:00000000000000000001", "queue:7", "x"] {
        assert_eq!(discard(&admin, unknown, &reason).await.status, 404, "{unknown}");
        assert_eq!(admin.get(&format!("/v1/dead-letters/{unknown}")).await.status, 404, "{unknown}");
        assert_eq!(admin.post(REDRIVE, &json!({ "ids": [unknown] })).await.status, 404, "{unknown}");
    }
    assert_eq!(admin.post(REDRIVE, &json!({ "sink": "nosuch" })).await.status, 409);
    assert_eq!(admin.post(REDRIVE, &json!({ "sink": "queue", "ids": [id] })).await.status, 422);
    // null is no way of saying all
    for empty in [json!({ "sink": null }), json!({ "ids": null })] {
        assert_eq!(admin.post(REDRIVE, &empty).await.status, 422, "{empty}");
    }

    assert_eq!(discard(&admin, id, &reason).await.status, 204);
    assert_eq!(discard(&admin, id, &reason).await.status, 404, "it is gone");
    assert_eq!(admin.get("/v1/dead-letters").await.expect(200)["items"], json!([]));
    assert_eq!(admin.post(REDRIVE, &json!({})).await.expect(202), json!({ "letters": 0 }));
    let expected = json!([2, 0, 0, 1]);
    let counts = |sink: &Value| json!([sink["delivered"], sink["pending"], sink["dead"], sink["discarded"]]);
    let sink = sinks_by_name(&admin).await["queue"].clone();
    conserves(&sink);
    assert_eq!(counts(&sink), expected, "{sink}");
    let metrics = daemon.anyone().get("/metrics").await.body;
    for (name, value) in [("accepted", 3), ("delivered", 2), ("dead", 0), ("discarded", 1)] {
        let line = format!("turnstiled_sink_{name}_total{{sink=\"queue\"}} {value}\n");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }

    let mut daemon = daemon;
    daemon.kill();
    let daemon = site.start();
    let sink = sinks_by_name(&daemon.person(&admin_token)).await["queue"].clone();
    assert_eq!(counts(&sink), expected, "after a kill: {sink}");
    assert!(daemon.stop().0.success());
    let acts: Vec<Value> = (site.dump().into_iter())
        .filter(|event| event["type"].as_str().unwrap().starts_with("admin."))
        .collect();
    let types: Vec<&str> = acts.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["admin.redrive", "admin.redrive", "admin.discard"]);
    assert_eq!((&acts[1]["data"]["sink"], &acts[1]["data"]["letters"]), (&json!("queue"), &json!(3)));
    let expected = json!({
        "dead_letter": id,
        "sink": "queue",
        "event_sequence": letter["sequence"],
        "event_id": letter["event_id"],
        "code": letter["code"],
        "reason": reason["reason"],
        "by": "person/ada",
    });
    assert_eq!(acts[2]["data"], expected);
}

/// A sink that the configuration no longer names: its letters can be seen and thrown away, and are counted if it
/// comes back.
#[tokio::test]
async fn dead_letters_outlive_their_sink() {
    let (taken, asked, mood) = (Taken::default(), Taken::default(), Mood::default());
    let queue_url = moody_queue(Arc::clone(&taken), asked, Arc::clone(&mood));
    let site = queue_site(&queue_url);
    let daemon = site.start();
    let (admin_token, key) = (site.token("admin"), site.key("hq"));
    let gate = daemon.device(&key);
    for card in ["P1", "P2"] {
        gate.post("/v1/buildings/hq/exits", &json!({ "card_id": card, "gate_id": "north-1" }))
            .await
            .expect(202);
    }
    settled(&daemon.person(&admin_token), &[("queue", 2)]).await;
    assert!(daemon.stop().0.success());

    let with_queue = std::fs::read_to_string(site.path("routes.toml")).unwrap();
    site.configure(&format!("{TWO_BUILDINGS}{FILE_SINK}"));
    let daemon = site.start();
    let admin = daemon.person(&admin_token);
    let letters = admin.get("/v1/dead-letters?sink=queue").await.expect(200)["items"].clone();
    let ids = [0, 1].map(|place| letters[place]["id"].as_str().unwrap().to_owned());
    assert_eq!(admin.post(REDRIVE, &json!({ "ids": [ids[0]] })).await.status, 409);
    assert_eq!(discard(&admin, &ids[0], &json!({ "reason": "no such queue" })).await.status, 204);
    assert_eq!(discard(&admin, &ids[0], &json!({ "reason": "no such queue" })).await.status, 404);
    let forgotten = admin.send(reqwest::Method::DELETE, "/v1/sinks/queue/cursor", &[], "").await;
    assert_eq!(forgotten.status, 204, "{}", forgotten.body);
    assert_eq!(admin.get("/v1/dead-letters?sink=queue").await.expect(200)["items"][0]["id"], json!(ids[1]));
    assert!(daemon.stop().0.success());

    // from the oldest event: what is a dead letter is not sent by way of the log
    site.configure(&with_queue.replace("type = \"sqs\"", "type = \"sqs\"\nfrom = \"oldest\""));
    *mood.lock().unwrap() = Service::RefusesOnly("NONE-OF-THEM");
    let daemon = site.start();
    let admin = daemon.person(&admin_token);
    settled(&admin, &[("queue", 2)]).await;
    let counts = |sink: &Value| json!([sink["delivered"], sink["dead"], sink["discarded"]]);
    assert_eq!(counts(&sinks_by_name(&admin).await["queue"]), json!([1, 1, 0]));
    assert_eq!(admin.post(REDRIVE, &json!({})).await.expect(202), json!({ "letters": 1 }));
    eventually("the other one is delivered, too", async || {
        let sink = sinks_by_name(&admin).await["queue"].clone();
        conserves(&sink);
        (counts(&sink) == json!([2, 0, 0])).then_some(())
    })
    .await;
    assert_eq!(taken.lock().unwrap().len(), 2);
}

pub(crate) const REDRIVE: &str = "/v1/dead-letters/redrive";

pub(crate) async fn discard(person: &Caller, id: &str, body: &Value) -> Answer {
    person.send(reqwest::Method::DELETE, &format!("/v1/dead-letters/{id}"), &[], &body.to_string()).await
}

pub(crate) fn site(topic_url: &str, queue_url: &str) -> Site {
    let sinks = format!(
        r#"
        [sinks.topic]
        type = "sns"
        topic_arn = "arn:aws:sns:eu-central-1:{ACCOUNT}:topic"
        endpoint_url = "{topic_url}"
        [sinks.queue]
        type = "sqs"
        queue_url = "{queue_url}/{ACCOUNT}/queue"
        endpoint_url = "{queue_url}"
        [[routes]]
        name = "fakes"
        types = ["access.**"]
        to = ["topic", "queue"]
        "#
    );
    Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}{sinks}")).with_aws_at(topic_url.to_owned())
}

/// One batch of exits, so that many events go out together; the id of the poisoned one.
pub(crate) async fn leave_in_a_batch(site: &Site, daemon: &Daemon) -> String {
    let card_id = |place| if place == POISONED_AT { POISON.to_owned() } else { format!("C{place}") };
    let exits: Vec<Value> =
        (0..EXITS).map(|place| json!({ "card_id": card_id(place), "gate_id": "north-1" })).collect();
    let gate = daemon.device(&site.key("hq"));
    let answer = gate.post("/v1/buildings/hq/exits/batch", &json!({ "exits": exits })).await.expect(202);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), EXITS);
    results[POISONED_AT]["event_id"].as_str().unwrap().to_owned()
}

async fn check_letters(daemon: &Daemon, admin_token: &str, event_id: &str) {
    let admin = daemon.person(admin_token);
    let letters = admin.get("/v1/dead-letters").await.expect(200)["items"].clone();
    let letters = letters.as_array().unwrap();
    assert_eq!(letters.len(), 2, "{letters:?}");
    for (sink, code) in [("topic", "InvalidParameter"), ("queue", "InvalidMessageContents")] {
        let only = admin.get(&format!("/v1/dead-letters?sink={sink}")).await.expect(200);
        assert_eq!(only["items"].as_array().unwrap().len(), 1);
        assert_eq!(only["next_cursor"], Value::Null);
        let letter = &only["items"][0];
        assert!(letters.contains(letter));
        assert_eq!((&letter["sink"], &letter["event"]["id"]), (&json!(sink), &json!(event_id)));
        assert!(letter["code"].as_str().unwrap().contains(code), "{letter}");
        assert_eq!(letter["sequence"], letter["event"]["sequence"]);
        assert_eq!(letter["event_id"], letter["event"]["id"]);
        let id = letter["id"].as_str().unwrap();
        assert_eq!(admin.get(&format!("/v1/dead-letters/{id}")).await.expect(200), *letter);
        assert_eq!(letter["event"]["data"]["card_id"], POISON);
        assert!(letter["text"].as_str().unwrap().contains("characters"), "{letter}");
        assert!(letter["attempts"].as_u64().unwrap() >= 1);
        assert!(letter["first_at"].as_str().unwrap() <= letter["last_at"].as_str().unwrap());
    }
    for (name, sink) in sinks_by_name(&admin).await {
        conserves(&sink);
        assert_eq!(sink["dead"], u64::from(name != "files"), "{sink}");
    }
}

/// An SNS topic that refuses single entries.
pub(crate) fn picky_topic(taken: Taken) -> String {
    serve(move |request| {
        let form = reqwest::Url::parse(&format!("http://form/?{request}")).unwrap();
        let field = |name: String| {
            form.query_pairs().find(|(found, _)| *found == *name).map(|(_, value)| value.into_owned())
        };
        let mut results = [String::new(), String::new()];
        for place in 1.. {
            let entry = format!("PublishBatchRequestEntries.member.{place}");
            let Some(id) = field(format!("{entry}.Id")) else { break };
            let message = field(format!("{entry}.Message")).unwrap();
            if message.contains(POISON) {
                results[1] += &format!(
                    "<member><Id>{id}</Id><Code>InvalidParameter</Code><SenderFault>true</SenderFault>\
                     <Message>Invalid parameter: Message Reason: Invalid characters</Message></member>"
                );
            } else {
                results[0] += &format!("<member><Id>{id}</Id><MessageId>m</MessageId></member>");
                taken.lock().unwrap().push(message);
            }
        }
        let [successful, failed] = results;
        let body = format!(
            r#"<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult>
            <Successful>{successful}</Successful><Failed>{failed}</Failed>
            </PublishBatchResult></PublishBatchResponse>"#
        );
        Reply { status: 200, headers: vec!["content-type: text/xml".to_owned()], body }
    })
}

/// An SQS queue that refuses the whole batch for one bad entry, and does not say which.
pub(crate) fn picky_queue(taken: Taken) -> String {
    let headers = vec!["content-type: application/x-amz-json-1.0".to_owned()];
    serve(move |request| {
        let request: Value = serde_json::from_str(request).unwrap();
        let entries = request["Entries"].as_array().unwrap();
        let bodies: Vec<&str> = entries.iter().map(|entry| entry["MessageBody"].as_str().unwrap()).collect();
        if bodies.iter().any(|body| body.contains(POISON)) {
            let body = json!({
                "__type": "com.amazonaws.sqs#InvalidMessageContents",
                "message": "The message contains characters outside the allowed set.",
            });
            return Reply { status: 400, headers: headers.clone(), body: body.to_string() };
        }
        taken.lock().unwrap().extend(bodies.iter().map(|body| (*body).to_owned()));
        let successful: Vec<Value> = (entries.iter())
            .map(|entry| json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "" }))
            .collect();
        let body = json!({ "Successful": successful, "Failed": [] }).to_string();
        Reply { status: 200, headers: headers.clone(), body }
    })
}
