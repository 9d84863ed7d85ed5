//! What a service itself calls invalid becomes a dead letter, alone; everything around it is delivered.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::{
    aws::ACCOUNT,
    daemon::{Daemon, FILE_SINK, Site, TWO_BUILDINGS},
    fake_service::{Reply, serve},
    sinks::{conserves, settled, sinks_by_name},
    wait::eventually,
};

/// Events of this card are what the services refuse.
const POISON: &str = "POISON";
const EXITS: usize = 25;
const POISONED_AT: usize = 7;

/// What a fake service has taken.
type Taken = Arc<Mutex<Vec<String>>>;

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

fn site(topic_url: &str, queue_url: &str) -> Site {
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
async fn leave_in_a_batch(site: &Site, daemon: &Daemon) -> String {
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
fn picky_topic(taken: Taken) -> String {
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
fn picky_queue(taken: Taken) -> String {
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
