//! The simulated log, sink and shell, and the checks on every effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    ops::Range,
    time::Duration,
};

use super::random::Rng;
use crate::delivery::{
    FLUSH_EVERY_MS, Outgoing,
    batch::tests::outgoing,
    machine::{BatchId, Config, Effect, Input, Machine, Now},
    outcome::{BatchLimits, Order, Outcome, Trouble, TroubleKind},
    progress::{Before, DeadRecord, Letter, Progress, Settlement, Totals},
    status::{SinkState, Status},
    window::WindowLimits,
};

/// When the sink's outages end, so that every history ends.
const HEALED_AFTER_MS: u64 = 60_000;
/// When the log stops growing.
const GROWS_FOR_MS: u64 = 20_000;
/// Above this a machine spins. Every answer takes at least a millisecond and there are at most five under way.
const MAX_CALLS_PER_SECOND: u64 = 6_100;
const OVERHEAD_BYTES: usize = 10;
/// Virtual time no history needs: a record that waits for a dead letter to go waits for half a minute each time.
const MAX_MS: u64 = 14_400_000;

#[derive(Clone, Debug)]
pub(super) struct Faults {
    pub(super) record_fails_percent: u64,
    pub(super) batch_fails_percent: u64,
    pub(super) throttled_percent: u64,
    pub(super) short_answer_percent: u64,
    /// The service takes what is valid, and nobody hears of it.
    pub(super) lost_reply_percent: u64,
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
    /// What an operator does: redrives, discards, and lets go of what is behind.
    pub(super) acts: usize,
    pub(super) detaches: usize,
    pub(super) max_dead_letters: Option<u64>,
}

#[derive(Debug)]
enum Happening {
    Grow,
    Crash,
    Pull { after: u64, head: u64, max_records: usize, max_bytes: usize },
    Finish { batch: BatchId },
    PullLetters { after: u64, max_letters: usize },
    Act,
    Detach,
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
    /// What the machine began with.
    restored: Progress,
    /// The dead letters, as they are kept.
    dead: BTreeMap<u64, DeadRecord>,
    /// Those that are marked to be redriven.
    marked: BTreeSet<u64>,
    /// Those whose mark was read, and that the machine may send.
    read: BTreeSet<u64>,
    pulling_letters: bool,
    discarded: BTreeSet<u64>,
    /// What the service takes although it was invalid once.
    cured: BTreeSet<u64>,
    act_is_planned: bool,
    /// How often the service took each record.
    pub(super) arrivals: BTreeMap<u64, usize>,
    /// How often it took each and the answer was lost.
    lost: BTreeMap<u64, usize>,
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
            restored: Progress::default(),
            dead: BTreeMap::new(),
            marked: BTreeSet::new(),
            read: BTreeSet::new(),
            pulling_letters: false,
            discarded: BTreeSet::new(),
            cured: BTreeSet::new(),
            act_is_planned: false,
            arrivals: BTreeMap::new(),
            lost: BTreeMap::new(),
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
        for _ in 0..world.plan.acts {
            let at = world.rng.below(HEALED_AFTER_MS * 2);
            world.plan_at(at, Happening::Act);
        }
        for _ in 0..world.plan.detaches {
            let at = world.rng.below(HEALED_AFTER_MS);
            world.plan_at(at, Happening::Detach);
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
            Happening::PullLetters { after, max_letters } => self.pull_letters(after, max_letters),
            Happening::Act => self.act(),
            Happening::Detach => self.detach(),
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
        let machine_side = |what: &Happening| {
            !matches!(what, Happening::Grow | Happening::Crash | Happening::Act | Happening::Detach)
        };
        self.agenda.retain(|_, happening| !machine_side(happening));
        (self.pulling, self.pulling_letters, self.wake) = (false, false, None);
        self.read.clear();
        self.in_flight.clear();
        self.must_come_next.clear();
        self.may_repeat +=
            self.arrivals.keys().filter(|sequence| !is_durable(&self.durable, **sequence)).count();
        self.may_repeat += self.dead.keys().filter(|sequence| self.arrivals.contains_key(sequence)).count();
        let text = serde_json::to_string(&self.durable).unwrap();
        for (sequence, at_ms) in std::mem::take(&mut self.acknowledged_ms) {
            let young = self.now_ms - at_ms <= FLUSH_EVERY_MS;
            assert!(young || is_durable(&self.durable, sequence), "{sequence} was acknowledged at {at_ms}");
        }
        self.restored = serde_json::from_str(&text).unwrap();
        self.machine = start(&self.plan, &self.limits, &self.restored);
        self.input(Input::Tick);
        self.input(Input::Redrive);
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

    /// Reads like a shell does: marked letters as they are when it reads, told a moment later.
    fn pull_letters(&mut self, after: u64, max_letters: usize) {
        let marked: Vec<u64> = self.marked.range(after + 1..).take(max_letters).copied().collect();
        let letter = |sequence: &u64| {
            let DeadRecord { outgoing, attempts, first_failed_ms, .. } = self.dead[sequence].clone();
            Letter { outgoing, before: Before { attempts, first_failed_ms } }
        };
        let letters: Vec<Letter> = marked.iter().map(letter).collect();
        self.pulling_letters = false;
        self.read.extend(marked);
        self.input(Input::Letters(letters));
    }

    /// An operator gives some letters back, some of them mended, or throws one away.
    fn act(&mut self) {
        self.act_is_planned = false;
        if self.rng.percent(60) {
            let (everything, mended) = (self.rng.percent(50), self.rng.below(101));
            for sequence in self.dead.keys().copied().collect::<Vec<_>>() {
                if everything || self.rng.percent(50) {
                    self.marked.insert(sequence);
                    if self.rng.percent(mended) {
                        self.cured.insert(sequence);
                    }
                }
            }
            self.input(Input::Redrive);
        } else if let Some(sequence) =
            self.dead.keys().find(|sequence| !self.marked.contains(sequence)).copied()
            && let Some(settlement) = self.machine.discard(sequence)
        {
            self.discarded.insert(sequence);
            self.settle(settlement);
            self.conserves();
        }
    }

    fn detach(&mut self) {
        let accepted = self.log.iter().flatten().count() as u64;
        self.input(Input::Detach { to: self.log.len() as u64, accepted });
    }

    fn finish(&mut self, batch: BatchId) {
        let outcomes = self.outcomes(batch);
        let records = self.in_flight.remove(&batch).unwrap();
        let is_letter = records.iter().any(|record| self.dead.contains_key(&record.sequence));
        // what waits because it would be one dead letter too many comes again with what failed
        let is_plain = !is_letter && self.plan.max_dead_letters.is_none();
        if self.plan.order == Order::Batch && is_plain {
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
            faults.poison_every > 0
                && record.sequence.is_multiple_of(faults.poison_every)
                && !self.cured.contains(&record.sequence)
        };
        let is_poisoned: Vec<bool> = records.iter().map(poisoned).collect();
        if !faults.poison_is_named && records.len() > 1 && is_poisoned.contains(&true) {
            return vec![Outcome::BatchRefused(trouble(TroubleKind::Invalid)); records.len()];
        }
        if outage && self.rng.percent(faults.lost_reply_percent) {
            for record in records
                .iter()
                .zip(is_poisoned)
                .filter(|(_, is_poisoned)| !is_poisoned)
                .map(|(record, _)| record)
            {
                self.arrived(record);
                *self.lost.entry(record.sequence).or_default() += 1;
            }
            return vec![Outcome::Retry(trouble(TroubleKind::Transient)); records.len()];
        }
        let mut outcomes = Vec::new();
        for (record, is_poisoned) in records.iter().zip(is_poisoned) {
            // A service that keeps the order of a batch takes a batch whole or not.
            let fails = self.plan.order != Order::Batch && self.rng.percent(faults.record_fails_percent);
            let short = self.plan.order != Order::Batch && self.rng.percent(faults.short_answer_percent);
            if is_poisoned {
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
        let is_letter = self.dead.contains_key(&record.sequence);
        if *times == 1 && self.plan.order != Order::None && !is_letter {
            let key = record.record.partition_key().to_owned();
            let before = self.last_of_key.insert(key, record.sequence);
            assert!(before < Some(record.sequence), "{} arrived after {before:?}", record.sequence);
        } else if self.plan.crashes == 0 && self.plan.order == Order::PerKey && !is_letter {
            // nothing later of its key leaves before the service has said that it has it
            let last = self.last_of_key.get(record.record.partition_key());
            assert_eq!(last, Some(&record.sequence), "{} arrived again after it", record.sequence);
        }
    }

    /// How often the service took a record and nobody heard of it.
    pub(super) fn lost_replies(&self, sequence: u64) -> usize {
        self.lost.get(&sequence).copied().unwrap_or_default()
    }

    fn input(&mut self, input: Input) {
        self.count_call();
        let now = Now { elapsed: Duration::from_millis(self.now_ms), unix_ms: self.now_ms };
        let effects = self.machine.handle(input, now, &mut || self.rng.unit());
        assert!(effects.len() <= self.limits.max_in_flight + 4, "{} effects at once", effects.len());
        for effect in effects {
            self.effect(effect);
        }
        let pending = self.machine.status().pending;
        assert!(pending <= self.plan.window_records, "{pending} records outstanding");
        self.conserves();
        if self.machine.status().letters_are_full && !self.act_is_planned {
            self.act_is_planned = true;
            let at = self.now_ms + 1 + self.rng.below(5_000);
            self.plan_at(at, Happening::Act);
        }
    }

    /// Promise 2, after every step: what the log holds for the sink is delivered, pending, dead or discarded.
    fn conserves(&self) {
        let Status { totals, pending, scanned_to, letters, detached, .. } = self.machine.status();
        let accepted = self.log.iter().flatten().count() as u64;
        let to_come =
            self.log.iter().flatten().filter(|record| {
                record.sequence > scanned_to && !is_durable(&self.restored, record.sequence)
            });
        let pending = pending as u64 + to_come.count() as u64;
        assert_eq!(
            accepted,
            totals.delivered + pending + totals.dead + totals.discarded,
            "{totals:?} {pending}"
        );
        assert_eq!(totals.discarded, self.discarded.len() as u64);
        let let_go: u64 = detached.iter().map(|range| range.events).sum();
        assert_eq!(letters + let_go, totals.dead);
        if let Some(max) = self.plan.max_dead_letters {
            assert!(letters <= max, "{letters} dead letters");
        }
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
            Effect::PullLetters { after, max_letters } => {
                assert!(!self.pulling_letters && max_letters > 0, "two pulls of letters outstanding");
                self.pulling_letters = true;
                self.plan_soon(Happening::PullLetters { after, max_letters });
            }
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
            let is_letter = self.dead.contains_key(sequence) && self.read.contains(sequence);
            assert!(
                is_letter || !is_durable(&self.durable, *sequence),
                "{sequence} was settled and is sent again"
            );
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
                if sequences.iter().any(|sequence| self.dead.contains_key(sequence)) {
                    assert_eq!(sequences.len(), 1, "a dead letter goes alone");
                    return;
                }
                let mut expected = std::mem::take(&mut self.must_come_next);
                let let_go = self.machine.status().detached;
                expected.retain(|sequence| !let_go.iter().any(|range| *sequence <= range.last));
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
            let sequence = dead.outgoing.sequence;
            if let Some(before) = self.dead.get(&sequence) {
                assert!(self.marked.remove(&sequence), "two dead letters of one record");
                assert!(before.attempts < dead.attempts && before.first_failed_ms == dead.first_failed_ms);
            }
            self.read.remove(&sequence);
            self.dead.insert(sequence, dead);
        }
        for sequence in settlement.resolved {
            let done = self.discarded.contains(&sequence)
                || self.arrivals.contains_key(&sequence) && self.marked.remove(&sequence);
            assert!(done, "{sequence} neither arrived nor was discarded, and its dead letter goes");
            self.read.remove(&sequence);
            assert!(self.dead.remove(&sequence).is_some(), "{sequence} goes twice");
        }
        let progress = settlement.progress;
        assert!(progress.cursor <= self.log.len() as u64);
        assert!(progress.settled.len() <= self.plan.window_records + 1, "{} ranges", progress.settled.len());
        let mut settled = 0;
        for record in self.log.iter().flatten() {
            let sequence = record.sequence;
            if is_durable(&progress, sequence) {
                settled += 1;
                let let_go =
                    progress.detached.iter().any(|range| (range.first..=range.last).contains(&sequence));
                let done = self.arrivals.contains_key(&sequence)
                    || self.dead.contains_key(&sequence)
                    || self.discarded.contains(&sequence)
                    || let_go;
                assert!(done, "{sequence} is settled, and neither arrived nor dead");
            } else {
                assert!(!is_durable(&self.durable, sequence), "{sequence} was settled before");
                assert!(!self.dead.contains_key(&sequence), "{sequence} is dead and not settled");
            }
        }
        let Totals { delivered, dead, discarded, .. } = progress.totals;
        assert_eq!(delivered + dead + discarded, settled);
        assert_eq!((progress.letters(), discarded), (self.dead.len() as u64, self.discarded.len() as u64));
        self.durable = progress;
    }

    fn check_end(&mut self) {
        let faults = &self.plan.faults;
        for record in self.log.iter().flatten() {
            let sequence = record.sequence;
            let poison = faults.poison_every > 0 && sequence.is_multiple_of(faults.poison_every);
            let let_go =
                (self.durable.detached.iter()).any(|range| (range.first..=range.last).contains(&sequence));
            let is_dead = self.dead.contains_key(&sequence);
            let is_discarded = self.discarded.contains(&sequence);
            let has_arrived = self.arrivals.contains_key(&sequence);
            assert!(poison || !is_dead && !is_discarded, "{sequence} dead");
            assert!(
                poison && !self.cured.contains(&sequence) || has_arrived || is_discarded || is_dead || let_go
            );
            assert!(has_arrived || is_dead || is_discarded || let_go, "{sequence} is lost");
            assert!(!has_arrived || !poison || self.cured.contains(&sequence), "{sequence} arrived");
        }
        assert!(self.marked.is_empty(), "{:?} are to be redriven still", self.marked);
        assert_eq!((self.durable.cursor, self.durable.settled.len()), (self.log.len() as u64, 0));
        if self.plan.detaches == 0 {
            assert_eq!(self.durable.totals.delivered, self.arrivals.len() as u64);
        }
        let status = self.machine.status();
        assert_eq!((status.pending, status.in_flight), (0, 0));
        // a sink that was let go of in an outage has nothing to find out with that it is over
        assert!(self.plan.detaches > 0 || status.state == SinkState::Healthy, "{status:?}");
        let later = Now { elapsed: Duration::from_millis(self.now_ms + 3_600_000), unix_ms: 0 };
        assert!(self.machine.handle(Input::Tick, later, &mut || 0.5).is_empty(), "an idle machine rests");
    }
}

fn start(plan: &Plan, limits: &BatchLimits, progress: &Progress) -> Machine {
    let config = Config {
        window: WindowLimits { max_records: plan.window_records, max_bytes: plan.window_bytes },
        max_dead_letters: plan.max_dead_letters.unwrap_or(u64::MAX),
        rate_per_second: plan.rate.and_then(NonZeroU32::new),
        ..Config::for_batches(limits)
    };
    Machine::new(limits.clone(), progress, config)
}

fn is_durable(progress: &Progress, sequence: u64) -> bool {
    sequence <= progress.cursor
        || progress.settled.iter().any(|&(first, last)| (first..=last).contains(&sequence))
}

pub(super) fn trouble(kind: TroubleKind) -> Trouble {
    Trouble { kind, code: "Code".to_owned(), text: String::new(), retry_after: None }
}
