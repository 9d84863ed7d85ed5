//! Two hours without the service while a million events are recorded, in virtual time.
//!
//! The log makes its events when they are pulled, and every body counts itself while anybody holds it: what the machine
//! keeps in memory is counted, not asked of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{random::Rng, world::trouble};
use crate::{
    delivery::{
        Outgoing,
        machine::{BatchId, Config, Effect, Input, Machine, Now},
        outcome::{BatchLimits, Order, Outcome, TroubleKind},
        progress::Progress,
        status::SinkState,
    },
    domain::record::EventRecord,
};

const EVENTS: u64 = 1_000_000;
const OUTAGE_MS: u64 = 2 * 3_600_000;
/// The log tells of itself so often.
const GROWTH_EVERY_MS: u64 = 1_000;
const HOLDERS: u64 = 5_000;
const BODY: [u8; 64] = [b' '; 64];
/// How long the service takes for a request that it answers.
const ANSWER_MS: u64 = 20;
/// How often it may be asked in vain: a probe waits for 15 s at the mean, and this is four times as often.
const MAX_REQUESTS_AWAY: u64 = 4 * OUTAGE_MS / 15_000;
/// Calls of the machine that are no growth of the log, for each request: its answer, timers, pulls.
const MAX_CALLS_PER_REQUEST: u64 = 8;
/// A probe waits for half a minute at the most, and so does a record that failed before.
const MAX_WAIT_AFTER_MS: u64 = 60_000;

/// A body that is counted while it is held.
struct Counted(Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &BODY
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

struct Outage {
    machine: Machine,
    config: Config,
    limits: BatchLimits,
    rng: Rng,
    now_ms: u64,
    /// What the events of each holder are like, beside their bodies.
    records: Vec<EventRecord>,
    held: Arc<AtomicUsize>,
    most_held: usize,
    /// What comes back when.
    under_way: BTreeMap<(u64, BatchId), Vec<Outgoing>>,
    wake_ms: Option<u64>,
    cursor: u64,
    /// The last event that the service took of each holder.
    last_of_holder: Vec<u64>,
    taken: u64,
    requests: u64,
    calls: u64,
}

impl Outage {
    fn new(limits: BatchLimits) -> Self {
        let config = Config::for_batches(&limits);
        let record =
            |holder| EventRecord::encode("access.exit.recorded", "hq", &format!("E{holder}"), b"{}").unwrap();
        Self {
            machine: Machine::new(limits.clone(), &Progress::default(), config),
            config,
            limits,
            rng: Rng(4),
            now_ms: 0,
            records: (0..HOLDERS).map(record).collect(),
            held: Arc::default(),
            most_held: 0,
            under_way: BTreeMap::new(),
            wake_ms: None,
            cursor: 0,
            last_of_holder: vec![0; HOLDERS as usize],
            taken: 0,
            requests: 0,
            calls: 0,
        }
    }

    fn is_away(&self) -> bool {
        self.now_ms < OUTAGE_MS
    }

    /// The log's last event: all of them come during the outage, evenly.
    fn head(&self) -> u64 {
        self.now_ms.min(OUTAGE_MS) * EVENTS / OUTAGE_MS
    }

    fn event(&self, sequence: u64) -> Outgoing {
        let record = self.records[(sequence % HOLDERS) as usize].clone();
        self.held.fetch_add(1, Relaxed);
        Outgoing { sequence, record, body: Bytes::from_owner(Counted(Arc::clone(&self.held))), trace: None }
    }

    /// The next thing that happens, until nothing is left to happen.
    fn run(&mut self, until: impl Fn(&Self) -> bool) {
        self.input(Input::Tick);
        while !until(self) {
            let growth = self.is_away().then(|| (self.now_ms / GROWTH_EVERY_MS + 1) * GROWTH_EVERY_MS);
            let answer = self.under_way.keys().next().map(|(at, _)| *at);
            let next = [growth, answer, self.wake_ms].into_iter().flatten().min();
            self.now_ms = self.now_ms.max(next.expect("it is not over, and nothing will happen"));
            if answer.is_some_and(|at| at <= self.now_ms) {
                self.answer();
            } else if growth.is_some_and(|at| at <= self.now_ms) {
                self.input(Input::LogGrew);
            } else {
                self.wake_ms = None;
                self.input(Input::Tick);
            }
        }
    }

    fn answer(&mut self) {
        let ((_, batch), records) = self.under_way.pop_first().unwrap();
        let outcome = match self.is_away() {
            true => Outcome::Retry(trouble(TroubleKind::Transient)),
            false => Outcome::Delivered,
        };
        let outcomes = vec![outcome; records.len()];
        if !self.is_away() {
            for record in records {
                let last = &mut self.last_of_holder[(record.sequence % HOLDERS) as usize];
                assert!(self.limits.order == Order::None || *last < record.sequence, "{}", record.sequence);
                *last = record.sequence;
                self.taken += 1;
            }
        }
        self.input(Input::Finished { batch, outcomes });
    }

    /// One input and whatever it leads to at once.
    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.calls += 1;
            let now = Now { elapsed: Duration::from_millis(self.now_ms), unix_ms: self.now_ms };
            let effects = self.machine.handle(input, now, &mut || self.rng.unit());
            for effect in effects {
                inputs.extend(self.effect(effect));
            }
            self.check_bounds();
        }
    }

    fn effect(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Pull { after, max_records, .. } => {
                let scanned_to = self.head().min(after + max_records as u64);
                let records = (after + 1..=scanned_to).map(|sequence| self.event(sequence)).collect();
                return Some(Input::Pulled { records, scanned_to });
            }
            Effect::Send { batch, records } => {
                self.requests += 1;
                self.under_way.insert((self.now_ms + ANSWER_MS, batch), records);
            }
            Effect::WakeAt(at) => self.wake_ms = Some(at.as_nanos().div_ceil(1_000_000) as u64),
            Effect::Settle(settlement) => {
                let Progress { cursor, settled, .. } = settlement.progress;
                assert!(cursor >= self.cursor && settled.len() <= self.config.window.max_records + 1);
                self.cursor = cursor;
            }
            Effect::PullLetters { .. } => panic!("nothing was refused"),
        }
        None
    }

    /// Nothing is held but what the window has room for.
    fn check_bounds(&mut self) {
        let held = self.held.load(Relaxed);
        self.most_held = self.most_held.max(held);
        assert!(held <= self.config.window.max_records, "{held} events are held");
        assert!(self.under_way.len() <= self.limits.max_in_flight);
    }
}

fn limits(order: Order, max_records: usize, max_in_flight: usize) -> BatchLimits {
    BatchLimits {
        max_records,
        max_bytes: 1 << 20,
        record_overhead_bytes: 16,
        linger: Duration::ZERO,
        max_in_flight,
        order,
    }
}

#[test]
fn a_million_events_wait_for_two_hours_and_not_in_memory() {
    let sinks = [limits(Order::None, 10, 8), limits(Order::PerKey, 500, 4), limits(Order::Batch, 65_536, 1)];
    for limits in sinks {
        let name = format!("{:?}", limits.order);
        let mut outage = Outage::new(limits.clone());
        outage.run(|outage| !outage.is_away());
        let (requests, calls) = (outage.requests, outage.calls);
        assert!(requests <= MAX_REQUESTS_AWAY, "{name}: asked {requests} times in vain");
        let growths = OUTAGE_MS / GROWTH_EVERY_MS;
        assert!(calls <= growths + requests * MAX_CALLS_PER_REQUEST, "{name}: {calls} calls");
        assert_eq!((outage.cursor, outage.taken), (0, 0), "{name}");
        assert_eq!(outage.machine.status().state, SinkState::Open, "{name}");

        outage.run(|outage| outage.cursor == EVENTS);
        assert_eq!(outage.taken, EVENTS, "{name}: each once");
        assert_eq!(outage.held.load(Relaxed), 0, "{name}: all are forgotten");
        let at_full_speed = EVENTS * ANSWER_MS / (limits.max_records * limits.max_in_flight) as u64;
        let took = outage.now_ms - OUTAGE_MS;
        assert!(took <= MAX_WAIT_AFTER_MS + 2 * at_full_speed, "{name}: caught up after {took} ms");
        let held = outage.most_held;
        println!(
            "{name}: {requests} requests in vain, {held} events held at most, caught up after {took} ms"
        );
    }
}
