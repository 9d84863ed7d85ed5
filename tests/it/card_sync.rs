//! Cards that several servers change: each publishes its changes to a topic, and takes the others' from a queue of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use aws_config::SdkConfig;
use aws_sdk_sqs::types::QueueAttributeName;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    aws::{ACCOUNT, create_queue, create_table, create_topic, drain, subscribe},
    daemon::{Daemon, FILE_SINK, Site},
    fake_service::{Reply, Request, serve_requests},
    moto::Moto,
    random::Random,
    wait::{POLL_INTERVAL, eventually},
};

const CARDS: u64 = 6;
const ROUNDS: u64 = 40;

/// A server of one building that publishes its cards and takes those of `others`.
fn config(id: &str, topic_arn: &str, queue_url: &str, others: &[&str]) -> String {
    let others = others.iter().map(|other| format!("{other:?}")).collect::<Vec<_>>().join(", ");
    format!(
        r#"
        [server]
        id = "{id}"
        listen = "127.0.0.1:0"
        data_dir = "data"
        [auth]
        devices = "data/devices.toml"
        jwt = {{ local = true }}
        [[buildings]]
        id = "hq"
        gates = [{{ id = "north-1" }}]
        [sinks.cards]
        type = "sns"
        topic_arn = "{topic_arn}"
        [[routes]]
        name = "cards"
        types = ["card.*"]
        to = ["cards"]
        personal = true
        [card_sync]
        queue_url = "{queue_url}"
        accept_from = [{others}]
        {FILE_SINK}"#
    )
}

/// Every card without where it came from, by its id.
async fn cards(daemon: &Daemon, token: &str, own: &str) -> BTreeMap<String, Value> {
    let page = daemon.person(token).get("/v1/cards?limit=1000").await.expect(200);
    let card = |card: &Value| {
        let mut card = card.clone();
        let members = card.as_object_mut().unwrap();
        members.remove("presence");
        members.entry("version_by").or_insert_with(|| json!(own));
        (card["card_id"].as_str().unwrap().to_owned(), card)
    };
    page["items"].as_array().unwrap().iter().map(card).collect()
}

async fn metric(daemon: &Daemon, name: &str) -> u64 {
    let text = daemon.anyone().get("/metrics").await.body;
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("turnstiled_card_sync_{name} ")));
    value.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
}

/// A queue that takes what cannot be read away after a few tries.
async fn queue_with_redrive(config: &SdkConfig, name: &str) -> String {
    create_queue(config, &format!("{name}-dead")).await;
    let policy = json!({ "deadLetterTargetArn": format!("arn:aws:sqs:eu-central-1:{ACCOUNT}:{name}-dead"), "maxReceiveCount": 3 });
    let request = aws_sdk_sqs::Client::new(config).create_queue().queue_name(name);
    let request = request.attributes(QueueAttributeName::RedrivePolicy, policy.to_string());
    request.attributes(QueueAttributeName::VisibilityTimeout, "1").send().await.unwrap().queue_url.unwrap()
}

async fn send(config: &SdkConfig, queue_url: &str, body: &str) {
    let request = aws_sdk_sqs::Client::new(config).send_message().queue_url(queue_url);
    request.message_body(body).send().await.unwrap();
}

/// Changes one of the cards somehow; what the rules of this server refuse is refused.
async fn change(daemon: &Daemon, token: &str, random: &mut Random) -> bool {
    let (card, kind, year) = (random.below(CARDS), random.below(20), 2030 + random.below(5));
    let path = format!("/v1/cards/C{card}");
    let (person, nothing) = (daemon.person(token), json!({}));
    let answer = match kind {
        0..=2 => person.post(&format!("{path}/suspend"), &nothing).await,
        3..=4 => person.post(&format!("{path}/report-lost"), &nothing).await,
        5..=8 => person.post(&format!("{path}/reinstate"), &nothing).await,
        // of one of them only: it is final, whatever the others say
        9 if card == 0 => person.post(&format!("{path}/revoke"), &nothing).await,
        _ => {
            let details = json!({ "employee_id": format!("E{card}"), "holder_name": "Ada", "responder": kind % 2 == 0,
                "valid_until": format!("{year}-01-01T00:00:00Z") });
            person.put(&path, &details).await
        }
    };
    assert!([200, 201, 404, 409].contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
    matches!(answer.status, 200 | 201)
}

/// Sends what was published to every queue again, late, in another order, some of it several times.
async fn repeat(config: SdkConfig, from: String, to: Vec<String>, seed: u64, stop: Arc<AtomicBool>) {
    let (mut random, mut kept) = (Random::seeded(seed), Vec::<String>::new());
    while !stop.load(Relaxed) || !kept.is_empty() {
        kept.extend(drain(&config, &from).await.into_iter().filter_map(|message| message.body));
        while kept.len() > 8 || (stop.load(Relaxed) && !kept.is_empty()) {
            let place = random.below(kept.len() as u64) as usize;
            let body = if random.one_in(3) { kept[place].clone() } else { kept.swap_remove(place) };
            for queue_url in &to {
                if random.one_in(2) {
                    send(&config, queue_url, &body).await;
                }
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[tokio::test]
async fn three_servers_end_with_the_same_cards_and_no_loop() {
    let Some(moto) = Moto::start() else { return };
    let aws = moto.sdk_config();
    let ids = ["annex-1", "hq-1", "hr"];
    let topic_arn = create_topic(&aws, "cards").await;
    let (mut queues, mut sites) = (Vec::new(), Vec::new());
    for id in ids {
        queues.push(create_queue(&aws, id).await);
        if id == "hr" {
            // with the envelope of SNS
            let request = aws_sdk_sns::Client::new(&aws).subscribe().topic_arn(&topic_arn).protocol("sqs");
            request.endpoint(format!("arn:aws:sqs:eu-central-1:{ACCOUNT}:{id}")).send().await.unwrap();
        } else {
            subscribe(&aws, &topic_arn, id).await;
        }
        let others: Vec<&str> = ids.into_iter().filter(|other| *other != id).collect();
        let site = Site::new(&config(id, &topic_arn, queues.last().unwrap(), &others)).with_aws(&moto);
        sites.push(site);
    }
    let echo = create_queue(&aws, "echo").await;
    subscribe(&aws, &topic_arn, "echo").await;
    let mut random = Random::new();
    let stop = Arc::new(AtomicBool::new(false));
    let repeating = tokio::spawn(repeat(aws.clone(), echo, queues.clone(), random.next(), Arc::clone(&stop)));

    let tokens: Vec<String> = sites.iter().map(|site| site.token("hr,security")).collect();
    let mut daemons: Vec<Daemon> = sites.iter().map(Site::start).collect();
    let mut answered = 0;
    for round in 0..ROUNDS {
        if round == ROUNDS / 2 {
            // the others go on meanwhile
            daemons[1].kill();
        }
        if round == ROUNDS / 2 + 6 {
            daemons[1] = sites[1].start();
        }
        let is_away = |server: usize| server == 1 && (ROUNDS / 2..ROUNDS / 2 + 6).contains(&round);
        let mut draws: Vec<Random> = (0..3).map(|_| Random::seeded(random.next())).collect();
        let [first, second, third] = draws.as_mut_slice() else { unreachable!() };
        let one = async |server: usize, random: &mut Random| {
            !is_away(server) && change(&daemons[server], &tokens[server], random).await
        };
        let done = tokio::join!(one(0, first), one(1, second), one(2, third));
        answered += u64::from(done.0) + u64::from(done.1) + u64::from(done.2);
    }
    stop.store(true, Relaxed);
    repeating.await.unwrap();
    assert!(answered > ROUNDS, "{answered}");

    let known = eventually("the servers know the same cards, and the queues are empty", async || {
        for queue_url in &queues {
            let request = aws_sdk_sqs::Client::new(&aws).get_queue_attributes().queue_url(queue_url);
            let request = request.attribute_names(QueueAttributeName::All).send().await.unwrap();
            let attributes = request.attributes.unwrap();
            let count = |name| attributes.get(&name).is_some_and(|count| count != "0");
            let has_some = count(QueueAttributeName::ApproximateNumberOfMessages)
                || count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
            if has_some {
                return None;
            }
        }
        let mut all = Vec::new();
        for ((daemon, token), id) in daemons.iter().zip(&tokens).zip(ids) {
            all.push(cards(daemon, token, id).await);
        }
        (all[0] == all[1] && all[1] == all[2] && !all[0].is_empty()).then(|| all.remove(0))
    })
    .await;

    // no loop: a change is published once, and recorded at most once by each of the others
    for daemon in daemons {
        assert!(daemon.stop().0.success());
    }
    let logs: Vec<Vec<Value>> = sites.iter().map(Site::dump).collect();
    let is_card = |event: &&Value| event["type"].as_str().unwrap().starts_with("card.");
    let made: Vec<usize> = logs.iter().map(|log| log.iter().filter(is_card).count()).collect();
    let total: usize = made.iter().sum();
    let mut applied_somewhere = 0;
    for (log, own) in logs.iter().zip(&made) {
        let applied: Vec<&Value> = log.iter().filter(|event| event["type"] == "sync.card.applied").collect();
        let from: BTreeSet<&str> =
            applied.iter().map(|event| event["data"]["from"]["id"].as_str().unwrap()).collect();
        assert_eq!(from.len(), applied.len(), "each change at most once");
        assert!(applied.len() <= total - own, "{} of {}", applied.len(), total - own);
        applied_somewhere += applied.len();
    }
    assert!(applied_somewhere > 0);
    println!("{total} changes, {applied_somewhere} applied elsewhere, {} cards", known.len());
    for event in logs.iter().flatten().filter(|event| event["type"] == "card.revoked") {
        let card = event["data"]["card_id"].as_str().unwrap();
        assert_eq!(known[card]["status"], "revoked", "{card} was revoked by one of them");
    }
}

/// A card event of `server`.
fn said(server: &str, id: u64, card: Value) -> String {
    let mut card = card;
    card["by"] = json!("person/elsewhere");
    json!({ "specversion": "1.0", "id": format!("0190a0a0-0000-7000-8000-{id:012}"), "source": format!("/servers/{server}"),
        "type": "card.updated", "log": format!("{server}.1"), "time": "2026-11-20T08:01:02.345Z",
        "sequence": format!("{id:020}"), "data": card })
    .to_string()
}

#[tokio::test]
async fn what_others_say_counts_from_the_commit_on_and_nothing_else_does() {
    let Some(moto) = Moto::start() else { return };
    let aws = moto.sdk_config();
    create_table(&aws_sdk_dynamodb::Client::new(&aws), "cards").await;
    let (topic_arn, queue) = (create_topic(&aws, "cards").await, queue_with_redrive(&aws, "hq").await);
    let table = "[sinks.table]\ntype = \"dynamodb\"\ntable = \"cards\"\n[[routes]]\nname = \"table\"\ntypes = [\"card.*\", \"sync.card.applied\"]\nto = [\"table\"]\n";
    let site =
        Site::new(&format!("{}{table}", config("hq-1", &topic_arn, &queue, &["annex-1"]))).with_aws(&moto);
    let (key, token) = (site.key("hq"), site.token("hr,security"));
    let daemon = site.start();
    let person = daemon.person(&token);
    let enter = async |card: &str| -> Value {
        let body = json!({ "card_id": card, "gate_id": "north-1" });
        daemon.device(&key).post("/v1/buildings/hq/entries", &body).await.expect(200)
    };
    let put = json!({ "employee_id": "E1", "holder_name": "Ada" });
    person.put("/v1/cards/C1", &put).await.expect(201);
    person
        .put("/v1/cards/C1", &json!({ "employee_id": "E1", "holder_name": "Ada", "responder": true }))
        .await
        .expect(200);

    // lower, the same again, of a stranger, of itself, of no card, and four that can never be read
    let active = |card: &str, version: u64| json!({ "card_id": card, "employee_id": "E1", "status": "active", "version": version });
    send(&aws, &queue, &said("annex-1", 1, active("C1", 1))).await;
    send(&aws, &queue, &said("elsewhere", 2, active("C1", 9))).await;
    send(&aws, &queue, &said("hq-1", 3, active("C1", 9))).await;
    send(&aws, &queue, &said("annex-1", 4, active("C1", 9)).replace("card.updated", "sync.card.applied"))
        .await;
    for poison in ["{", "{}", &said("annex-1", 5, json!({})), &said("annex-1", 6, active("a b", 1))] {
        send(&aws, &queue, poison).await;
    }
    let ignored = |reason: &str| format!("ignored_total{{reason=\"{reason}\"}}");
    for reason in ["outdated", "not_accepted", "own_server", "other_type"] {
        eventually(reason, async || (metric(&daemon, &ignored(reason)).await == 1).then_some(())).await;
    }
    assert_eq!(metric(&daemon, "applied_total").await, 0);
    assert_eq!(person.get("/v1/cards/C1").await.expect(200)["version"], 2);

    // a card of the other server opens here; the revoke that follows closes it, and a name that is missing stays
    send(&aws, &queue, &said("annex-1", 7, active("C7", 3))).await;
    eventually("the new card is known", async || (metric(&daemon, "applied_total").await == 1).then_some(()))
        .await;
    assert_eq!(enter("C7").await["decision"], "granted");
    assert_eq!(enter("C1").await["reason"], "anti_passback", "the same person");
    // its tag says whose version it is: this server's own version 3 would be another one
    let tag = person.get("/v1/cards/C7").await.headers["etag"].to_str().unwrap().to_owned();
    let same = json!({ "employee_id": "E1" }).to_string();
    let put_if =
        async |tag: &str| person.send(Method::PUT, "/v1/cards/C7", &[("If-Match", tag)], &same).await.status;
    assert_eq!((tag.as_str(), put_if("\"3\"").await, put_if(&tag).await), ("\"3-annex-1\"", 412, 200));
    for _ in 0..3 {
        send(
            &aws,
            &queue,
            &said(
                "annex-1",
                8,
                json!({ "card_id": "C1", "employee_id": "E1", "status": "revoked", "version": 1 }),
            ),
        )
        .await;
    }
    eventually("revoked", async || (metric(&daemon, "applied_total").await == 2).then_some(())).await;
    assert_eq!(enter("C1").await["reason"], "revoked");
    let card = person.get("/v1/cards/C1").await.expect(200);
    assert_eq!(
        (&card["status"], &card["holder_name"], &card["version_by"]),
        (&json!("revoked"), &json!("Ada"), &json!("annex-1"))
    );
    person.post("/v1/cards/C1/reinstate", &json!({})).await.expect(409);
    // its table, too, though the version is lower
    let item = async |card: &str| {
        let request = aws_sdk_dynamodb::Client::new(&aws).get_item().table_name("cards");
        let text = |text: String| aws_sdk_dynamodb::types::AttributeValue::S(text);
        let request = request.key("PK", text(format!("CARD#{card}"))).key("SK", text("STATE".to_owned()));
        let item = request.send().await.unwrap().item?;
        Some((item["status"].as_s().unwrap().clone(), item["version_by"].as_s().unwrap().clone()))
    };
    eventually("the table has it", async || {
        (item("C1").await? == ("revoked".to_owned(), "annex-1".to_owned())).then_some(())
    })
    .await;
    // a change of this server is the next version, and its own
    let changed = person.post("/v1/cards/C7/suspend", &json!({})).await.expect(200);
    assert_eq!((&changed["version"], changed.get("version_by")), (&json!(4), None));
    eventually("the table has that", async || {
        (item("C7").await? == ("suspended".to_owned(), "hq-1".to_owned())).then_some(())
    })
    .await;

    // what can never be read is in the queue's own dead-letter queue, logged once each, without what it says
    let dead = queue.replace("/hq", "/hq-dead");
    let mut moved = Vec::new();
    eventually("the poison is moved", async || {
        moved.extend(drain(&aws, &dead).await);
        (moved.len() == 4).then_some(())
    })
    .await;
    assert!(metric(&daemon, "poison_total").await >= 4);
    assert!(metric(&daemon, "last_success_timestamp_seconds").await > 1_700_000_000);
    let (status, log) = daemon.stop();
    assert!(status.success());
    assert_eq!(log.matches("can never be read").count(), 4, "{log}");
    assert!(!log.contains("redrive policy: a message") && !log.contains("a b"), "{log}");

    let events = site.dump();
    let applied: Vec<&Value> = events.iter().filter(|event| event["type"] == "sync.card.applied").collect();
    assert_eq!(applied.len(), 2, "the repeats came to nothing");
    let data = &applied[1]["data"];
    assert_eq!(
        (&data["by"], &data["from"]["log"], &data["from"]["type"], &data["holder_name"]),
        (&json!("server/annex-1"), &json!("annex-1.1"), &json!("card.updated"), &json!("Ada"))
    );
    // and it is still so after a restart
    let daemon = site.start();
    assert_eq!(daemon.person(&token).get("/v1/cards/C1").await.expect(200)["status"], "revoked");
    assert_eq!(daemon.person(&token).get("/v1/cards/C1").await.expect(200)["version_by"], "annex-1");
    assert!(daemon.stop().0.success());
}

#[tokio::test]
async fn a_queue_without_a_redrive_policy_is_warned_of_and_one_that_is_away_is_waited_for() {
    let Some(moto) = Moto::start() else { return };
    let aws = moto.sdk_config();
    let topic_arn = create_topic(&aws, "cards").await;
    // not there yet
    let queue = create_queue(&aws, "late").await;
    aws_sdk_sqs::Client::new(&aws).delete_queue().queue_url(&queue).send().await.unwrap();
    let site = Site::new(&config("hq-1", &topic_arn, &queue, &["annex-1"])).with_aws(&moto);
    let token = site.token("hr");
    let daemon = site.start();
    eventually("it is said that they wait", async || {
        daemon.stderr().contains("wait in their queue").then_some(())
    })
    .await;
    daemon.anyone().get("/readyz").await.expect(200);
    create_queue(&aws, "late").await;
    send(
        &aws,
        &queue,
        &said(
            "annex-1",
            1,
            json!({ "card_id": "C1", "employee_id": "E1", "status": "active", "version": 1 }),
        ),
    )
    .await;
    eventually("the card is known", async || {
        (daemon.person(&token).get("/v1/cards/C1").await.status == 200).then_some(())
    })
    .await;
    eventually("both are said", async || {
        let log = daemon.stderr();
        (log.contains("has no redrive policy") && log.contains("are taken again")).then_some(())
    })
    .await;
    assert!(daemon.stop().0.success());
}

/// Has one message, and may not be asked what it is like.
fn guarded_queue(request: &Request, was_received: &AtomicBool) -> Reply {
    let target = request.header("x-amz-target");
    let denied =
        json!({ "__type": "com.amazon.coral.service#AccessDeniedException", "message": "not authorized" });
    let (status, answer) = if target.ends_with(".GetQueueAttributes") {
        (403, denied)
    } else if target.ends_with(".ReceiveMessage") && !was_received.swap(true, Relaxed) {
        let body = said(
            "annex-1",
            1,
            json!({ "card_id": "C1", "employee_id": "E1", "status": "active", "version": 1 }),
        );
        (200, json!({ "Messages": [{ "MessageId": "m", "ReceiptHandle": "r", "Body": body }] }))
    } else {
        // for a queue that has nothing one waits
        std::thread::sleep(POLL_INTERVAL);
        (200, json!({}))
    };
    let headers = vec!["content-type: application/x-amz-json-1.0".to_owned()];
    Reply { status, headers, body: answer.to_string() }
}

#[tokio::test]
async fn a_queue_that_may_not_be_asked_for_its_policy_is_read_all_the_same() {
    let was_received = AtomicBool::new(false);
    let endpoint_url = serve_requests(move |request| guarded_queue(request, &was_received));
    let topic_arn = format!("arn:aws:sns:eu-central-1:{ACCOUNT}:cards");
    let queue_url = format!("{endpoint_url}/{ACCOUNT}/cards");
    let site =
        Site::new(&config("hq-1", &topic_arn, &queue_url, &["annex-1"])).with_aws_at(endpoint_url.clone());
    let token = site.token("hr");
    let daemon = site.start();
    eventually("the card is known", async || {
        (daemon.person(&token).get("/v1/cards/C1").await.status == 200).then_some(())
    })
    .await;
    let (status, log) = daemon.stop();
    assert!(status.success());
    assert_eq!(log.matches("allow sqs:GetQueueAttributes").count(), 1, "{log}");
    assert!(!log.contains("wait in their queue"), "{log}");
}
