//! The delivery machine of one sink: inputs and `now` → effects.
//!
//! Start it with a [`Input::Tick`]; it answers with its first pull. From then on every call answers with at
//! most one pull, one settlement, one timer and as many batches as may be in flight, and a machine that
//! gets no input wants nothing but its timer.

mod detach;
mod interface;
mod redrive;
mod spare;

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use self::redrive::Redrive;
pub use self::{
    interface::{BatchId, Effect, Input, Now},
    redrive::{MAX_DEAD_LETTERS, MAX_REDRIVING_LETTERS},
    spare::Spare,
};

use super::{
    Outgoing, RATE_BURST,
    batch::{Pending, bisect, sane},
    breaker::{Answer, Breaker, BreakerLimits},
    ledger::Ledger,
    outcome::{BatchLimits, Outcome, Trouble, TroubleKind},
    progress::{DeadRecord, Progress, Settlement},
    queue::Queue,
    retry::{Backoff, MIN_DELAY_MS},
    status::{SinkState, Status},
    window::{Window, WindowLimits},
};
use crate::rate::RateCap;

/// How a machine behaves beside the sink's own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The bound on what is outstanding.
    pub window: WindowLimits,
    /// What a record waits before it is sent again.
    pub backoff: Backoff,
    /// When sending stops, and how it starts again.
    pub breaker: BreakerLimits,
    /// Records per second at most; `None` for no cap.
    pub rate_per_second: Option<NonZeroU32>,
    /// Dead letters that are kept at most; at the limit what is refused waits, and is sent again.
    pub max_dead_letters: u64,
}

impl Config {
    /// The defaults for a sink with these limits.
    #[must_use]
    pub fn for_batches(limits: &BatchLimits) -> Self {
        Self {
            window: WindowLimits::for_batches(limits),
            backoff: Backoff::RECORD,
            breaker: BreakerLimits::default(),
            rate_per_second: None,
            max_dead_letters: MAX_DEAD_LETTERS,
        }
    }
}

#[derive(Debug)]
struct Flight {
    records: Vec<Pending>,
    exact: bool,
}

/// Delivers the log's events to one sink, at least once, in the sink's order.
#[derive(Debug)]
pub struct Machine {
    limits: BatchLimits,
    backoff: Backoff,
    window: Window,
    queue: Queue,
    in_flight: HashMap<BatchId, Flight>,
    last_batch: u64,
    breaker: Breaker,
    rate: RateCap,
    ledger: Ledger,
    redrive: Redrive,
    max_dead_letters: u64,
    scanned_to: u64,
    pulling: bool,
    may_have_more: bool,
    draining: bool,
    detaching: Option<(u64, u64)>,
    /// A request to the sink is under way that is not of this machine.
    is_lent: bool,
    wake: Option<Duration>,
    /// Unsettled records that have failed before.
    troubled: usize,
    /// Those of them that an operator has to mend something for, and what they say.
    held: usize,
    held_by: Option<Trouble>,
    last_trouble: Option<(u64, Trouble)>,
}

impl Machine {
    /// A machine that goes on where `progress` ends. What it settled out of order is not sent again.
    #[must_use]
    pub fn new(limits: BatchLimits, progress: &Progress, config: Config) -> Self {
        let limits = sane(limits);
        let ledger = Ledger::restore(progress);
        Self {
            backoff: config.backoff,
            window: Window::new(config.window),
            queue: Queue::new(limits.clone()),
            limits,
            in_flight: HashMap::new(),
            last_batch: 0,
            breaker: Breaker::new(config.breaker),
            rate: RateCap::new(config.rate_per_second, RATE_BURST),
            scanned_to: ledger.cursor(),
            ledger,
            redrive: Redrive::default(),
            max_dead_letters: config.max_dead_letters,
            pulling: false,
            may_have_more: true,
            draining: false,
            detaching: None,
            is_lent: false,
            wake: None,
            troubled: 0,
            held: 0,
            held_by: None,
            last_trouble: None,
        }
    }

    /// Takes one input at `now`; `random` draws from `0.0..1.0`.
    pub fn handle(&mut self, input: Input, now: Now, random: &mut dyn FnMut() -> f64) -> Vec<Effect> {
        match input {
            Input::Pulled { records, scanned_to } => self.pulled(records, scanned_to, now),
            Input::LogGrew => self.may_have_more = true,
            Input::Finished { batch, outcomes } => self.finished(batch, outcomes, now, random),
            Input::Detach { to, accepted } => self.detaching = Some((to, accepted)),
            Input::Redrive => self.redrive.ask(),
            Input::Letters(letters) => self.letters(letters, now.elapsed),
            Input::Tick => {}
        }
        self.detach_if_idle(now);
        self.queue.advance(now.elapsed);
        let mut effects = Vec::new();
        self.send(now.elapsed, &mut effects);
        self.pull(&mut effects);
        if self.ledger.due().is_some_and(|due| due <= now.elapsed) {
            effects.push(Effect::Settle(self.ledger.settlement()));
        }
        self.pull_letters(&mut effects);
        self.wake(now.elapsed, &mut effects);
        effects
    }

    /// Neither pulls nor sends any more; batches under way may still finish. For a clean stop, or before a
    /// machine with other routes or limits takes over from the last settlement.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Goes on after [`Machine::drain`].
    pub fn resume(&mut self) {
        self.draining = false;
    }

    /// What is not written yet, at once and not in [`FLUSH_EVERY_MS`](super::FLUSH_EVERY_MS).
    pub fn flush(&mut self) -> Settlement {
        self.ledger.settlement()
    }

    /// How the sink is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = match (self.breaker.is_open(), self.troubled) {
            (true, _) => SinkState::Open,
            (false, 0) => SinkState::Healthy,
            (false, _) => SinkState::Retrying,
        };
        Status {
            state,
            cursor: self.ledger.cursor(),
            scanned_to: self.scanned_to,
            pending: self.window.records(),
            in_flight: self.in_flight.len(),
            totals: self.ledger.totals(),
            letters: self.ledger.letters(),
            letters_are_full: self.ledger.letters() >= self.max_dead_letters,
            detached: self.ledger.all_detached().to_vec(),
            held: self.held_by.clone().filter(|_| self.held > 0),
            last_trouble: self.last_trouble.clone(),
        }
    }

    fn pulled(&mut self, mut records: Vec<Outgoing>, scanned_to: u64, now: Now) {
        self.pulling = false;
        let before = self.scanned_to;
        // Free for what is sorted already; a shell that mixes records up must not cost an event.
        records.sort_by_key(|record| record.sequence);
        for outgoing in records {
            self.take_in(outgoing, now.elapsed);
        }
        if scanned_to > self.scanned_to {
            self.ledger.passed(self.scanned_to.saturating_add(1), scanned_to, now.elapsed);
            self.scanned_to = scanned_to;
        }
        self.may_have_more |= self.scanned_to > before;
    }

    fn take_in(&mut self, outgoing: Outgoing, now: Duration) {
        let (first, last) = (self.scanned_to.saturating_add(1), outgoing.sequence);
        if last <= self.scanned_to {
            return; // looked at before
        }
        self.scanned_to = last;
        if self.ledger.is_settled(last) {
            self.ledger.passed(first, last, now);
            return;
        }
        self.window.enter(outgoing.body.len());
        self.queue.push(Pending::new(outgoing, first, now, None));
    }

    /// A batch this machine does not know is not its own: it was sent before a restart, and counts for nothing.
    fn finished(
        &mut self,
        batch: BatchId,
        mut outcomes: Vec<Outcome>,
        now: Now,
        random: &mut dyn FnMut() -> f64,
    ) {
        let Some(Flight { records, exact }) = self.in_flight.remove(&batch) else { return };
        outcomes.resize_with(records.len(), missing_outcome);
        // One draw a batch: records that failed together come back together, as one request again.
        let draw = random();
        self.breaker.finished(batch, Answer::of(&outcomes), now.elapsed, draw);
        let (mut retried, mut refused, size) = (Vec::new(), Vec::new(), records.len());
        for (mut record, outcome) in records.into_iter().zip(outcomes) {
            let was_sent = !matches!(outcome, Outcome::Later(_));
            record.attempts = record.attempts.saturating_add(u32::from(was_sent));
            match self.hold_if_full(&record, outcome, size) {
                Outcome::Delivered => self.delivered(&record, now),
                Outcome::Later(wait) => {
                    self.rate.give_back();
                    let wait = wait.max(Duration::from_millis(MIN_DELAY_MS));
                    retried.push((now.elapsed.saturating_add(wait), record));
                }
                Outcome::Retry(trouble) => {
                    let retry_after = trouble.retry_after;
                    self.failed(&mut record, trouble, now);
                    record.outages = record.outages.saturating_add(1);
                    let delay = self.backoff.delay_after(record.outages, draw, retry_after);
                    retried.push((now.elapsed.saturating_add(delay), record));
                }
                Outcome::BatchRefused(trouble) if size > 1 => {
                    self.failed(&mut record, trouble, now);
                    refused.push(record);
                }
                // A batch of one that is refused as invalid has named its record.
                Outcome::BatchRefused(trouble) | Outcome::Rejected(trouble) => {
                    self.rejected(record, trouble, now);
                }
            }
        }
        self.queue.retry(retried, exact);
        self.queue.send_exactly(bisect(refused, size));
    }

    fn failed(&mut self, record: &mut Pending, trouble: Trouble, now: Now) {
        if record.first_failed_ms.is_none() {
            record.first_failed_ms = Some(now.unix_ms);
            self.troubled += 1;
        }
        self.set_held(record, trouble.kind == TroubleKind::Hold);
        if record.is_held {
            self.held_by = Some(trouble.clone());
        }
        self.ledger.retried();
        self.last_trouble = Some((now.unix_ms, trouble));
    }

    fn set_held(&mut self, record: &mut Pending, is_held: bool) {
        let before = std::mem::replace(&mut record.is_held, is_held);
        self.held = self.held.saturating_sub(usize::from(before)).saturating_add(usize::from(is_held));
    }

    fn delivered(&mut self, record: &Pending, now: Now) {
        match record.letter {
            None => self.ledger.delivered(record.first, record.sequence(), now.elapsed),
            Some(_) => self.ledger.letter_delivered(record.sequence(), now.elapsed),
        }
        self.leave(record);
    }

    fn rejected(&mut self, record: Pending, trouble: Trouble, now: Now) {
        self.last_trouble = Some((now.unix_ms, trouble.clone()));
        self.leave(&record);
        let before = record.letter;
        let first_failed_ms = record.first_failed_ms.unwrap_or(now.unix_ms);
        let dead = DeadRecord {
            trouble,
            attempts: record.attempts.saturating_add(before.map_or(0, |before| before.attempts)),
            first_failed_ms: before.map_or(first_failed_ms, |before| before.first_failed_ms),
            last_failed_ms: now.unix_ms,
            outgoing: record.outgoing,
        };
        match before {
            None => self.ledger.dead(record.first, dead, now.elapsed),
            Some(_) => self.ledger.letter_refused(dead, now.elapsed),
        }
    }

    fn leave(&mut self, record: &Pending) {
        match record.letter {
            None => self.window.leave(record.body_bytes()),
            Some(_) => self.redrive.leave(record.sequence()),
        }
        if record.first_failed_ms.is_some() {
            self.troubled = self.troubled.saturating_sub(1);
        }
        self.held = self.held.saturating_sub(usize::from(record.is_held));
        self.queue.settled(record);
    }

    fn send(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        while self.next_send().is_some_and(|at| at <= now) {
            let formed = self.queue.take();
            self.last_batch = self.last_batch.saturating_add(1);
            let batch = BatchId(self.last_batch);
            self.breaker.sent(batch);
            self.rate.take(now, formed.records.len());
            let records = formed.records.iter().map(|record| record.outgoing.clone()).collect();
            effects.push(Effect::Send { batch, records });
            self.in_flight.insert(batch, Flight { records: formed.records, exact: formed.exact });
        }
    }

    /// When the next batch may go; `None` while something other than time is missing.
    fn next_send(&self) -> Option<Duration> {
        let in_flight = self.in_flight.len().saturating_add(usize::from(self.is_lent));
        if self.draining || self.detaching.is_some() || in_flight >= self.limits.max_in_flight {
            return None;
        }
        // A full window brings no more company, so lingering would be in vain.
        let due = self.queue.due(self.window.room().is_none())?;
        Some(due.max(self.breaker.admits_from()?).max(self.rate.admits_from()))
    }

    fn pull(&mut self, effects: &mut Vec<Effect>) {
        if self.pulling || !self.may_have_more || self.draining {
            return;
        }
        if let Some((max_records, max_bytes)) = self.window.room() {
            self.pulling = true;
            self.may_have_more = false;
            effects.push(Effect::Pull { after: self.scanned_to, max_records, max_bytes });
        }
    }

    /// Asks for a tick when the earliest of all waits ends. A timer that is set already and goes off before
    /// that is left alone: the tick then sets the next one.
    fn wake(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.wake = self.wake.filter(|wake| *wake > now);
        let waits = [self.ledger.due(), self.queue.next_backoff(), self.next_send()];
        let Some(next) = waits.into_iter().flatten().min() else { return };
        if self.wake.is_none_or(|wake| next < wake) {
            self.wake = Some(next);
            effects.push(Effect::WakeAt(next));
        }
    }
}

fn missing_outcome() -> Outcome {
    Outcome::Retry(Trouble {
        kind: TroubleKind::Transient,
        code: "missing_outcome".to_owned(),
        text: "the sink answered for fewer records than it was given: this is a bug of the sink".to_owned(),
        retry_after: None,
    })
}

#[cfg(test)]
mod tests;
