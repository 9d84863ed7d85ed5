//! The simulated log, sink and shell, and the checks on every effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    ops::Range,
    time::Duration,
};

use crate::delivery::{
    FLUSH_EVERY_MS, Outgoing,
    batch::tests::outgoing,
    machine::{BatchId, Config, Effect, Input, Machine, Now},
    outcome::{BatchLimits, Order, Outcome, Trouble, TroubleKind},
    progress::{Progress, Settlement},
    status::SinkState,
    window::WindowLimits,
};

/// When the sink's outages end, so that every history ends.
const HEALED_AFTER_MS: u64 = 60_000;
/// When the log stops growing.
const GROWS_FOR_MS: u64 = 20_000;
/// Above this a machine spins. Every answer takes at least a millisecond and there are at most five under way.
const MAX_CALLS_PER_SECOND: u64 = 6_100;
const OVERHEAD_BYTES: usize = 10;
/// Virtual time no history needs: half an hour.
const MAX_MS: u64 = 1_800_000;

#[derive(Clone, Debug)]
pub(super) struct Faults {
    pub(super) record_fails_percent: u64,
    pub(super) batch_fails_percent: u64,
    pub(super) throttled_percent: u64,
    pub(super) short_answer_percent: u64,
    /// Every n-th sequence is invalid; 0: none.
    pub(super) poison_every: u64,
    /// The service says which record is invalid, instead of refusing the batch.
    pub(super) poison_is_named: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) order: Order,
    pub(super) faults: Faults,
    pub(super) events: u64,
    pub(super) matching_percent: u64,
    pub(super) keys: u64,
    pub(super) max_records: usize,
    pub(super) max_bytes: usize,
    pub(super) max_in_flight: usize,
    pub(super) linger_ms: u64,
    pub(super) window_records: usize,
    pub(super) window_bytes: usize,
    pub(super) rate: Option<u32>,
    pub(super) crashes: usize,
}

/// A splitmix64 generator: small, and the same on every machine.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[derive(Debug)]
enum Happening {
    Grow,
    Crash,
    Pull { after: u64, head: u64, max_records: usize, max_bytes: usize },
    Finish { batch: BatchId },
    Wake,
}

pub(super) struct World {
    plan: Plan,
    limits: BatchLimits,
    rng: Rng,
    now_ms: u64,
    /// What will happen, by time and then by the order of planning.
    agenda: BTreeMap<(u64, u64), Happening>,
    planned: u64,
    wake: Option<(u64, u64)>,
    /// The log: sequence 1 upwards; `None` is not for this sink.
    log: Vec<Option<Outgoing>>,
    machine: Machine,
    pulling: bool,
    in_flight: BTreeMap<BatchId, Vec<Outgoing>>,
    /// Under batch order: what failed of the last batch, to come next and alone.
    must_come_next: Vec<u64>,
    durable: Progress,
    dead: BTreeSet<u64>,
    /// How often the service took each record.
    pub(super) arrivals: BTreeMap<u64, usize>,
    /// Records that arrived before a crash and were not settled durably then, counted at every crash.
    pub(super) may_repeat: usize,
    /// When the machine first heard that a record was delivered.
    acknowledged_ms: BTreeMap<u64, u64>,
    last_of_key: BTreeMap<String, u64>,
    calls_in_second: (u64, u64),
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let limits = BatchLimits {
            max_records: plan.max_records,
            max_bytes: plan.max_bytes,
            record_overhead_bytes: OVERHEAD_BYTES,
            linger: Duration::from_millis(plan.linger_ms),
            max_in_flight: plan.max_in_flight,
            order: plan.order,
        };
        let machine = start(&plan, &limits, &Progress::default());
        let mut world = Self {
            rng: Rng(plan.seed),
            limits,
            now_ms: 0,
            agenda: BTreeMap::new(),
            planned: 0,
            wake: None,
            log: Vec::new(),
            machine,
            pulling: false,
            in_flight: BTreeMap::new(),
            must_come_next: Vec::new(),
            durable: Progress::default(),
            dead: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            may_repeat: 0,
            acknowledged_ms: BTreeMap::new(),
            last_of_key: BTreeMap::new(),
            calls_in_second: (0, 0),
            plan,
        };
        for _ in 0..world.plan.events {
            let at = world.rng.below(GROWS_FOR_MS);
            world.plan_at(at, Happening::Grow);
        }
        for _ in 0..world.plan.crashes {
            let at = world.rng.below(HEALED_AFTER_MS);
            world.plan_at(at, Happening::Crash);
        }
        world
    }

    /// Plays the history to its end and checks what is left.
    pub(super) fn run(mut self) -> Self {
        self.input(Input::Tick);
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            assert!(at < MAX_MS, "not finished in time: {:?}", self.machine.status());
            self.now_ms = self.now_ms.max(at);
            self.happen(happening);
        }
        self.check_end();
        self
    }

    fn plan_at(&mut self, at: u64, happening: Happening) -> (u64, u64) {
        self.planned += 1;
        self.agenda.insert((at, self.planned), happening);
        (at, self.planned)
    }

    fn plan_soon(&mut self, happening: Happening) {
        let at = self.now_ms + 1 + self.rng.below(50);
        self.plan_at(at, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Grow => self.grow(),
            Happening::Crash => self.crash(),
            Happening::Pull { after, head, max_records, max_bytes } => {
                self.pull(after..head, max_records, max_bytes)
            }
            Happening::Finish { batch } => self.finish(batch),
            Happening::Wake => {
                self.wake = None;
                self.input(Input::Tick);
            }
        }
    }

    fn grow(&mut self) {
        let sequence = self.log.len() as u64 + 1;
        let matching = self.rng.percent(self.plan.matching_percent);
        let key = format!("E{}", self.rng.below(self.plan.keys));
        let body_bytes = self.rng.below(300) as usize;
        self.log.push(matching.then(|| outgoing(sequence, &key, body_bytes)));
        self.input(Input::LogGrew);
    }

    /// Whatever was on its way to the service arrives or does not; nobody hears of it.
    fn crash(&mut self) {
        let lost: Vec<BatchId> = self.in_flight.keys().copied().collect();
        for batch in lost {
            if self.rng.percent(50) {
                self.outcomes(batch);
            }
        }
        let machine_side = |what: &Happening| !matches!(what, Happening::Grow | Happening::Crash);
        self.agenda.retain(|_, happening| !machine_side(happening));
        (self.pulling, self.wake) = (false, None);
        self.in_flight.clear();
        self.must_come_next.clear();
        self.may_repeat +=
            self.arrivals.keys().filter(|sequence| !is_durable(&self.durable, **sequence)).count();
        let text = serde_json::to_string(&self.durable).unwrap();
        for (sequence, at_ms) in std::mem::take(&mut self.acknowledged_ms) {
            let young = self.now_ms - at_ms <= FLUSH_EVERY_MS;
            assert!(young || is_durable(&self.durable, sequence), "{sequence} was acknowledged at {at_ms}");
        }
        self.machine = start(&self.plan, &self.limits, &serde_json::from_str(&text).unwrap());
        self.input(Input::Tick);
    }

    /// Reads like a shell does: the log as it was when asked, at most so much, not always to the end.
    fn pull(&mut self, range: Range<u64>, max_records: usize, max_bytes: usize) {
        let patience = 1 + self.rng.below(30) as usize;
        let (mut records, mut bytes, mut scanned_to) = (Vec::new(), 0, range.start);
        for entry in self.log[range.start as usize..range.end as usize].iter().take(patience) {
            if let Some(record) = entry {
                bytes += record.body.len();
                if records.len() == max_records || (!records.is_empty() && bytes > max_bytes) {
                    break;
                }
                records.push(record.clone());
            }
            scanned_to += 1;
        }
        self.pulling = false;
        self.input(Input::Pulled { records, scanned_to });
    }

    fn finish(&mut self, batch: BatchId) {
        let outcomes = self.outcomes(batch);
        let records = self.in_flight.remove(&batch).unwrap();
        if self.plan.order == Order::Batch {
            let failed = records
                .iter()
                .enumerate()
                .filter(|(index, _)| matches!(outcomes.get(*index), None | Some(Outcome::Retry(_))));
            self.must_come_next = failed.map(|(_, record)| record.sequence).collect();
        }
        for (record, _) in
            records.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Delivered)
        {
            self.acknowledged_ms.entry(record.sequence).or_insert(self.now_ms);
        }
        self.input(Input::Finished { batch, outcomes });
    }

    /// The service's answer to a batch, and its memory of what arrived.
    fn outcomes(&mut self, batch: BatchId) -> Vec<Outcome> {
        let records = self.in_flight[&batch].clone();
        let faults = self.plan.faults.clone();
        let outage = self.now_ms < HEALED_AFTER_MS;
        if outage && self.rng.percent(faults.batch_fails_percent) {
            let trouble = self.outage(&faults);
            return vec![Outcome::Retry(trouble); records.len()];
        }
        let poisoned = |record: &Outgoing| {
            faults.poison_every > 0 && record.sequence.is_multiple_of(faults.poison_every)
        };
        if !faults.poison_is_named && records.len() > 1 && records.iter().any(poisoned) {
            return vec![Outcome::BatchRefused(trouble(TroubleKind::Invalid)); records.len()];
        }
        let mut outcomes = Vec::new();
        for record in &records {
            // A service that keeps the order of a batch takes a batch whole or not.
            let fails = self.plan.order != Order::Batch && self.rng.percent(faults.record_fails_percent);
            let short = self.plan.order != Order::Batch && self.rng.percent(faults.short_answer_percent);
            if poisoned(record) {
                outcomes.push(Outcome::Rejected(trouble(TroubleKind::Invalid)));
            } else if outage && self.plan.order != Order::Batch && self.rng.percent(5) {
                outcomes.push(Outcome::Later(Duration::from_millis(self.rng.below(500))));
            } else if outage && short {
                break;
            } else if outage && fails {
                outcomes.push(Outcome::Retry(self.outage(&faults)));
            } else {
                self.arrived(record);
                outcomes.push(Outcome::Delivered);
            }
        }
        outcomes
    }

    fn outage(&mut self, faults: &Faults) -> Trouble {
        let kind = match self.rng.below(100) {
            dice if dice < faults.throttled_percent => TroubleKind::Throttled,
            dice if dice < 60 => TroubleKind::Transient,
            _ => TroubleKind::Hold,
        };
        let retry_after = self.rng.percent(10).then(|| Duration::from_millis(self.rng.below(2_000)));
        Trouble { retry_after, ..trouble(kind) }
    }

    fn arrived(&mut self, record: &Outgoing) {
        let times = self.arrivals.entry(record.sequence).or_default();
        *times += 1;
        if *times == 1 && self.plan.order != Order::None {
            let key = record.record.partition_key().to_owned();
            let before = self.last_of_key.insert(key, record.sequence);
            assert!(before < Some(record.sequence), "{} arrived after {before:?}", record.sequence);
        }
    }

    fn input(&mut self, input: Input) {
        self.count_call();
        let now = Now { elapsed: Duration::from_millis(self.now_ms), unix_ms: self.now_ms };
        let effects = self.machine.handle(input, now, &mut || self.rng.unit());
        assert!(effects.len() <= self.limits.max_in_flight + 3, "{} effects at once", effects.len());
        for effect in effects {
            self.effect(effect);
        }
        let pending = self.machine.status().pending;
        assert!(pending <= self.plan.window_records, "{pending} records outstanding");
    }

    fn count_call(&mut self) {
        let second = self.now_ms / 1_000;
        let (counted, calls) = self.calls_in_second;
        let calls = if counted == second { calls + 1 } else { 1 };
        assert!(calls <= MAX_CALLS_PER_SECOND, "spins: {calls} calls in one virtual second");
        self.calls_in_second = (second, calls);
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Pull { after, max_records, max_bytes } => {
                assert!(!self.pulling, "two pulls outstanding");
                assert!(max_records > 0 && max_bytes > 0);
                self.pulling = true;
                let head = self.log.len() as u64;
                self.plan_soon(Happening::Pull { after, head, max_records, max_bytes });
            }
            Effect::Send { batch, records } => self.send(batch, records),
            Effect::WakeAt(at) => {
                assert!(at > Duration::from_millis(self.now_ms), "a timer in the past spins");
                if let Some(replaced) = self.wake.take() {
                    self.agenda.remove(&replaced);
                }
                let at_ms = at.as_nanos().div_ceil(1_000_000) as u64;
                self.wake = Some(self.plan_at(at_ms, Happening::Wake));
            }
            Effect::Settle(settlement) => self.settle(settlement),
        }
    }

    fn send(&mut self, batch: BatchId, records: Vec<Outgoing>) {
        self.check_batch(&records);
        let replaced = self.in_flight.insert(batch, records);
        assert!(replaced.is_none(), "batch ids repeat");
        assert!(self.in_flight.len() <= self.limits.max_in_flight);
        self.plan_soon(Happening::Finish { batch });
    }

    fn check_batch(&mut self, records: &[Outgoing]) {
        let sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
        assert!(sequences.is_sorted() && !sequences.is_empty() && sequences.len() <= self.limits.max_records);
        let bytes: usize = records.iter().map(|record| record.body.len() + OVERHEAD_BYTES).sum();
        assert!(bytes <= self.limits.max_bytes || records.len() == 1, "{bytes} bytes in a batch");
        for sequence in &sequences {
            assert!(!is_durable(&self.durable, *sequence), "{sequence} was settled and is sent again");
        }
        let under_way = self.in_flight.values().flatten();
        match self.plan.order {
            Order::None => {}
            Order::PerKey => {
                let all: Vec<&str> =
                    under_way.chain(records).map(|record| record.record.partition_key()).collect();
                let distinct: BTreeSet<&str> = all.iter().copied().collect();
                assert_eq!(all.len(), distinct.len(), "two records of a key in flight: {all:?}");
            }
            Order::Batch => {
                assert_eq!(under_way.count(), 0, "two batches in flight");
                let expected = std::mem::take(&mut self.must_come_next);
                assert!(
                    expected.is_empty() || expected == sequences,
                    "{expected:?} failed, {sequences:?} came"
                );
            }
        }
    }

    /// The write: nothing is settled that neither arrived nor is dead, and nothing settled is taken back.
    fn settle(&mut self, settlement: Settlement) {
        for dead in settlement.dead {
            assert!(dead.attempts > 0 && dead.first_failed_ms <= dead.last_failed_ms);
            assert!(self.dead.insert(dead.outgoing.sequence), "two dead letters of one record");
        }
        let progress = settlement.progress;
        assert!(progress.cursor <= self.log.len() as u64);
        assert!(progress.settled.len() <= self.plan.window_records + 1, "{} ranges", progress.settled.len());
        let mut settled = 0;
        for record in self.log.iter().flatten() {
            let sequence = record.sequence;
            if is_durable(&progress, sequence) {
                settled += 1;
                let done = self.arrivals.contains_key(&sequence) || self.dead.contains(&sequence);
                assert!(done, "{sequence} is settled, and neither arrived nor dead");
            } else {
                assert!(!is_durable(&self.durable, sequence), "{sequence} was settled before");
                assert!(!self.dead.contains(&sequence), "{sequence} is dead and not settled");
            }
        }
        assert_eq!(progress.totals.delivered + progress.totals.dead, settled);
        self.durable = progress;
    }

    fn check_end(&mut self) {
        let faults = &self.plan.faults;
        for record in self.log.iter().flatten() {
            let sequence = record.sequence;
            let poison = faults.poison_every > 0 && sequence.is_multiple_of(faults.poison_every);
            assert_eq!(self.dead.contains(&sequence), poison, "{sequence} dead");
            assert_eq!(self.arrivals.contains_key(&sequence), !poison, "{sequence} arrived");
        }
        assert_eq!((self.durable.cursor, self.durable.settled.len()), (self.log.len() as u64, 0));
        assert_eq!(self.durable.totals.delivered, self.arrivals.len() as u64);
        assert_eq!(self.durable.totals.dead, self.dead.len() as u64);
        let status = self.machine.status();
        assert_eq!((status.state, status.pending, status.in_flight), (SinkState::Healthy, 0, 0));
        let later = Now { elapsed: Duration::from_millis(self.now_ms + 3_600_000), unix_ms: 0 };
        assert!(self.machine.handle(Input::Tick, later, &mut || 0.5).is_empty(), "an idle machine rests");
    }
}

fn start(plan: &Plan, limits: &BatchLimits, progress: &Progress) -> Machine {
    let config = Config {
        window: WindowLimits { max_records: plan.window_records, max_bytes: plan.window_bytes },
        rate_per_second: plan.rate.and_then(NonZeroU32::new),
        ..Config::for_batches(limits)
    };
    Machine::new(limits.clone(), progress, config)
}

fn is_durable(progress: &Progress, sequence: u64) -> bool {
    sequence <= progress.cursor
        || progress.settled.iter().any(|&(first, last)| (first..=last).contains(&sequence))
}

fn trouble(kind: TroubleKind) -> Trouble {
    Trouble { kind, code: "Code".to_owned(), text: String::new(), retry_after: None }
}
