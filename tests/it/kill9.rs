//! kill -9 under load, again and again: what was answered is in the log, what was not is there whole or not
//! at all, a retry gets the answer that the log has, and presence is what the answers say.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site, assert_gapless, sequence},
    http::Caller,
    random::Random,
    sinks::{settled, sinks_by_name},
    wait::eventually,
};

const ROUNDS: usize = 10;
const CLIENTS: u64 = 32;
/// The process is killed after so many answers of a round, drawn anew each time.
const ANSWERS_BEFORE_KILL: std::ops::Range<u64> = 30..400;

/// A turnstile with one holder, who comes and goes.
struct Client {
    number: u64,
    random: Random,
    answered: Vec<Answered>,
    /// Sent, and the process was killed before it answered.
    unanswered: Option<Swipe>,
}

#[derive(Clone, Debug, PartialEq)]
struct Swipe {
    is_entry: bool,
    swipe_id: String,
}

/// A swipe and what the server said, with `decision` and `reason` null for an exit.
#[derive(Clone, Debug, PartialEq)]
struct Answered {
    swipe: Swipe,
    event_id: String,
    sequence: u64,
    decision: Value,
    reason: Value,
}

#[tokio::test]
async fn what_was_answered_survives_ten_kills() {
    let mut random = Random::new();
    let site = Site::with_files();
    let (key, hr, security) = (site.key("hq"), site.token("hr"), site.token("security"));
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| Client {
            number,
            random: Random::seeded(random.next()),
            answered: Vec::new(),
            unanswered: None,
        })
        .collect();
    let mut log: Vec<Value> = Vec::new();
    let (mut lost, mut kept) = (0, 0);
    for round in 0..ROUNDS {
        let mut daemon = site.start();
        if round == 0 {
            register(&daemon.person(&hr)).await;
        }
        assert_eq!(presence(&daemon.person(&security)).await, fold(&log), "round {round}");
        for client in &mut clients {
            let was_logged = client.retry(&daemon.device(&key), &log).await;
            (lost, kept) =
                (lost + u32::from(was_logged == Some(false)), kept + u32::from(was_logged == Some(true)));
        }
        let answers =
            random.below(ANSWERS_BEFORE_KILL.end - ANSWERS_BEFORE_KILL.start) + ANSWERS_BEFORE_KILL.start;
        clients = load_until_killed(&mut daemon, &key, clients, answers).await;
        drop(daemon);
        log = site.dump();
        check(&log, &clients);
    }
    let answered: usize = clients.iter().map(|client| client.answered.len()).sum();
    let repeats = everything_is_delivered(&site, &log).await;
    println!(
        "{answered} answers, {} events in the log, unanswered swipes: {kept} were in the log, {lost} were not; \
         repeats to the file sink: {repeats}",
        log.len()
    );
}

async fn register(hr: &Caller) {
    for number in 0..CLIENTS {
        hr.put(&format!("/v1/cards/C{number}"), &json!({ "employee_id": format!("E{number}") }))
            .await
            .expect(201);
    }
}

/// Lets every client swipe on its own; kills the process when there were `answers` more answers.
async fn load_until_killed(
    daemon: &mut Daemon,
    key: &str,
    clients: Vec<Client>,
    answers: u64,
) -> Vec<Client> {
    let count = Arc::new(AtomicU64::new(0));
    let gate = daemon.device(key);
    let tasks: Vec<_> = (clients.into_iter())
        .map(|client| tokio::spawn(client.swipe_until_refused(gate.clone(), Arc::clone(&count))))
        .collect();
    eventually("answers under load", async || (count.load(Relaxed) >= answers).then_some(())).await;
    daemon.kill();
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.unwrap());
    }
    clients
}

impl Client {
    async fn swipe_until_refused(mut self, gate: Caller, count: Arc<AtomicU64>) -> Self {
        loop {
            let is_inside = self.answered.last().is_some_and(Answered::leaves_inside);
            // now and then someone swipes the wrong way
            let is_entry = is_inside == self.random.one_in(5);
            let swipe = Swipe { is_entry, swipe_id: self.random.uuid() };
            match self.send(&gate, &swipe).await {
                Some(answered) => self.answered.push(answered),
                None => {
                    self.unanswered = Some(swipe);
                    return self;
                }
            }
            count.fetch_add(1, Relaxed);
        }
    }

    /// Sends the unanswered swipe again, if there is one; whether the log had it already.
    async fn retry(&mut self, gate: &Caller, log: &[Value]) -> Option<bool> {
        let swipe = self.unanswered.take()?;
        let answered = self.send(gate, &swipe).await.unwrap();
        let logged = log.iter().find(|event| event["data"]["swipe_id"] == *swipe.swipe_id);
        match logged {
            Some(event) => assert_eq!(answered, Answered::of_event(event).unwrap(), "the first answer again"),
            None => assert!(answered.sequence > log.len() as u64, "{answered:?} is new"),
        }
        self.answered.push(answered);
        Some(logged.is_some())
    }

    /// `None` if the connection broke.
    async fn send(&self, gate: &Caller, swipe: &Swipe) -> Option<Answered> {
        let path = if swipe.is_entry { "/v1/buildings/hq/entries" } else { "/v1/buildings/hq/exits" };
        let body = json!({
            "card_id": format!("C{}", self.number), "gate_id": "north-1", "swipe_id": swipe.swipe_id,
        });
        let answer = gate.try_post(path, &body).await.ok()?;
        let answer = answer.expect(if swipe.is_entry { 200 } else { 202 });
        Some(Answered {
            swipe: swipe.clone(),
            event_id: answer["event_id"].as_str().unwrap().to_owned(),
            sequence: sequence(&answer),
            decision: answer["decision"].clone(),
            reason: answer["reason"].clone(),
        })
    }
}

impl Answered {
    /// As the log has it; `None` for an event that is no swipe.
    fn of_event(event: &Value) -> Option<Self> {
        let (is_entry, decision) = match event["type"].as_str().unwrap() {
            "access.entry.granted" => (true, json!("granted")),
            "access.entry.denied" => (true, json!("denied")),
            "access.exit.recorded" => (false, Value::Null),
            _ => return None,
        };
        Some(Self {
            swipe: Swipe { is_entry, swipe_id: event["data"]["swipe_id"].as_str().unwrap().to_owned() },
            event_id: event["id"].as_str().unwrap().to_owned(),
            sequence: sequence(event),
            decision,
            reason: event["data"]["reason"].clone(),
        })
    }

    fn leaves_inside(&self) -> bool {
        // a denied entry here is one of someone who is inside
        self.swipe.is_entry
    }
}

/// The log has every answer as it was given, in the order it was given, and nothing else but the one swipe
/// of each client that was under way.
fn check(log: &[Value], clients: &[Client]) {
    assert_gapless(log);
    let ids: HashSet<&str> = log.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), log.len(), "ids are unique");
    let mut by_card: HashMap<&str, Vec<Answered>> = HashMap::new();
    for event in log {
        if let Some(logged) = Answered::of_event(event) {
            by_card.entry(event["data"]["card_id"].as_str().unwrap()).or_default().push(logged);
        }
    }
    for client in clients {
        let mut logged = by_card.remove(&*format!("C{}", client.number)).unwrap_or_default();
        if logged.len() > client.answered.len() {
            let last = logged.pop().unwrap();
            assert_eq!(Some(last.swipe), client.unanswered, "nobody else swiped");
        }
        assert_eq!(logged, client.answered, "client {}", client.number);
        let mut is_inside = false;
        for answered in &client.answered {
            let expected =
                if is_inside { json!(["denied", "anti_passback"]) } else { json!(["granted", null]) };
            if answered.swipe.is_entry {
                assert_eq!(json!([answered.decision, answered.reason]), expected, "client {}", client.number);
            }
            is_inside = answered.leaves_inside();
        }
    }
}

/// Who is inside since which event's time, by the log alone.
fn fold(log: &[Value]) -> BTreeMap<String, Value> {
    let mut inside = BTreeMap::new();
    for event in log {
        let employee = event["data"]["employee_id"].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().unwrap() {
            "access.entry.granted" => drop(inside.insert(employee, event["time"].clone())),
            "access.exit.recorded" => drop(inside.remove(&employee)),
            _ => {}
        }
    }
    inside
}

async fn presence(security: &Caller) -> BTreeMap<String, Value> {
    let answer = security.get("/v1/buildings/hq/presence").await.expect(200);
    let people = answer["people"].as_array().unwrap().iter();
    people.map(|one| (one["employee_id"].as_str().unwrap().to_owned(), one["since"].clone())).collect()
}

/// After all the kills the files hold every event; how many of them more than once.
async fn everything_is_delivered(site: &Site, log: &[Value]) -> usize {
    let daemon = site.start();
    let admin = daemon.person(&site.token("admin"));
    settled(&admin, &[("files", log.len() as u64)]).await;
    assert_eq!(sinks_by_name(&admin).await["files"]["dead"], 0);
    let (status, _) = daemon.stop();
    assert!(status.success());
    let delivered = site.files("sinks/files");
    let mut seen = HashSet::new();
    let in_order = delivered.iter().filter(|event| seen.insert(event["id"].as_str().unwrap().to_owned()));
    let sequences: Vec<u64> = in_order.map(sequence).collect();
    assert_eq!(sequences, (1..=log.len() as u64).collect::<Vec<_>>(), "first copies come in order");
    delivered.len() - log.len()
}
