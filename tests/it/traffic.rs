//! A crowd of people who come and go, each at a turnstile that keeps what it was answered, for tests in
//! which the server goes away in the middle of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    daemon::{Daemon, Site, assert_gapless, sequence},
    http::Caller,
    random::Random,
    wait,
};

/// People, each with a turnstile.
const CLIENTS: u64 = 32;
const SERVICE_UNAVAILABLE: u16 = 503;

/// Everyone.
pub(crate) struct Crowd {
    clients: Vec<Client>,
    key: String,
    token: String,
}

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

impl Crowd {
    pub(crate) fn new(site: &Site, random: &mut Random) -> Self {
        let client = |number| Client {
            number,
            random: Random::seeded(random.next()),
            answered: Vec::new(),
            unanswered: None,
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { clients, key: site.key("hq"), token: site.token("hr,security") }
    }

    pub(crate) async fn register(&self, daemon: &Daemon) {
        let hr = daemon.person(&self.token);
        for client in &self.clients {
            let card = json!({ "employee_id": format!("E{}", client.number) });
            hr.put(&format!("/v1/cards/C{}", client.number), &card).await.expect(201);
        }
    }

    /// Everyone swipes on their own until the server goes away, which is up to `end`; it is told of the
    /// number of answers.
    pub(crate) async fn swipe(
        &mut self,
        daemon: &mut Daemon,
        end: impl AsyncFnOnce(&mut Daemon, &AtomicU64),
    ) {
        let count = Arc::new(AtomicU64::new(0));
        let gate = daemon.device(&self.key);
        let tasks: Vec<_> = (self.clients.drain(..))
            .map(|client| tokio::spawn(client.swipe_until_refused(gate.clone(), Arc::clone(&count))))
            .collect();
        end(daemon, &count).await;
        for task in tasks {
            self.clients.push(task.await.unwrap());
        }
    }

    /// Everyone swipes on their own until an entry is refused because the disk is full, and then leaves so many
    /// times: that has to work. How many entries were refused.
    pub(crate) async fn swipe_until_full(&mut self, daemon: &Daemon, exits_then: usize) -> usize {
        let gate = daemon.device(&self.key);
        let tasks: Vec<_> = (self.clients.drain(..))
            .map(|client| tokio::spawn(client.swipe_until_full(gate.clone(), exits_then)))
            .collect();
        let mut refused = 0;
        for task in tasks {
            let (client, more) = task.await.unwrap();
            refused += more;
            self.clients.push(client);
        }
        refused
    }

    /// One entry by someone who is outside; whether it was granted. Refused, it says why.
    pub(crate) async fn enter(&mut self, daemon: &Daemon) -> bool {
        let gate = daemon.device(&self.key);
        let client = &mut self.clients[0];
        let swipe = client.new_swipe(true);
        match client.ask(&gate, &swipe).await.unwrap() {
            Ok(answered) => client.answered.push(answered),
            Err(problem) => {
                assert_full(&problem, "exits still work");
                return false;
            }
        }
        true
    }

    /// One exit; whether it was recorded. Refused, it says why.
    pub(crate) async fn leave(&mut self, daemon: &Daemon) -> bool {
        let gate = daemon.device(&self.key);
        let client = &mut self.clients[0];
        let swipe = client.new_swipe(false);
        match client.ask(&gate, &swipe).await.unwrap() {
            Ok(answered) => client.answered.push(answered),
            Err(problem) => {
                assert_full(&problem, "let people out by hand");
                return false;
            }
        }
        true
    }

    /// Sends what was not answered again; how many of it the log had already, and how many it had not.
    pub(crate) async fn retry(&mut self, daemon: &Daemon, log: &[Value]) -> (usize, usize) {
        let gate = daemon.device(&self.key);
        let (mut kept, mut lost) = (0, 0);
        for client in &mut self.clients {
            match client.retry(&gate, log).await {
                Some(true) => kept += 1,
                Some(false) => lost += 1,
                None => {}
            }
        }
        (kept, lost)
    }

    pub(crate) fn answers(&self) -> usize {
        self.clients.iter().map(|client| client.answered.len()).sum()
    }

    /// How many answers the log does not have.
    pub(crate) fn lost(&self, log: &[Value]) -> usize {
        let ids: HashSet<&str> = log.iter().map(|event| event["id"].as_str().unwrap()).collect();
        let answered = self.clients.iter().flat_map(|client| &client.answered);
        answered.filter(|answered| !ids.contains(&*answered.event_id)).count()
    }

    pub(crate) fn employees(&self) -> impl Iterator<Item = String> {
        self.clients.iter().map(|client| format!("E{}", client.number))
    }

    /// That the server says of who is inside what the log says.
    pub(crate) async fn check_presence(&self, daemon: &Daemon, log: &[Value]) {
        let answer = daemon.person(&self.token).get("/v1/buildings/hq/presence").await.expect(200);
        let people = answer["people"].as_array().unwrap().iter();
        let inside: BTreeMap<String, Value> = people
            .map(|one| (one["employee_id"].as_str().unwrap().to_owned(), one["since"].clone()))
            .collect();
        assert_eq!(inside, fold(log));
    }

    /// The log has every answer as it was given, in the order it was given, and nothing else but the one swipe
    /// of each client that was under way.
    pub(crate) fn check(&self, log: &[Value]) {
        assert_gapless(log);
        let ids: HashSet<&str> = log.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), log.len(), "ids are unique");
        let mut by_card: HashMap<&str, Vec<Answered>> = HashMap::new();
        for event in log {
            if let Some(logged) = Answered::of_event(event) {
                by_card.entry(event["data"]["card_id"].as_str().unwrap()).or_default().push(logged);
            }
        }
        for client in &self.clients {
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
                    assert_eq!(
                        json!([answered.decision, answered.reason]),
                        expected,
                        "client {}",
                        client.number
                    );
                }
                is_inside = answered.leaves_inside();
            }
        }
    }
}

fn assert_full(problem: &Value, what: &str) {
    assert!(is_full(problem), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(what), "{problem}");
}

fn is_full(problem: &Value) -> bool {
    let detail = problem["detail"].as_str().unwrap();
    detail.contains("disk is full") && detail.contains("nothing was recorded")
}

impl Client {
    fn new_swipe(&mut self, is_entry: bool) -> Swipe {
        Swipe { is_entry, swipe_id: self.random.uuid() }
    }

    async fn swipe_until_full(mut self, gate: Caller, exits_then: usize) -> (Self, usize) {
        loop {
            let is_inside = self.answered.last().is_some_and(Answered::leaves_inside);
            let swipe = self.new_swipe(!is_inside);
            match self.ask(&gate, &swipe).await.unwrap() {
                Ok(answered) => self.answered.push(answered),
                Err(problem) => {
                    assert!(swipe.is_entry, "exits are recorded: {problem}");
                    assert_full(&problem, "exits still work");
                    break;
                }
            }
        }
        for _ in 0..exits_then {
            let swipe = self.new_swipe(false);
            let answered = self.ask(&gate, &swipe).await.unwrap();
            self.answered.push(answered.unwrap_or_else(|problem| panic!("exits are recorded: {problem}")));
        }
        (self, 1)
    }

    async fn swipe_until_refused(mut self, gate: Caller, count: Arc<AtomicU64>) -> Self {
        loop {
            let is_inside = self.answered.last().is_some_and(Answered::leaves_inside);
            // now and then someone swipes the wrong way
            let is_entry = is_inside == self.random.one_in(5);
            let swipe = Swipe { is_entry, swipe_id: self.random.uuid() };
            match self.send_patiently(&gate, &swipe).await {
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
        let answered = self.send_patiently(gate, &swipe).await.unwrap();
        let logged = log.iter().find(|event| event["data"]["swipe_id"] == *swipe.swipe_id);
        match logged {
            Some(event) => assert_eq!(answered, Answered::of_event(event).unwrap(), "the first answer again"),
            None => assert!(answered.sequence > log.len() as u64, "{answered:?} is new"),
        }
        self.answered.push(answered);
        Some(logged.is_some())
    }

    /// As a gate does it: what is refused because the disk is full is asked again. `None` if the connection broke or
    /// the server could not commit.
    async fn send_patiently(&self, gate: &Caller, swipe: &Swipe) -> Option<Answered> {
        let deadline = Instant::now() + wait::LIMIT;
        loop {
            match self.ask(gate, swipe).await? {
                Ok(answered) => return Some(answered),
                Err(problem) if is_full(&problem) => assert!(Instant::now() < deadline, "{problem}"),
                Err(_) => return None,
            }
            tokio::time::sleep(wait::POLL_INTERVAL).await;
        }
    }

    /// `None` if the connection broke; the problem if the server could not commit.
    async fn ask(&self, gate: &Caller, swipe: &Swipe) -> Option<Result<Answered, Value>> {
        let path = if swipe.is_entry { "/v1/buildings/hq/entries" } else { "/v1/buildings/hq/exits" };
        let body = json!({
            "card_id": format!("C{}", self.number), "gate_id": "north-1", "swipe_id": swipe.swipe_id,
        });
        let answer = gate.try_post(path, &body).await.ok()?;
        if answer.status == SERVICE_UNAVAILABLE {
            assert_ne!(answer.header("retry-after"), "", "{}", answer.body);
            return Some(Err(answer.expect(SERVICE_UNAVAILABLE)));
        }
        let answer = answer.expect(if swipe.is_entry { 200 } else { 202 });
        Some(Ok(Answered {
            swipe: swipe.clone(),
            event_id: answer["event_id"].as_str().unwrap().to_owned(),
            sequence: sequence(&answer),
            decision: answer["decision"].clone(),
            reason: answer["reason"].clone(),
        }))
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

/// Who is inside since which event's time, by the log alone.
pub(crate) fn fold(log: &[Value]) -> BTreeMap<String, Value> {
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
