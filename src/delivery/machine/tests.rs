//! Single rules, one a test. Whole histories are in `simulation`.

mod letters;
mod spare;

use proptest::prelude::*;

use super::*;
use crate::delivery::{
    FLUSH_EVERY_MS,
    batch::tests::{limits as batch_limits, outgoing},
    outcome::Order,
    progress::{Detached, Totals},
};

/// A machine with its clock; effects are sorted by kind.
struct Bench {
    machine: Machine,
    now: Duration,
    draw: f64,
    sent: Vec<(BatchId, Vec<u64>)>,
    pulls: Vec<(u64, usize)>,
    wakes: Vec<Duration>,
    settled: Vec<Settlement>,
    letter_pulls: Vec<(u64, usize)>,
}

impl Bench {
    fn new(limits: BatchLimits) -> Self {
        let config = Config::for_batches(&limits);
        Self::with(limits, &Progress::default(), config)
    }

    fn with(limits: BatchLimits, progress: &Progress, config: Config) -> Self {
        let machine = Machine::new(limits, progress, config);
        let (sent, pulls, wakes, settled, letter_pulls) = Default::default();
        let now = Duration::from_secs(10);
        let mut bench = Self { machine, now, draw: 1.0, sent, pulls, wakes, settled, letter_pulls };
        bench.input(Input::Tick);
        bench
    }

    fn input(&mut self, input: Input) {
        let now = Now { elapsed: self.now, unix_ms: self.now.as_millis() as u64 };
        let draw = self.draw;
        for effect in self.machine.handle(input, now, &mut || draw) {
            match effect {
                Effect::Pull { after, max_records, .. } => self.pulls.push((after, max_records)),
                Effect::Send { batch, records } => {
                    self.sent.push((batch, records.iter().map(|record| record.sequence).collect()));
                }
                Effect::WakeAt(at) => self.wakes.push(at),
                Effect::Settle(settlement) => self.settled.push(settlement),
                Effect::PullLetters { after, max_letters } => self.letter_pulls.push((after, max_letters)),
            }
        }
    }

    fn log(&mut self, records: &[(u64, &str)], scanned_to: u64) {
        let records = records.iter().map(|(sequence, key)| outgoing(*sequence, key, 10)).collect();
        self.input(Input::Pulled { records, scanned_to });
    }

    fn advance(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.input(Input::Tick);
    }

    /// The batches that are not answered yet.
    fn sent(&self) -> Vec<Vec<u64>> {
        self.sent.iter().map(|(_, records)| records.clone()).collect()
    }

    /// Answers the oldest unanswered batch.
    fn answer(&mut self, outcomes: &[Outcome]) {
        let (batch, _) = self.sent.remove(0);
        self.input(Input::Finished { batch, outcomes: outcomes.to_vec() });
    }
}

fn limits(order: Order, max_in_flight: usize) -> BatchLimits {
    BatchLimits { linger: Duration::ZERO, order, max_in_flight, ..batch_limits() }
}

fn trouble(kind: TroubleKind) -> Trouble {
    Trouble { kind, code: "Code".to_owned(), text: "text".to_owned(), retry_after: None }
}

fn retry() -> Outcome {
    Outcome::Retry(trouble(TroubleKind::Transient))
}

fn refused() -> Outcome {
    Outcome::BatchRefused(trouble(TroubleKind::Invalid))
}

fn rejected() -> Outcome {
    Outcome::Rejected(trouble(TroubleKind::Invalid))
}

use Outcome::Delivered;

#[test]
fn it_pulls_until_nothing_is_scanned_and_then_waits_for_the_log() {
    let mut bench = Bench::new(limits(Order::None, 1));
    assert_eq!(bench.pulls, [(0, 4_096)]);
    bench.input(Input::LogGrew);
    assert_eq!(bench.pulls.len(), 1, "one pull at a time");
    bench.log(&[], 0);
    assert_eq!(bench.pulls.len(), 2, "the log grew while the pull was under way");
    bench.log(&[], 500);
    assert_eq!(bench.pulls.last(), Some(&(500, 4_096)), "nothing matched so far, there may be more");
    bench.log(&[], 500);
    bench.advance(10_000);
    assert_eq!(bench.pulls.len(), 3, "the end of the log is waited for");
    bench.input(Input::LogGrew);
    assert_eq!(bench.pulls.len(), 4);
}

#[test]
fn events_for_others_move_the_cursor_lazily() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[], 500);
    assert!(bench.settled.is_empty());
    assert_eq!(bench.wakes, [bench.now + Duration::from_millis(FLUSH_EVERY_MS)]);
    bench.advance(FLUSH_EVERY_MS);
    assert_eq!(bench.settled[0].progress, Progress::starting_after(500));
}

#[test]
fn without_linger_what_is_there_goes_at_once() {
    let mut bench = Bench::new(limits(Order::None, 2));
    bench.log(&[(1, "a"), (2, "a"), (3, "a"), (4, "a"), (5, "a")], 5);
    assert_eq!(bench.sent(), [vec![1, 2, 3, 4], vec![5]]);
}

#[test]
fn with_linger_a_partial_batch_waits_for_company() {
    let mut bench = Bench::new(BatchLimits { linger: Duration::from_millis(50), ..limits(Order::None, 2) });
    bench.log(&[(1, "a")], 1);
    bench.advance(30);
    bench.log(&[(2, "a")], 2);
    bench.advance(19);
    assert!(bench.sent().is_empty());
    bench.advance(1);
    assert_eq!(bench.sent(), [vec![1, 2]]);
}

#[test]
fn a_full_window_does_not_linger_and_does_not_pull() {
    let limits = BatchLimits { linger: Duration::from_secs(60), max_records: 100, ..limits(Order::None, 1) };
    let window = WindowLimits { max_records: 3, max_bytes: 1_000_000 };
    let config = Config { window, ..Config::for_batches(&limits) };
    let mut bench = Bench::with(limits, &Progress::default(), config);
    assert_eq!(bench.pulls, [(0, 3)]);
    bench.log(&[(1, "a"), (2, "a"), (3, "a")], 3);
    assert_eq!(bench.sent(), [vec![1, 2, 3]]);
    assert_eq!(bench.pulls.len(), 1);
    bench.answer(&[Delivered, Delivered, retry()]);
    assert_eq!(bench.pulls[1], (3, 2));
}

#[test]
fn a_failed_record_comes_again_alone_and_others_go_on() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[(1, "a"), (2, "a"), (3, "a")], 3);
    bench.answer(&[Delivered, retry(), Delivered]);
    assert_eq!(bench.machine.status().state, SinkState::Retrying);
    bench.log(&[(4, "a")], 4);
    assert_eq!(bench.sent(), [vec![4]]);
    bench.answer(&[Delivered]);
    bench.advance(FLUSH_EVERY_MS);
    let written = &bench.settled[0].progress;
    assert_eq!((written.cursor, written.settled.clone()), (1, vec![(3, 4)]));
    assert_eq!(bench.sent(), [vec![2]]);
    bench.answer(&[Delivered]);
    assert_eq!(bench.machine.status().state, SinkState::Healthy);
    let written = bench.machine.flush().progress;
    assert_eq!((written.cursor, written.settled), (4, vec![]));
    assert_eq!(written.totals, Totals { delivered: 4, retried: 1, ..Totals::default() });
}

#[test]
fn what_was_settled_before_a_restart_is_not_sent_again() {
    let progress = Progress {
        cursor: 1,
        settled: vec![(3, 4)],
        totals: Totals { delivered: 3, ..Totals::default() },
        ..Progress::default()
    };
    let limits = limits(Order::None, 1);
    let config = Config::for_batches(&limits);
    let mut bench = Bench::with(limits, &progress, config);
    assert_eq!(bench.pulls[0].0, 1);
    bench.log(&[(2, "a"), (3, "a"), (4, "a"), (5, "a")], 5);
    assert_eq!(bench.sent(), [vec![2, 5]]);
    bench.answer(&[Delivered, Delivered]);
    let written = bench.machine.flush().progress;
    assert_eq!((written.cursor, written.totals.delivered), (5, 5));
}

#[test]
fn a_dead_letter_is_settled_at_once_with_its_story() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[(1, "a"), (2, "a")], 2);
    bench.answer(&[Delivered, retry()]);
    assert!(bench.settled.is_empty());
    bench.advance(100);
    bench.answer(&[rejected()]);
    let written = &bench.settled[0];
    assert_eq!(written.progress.cursor, 2);
    assert_eq!(written.progress.totals, Totals { delivered: 1, dead: 1, retried: 1, discarded: 0 });
    let dead = &written.dead[0];
    assert_eq!((dead.outgoing.sequence, dead.attempts), (2, 2));
    assert_eq!((dead.first_failed_ms, dead.last_failed_ms), (10_000, 10_100));
    assert_eq!(dead.trouble, trouble(TroubleKind::Invalid));
}

#[test]
fn a_refused_batch_is_halved_until_the_bad_record_is_alone() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[(1, "a"), (2, "a"), (3, "a"), (4, "a"), (5, "a")], 5);
    let mut batches = Vec::new();
    while let Some((_, records)) = bench.sent.first().cloned() {
        batches.push(records.clone());
        let bad = records.contains(&3);
        let outcome = match (bad, records.len()) {
            (false, _) => Delivered,
            (true, 1) => rejected(),
            (true, _) => refused(),
        };
        bench.answer(&vec![outcome; records.len()]);
    }
    assert_eq!(batches, [vec![1, 2, 3, 4], vec![1, 2], vec![3, 4], vec![3], vec![4], vec![5]]);
    let totals = bench.machine.flush().progress.totals;
    assert_eq!((totals.delivered, totals.dead), (4, 1));
    assert_eq!(bench.machine.status().state, SinkState::Healthy, "poison is no outage");
}

#[test]
fn suspects_that_meet_an_outage_stay_among_themselves() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[(1, "a"), (2, "a"), (3, "a"), (4, "a")], 4);
    bench.answer(&vec![refused(); 4]);
    assert_eq!(bench.sent(), [vec![1, 2]]);
    bench.answer(&[retry(), retry()]);
    bench.answer(&[Delivered, Delivered]);
    bench.now += Duration::from_millis(100);
    bench.log(&[(5, "a"), (6, "a")], 6);
    assert_eq!(bench.sent(), [vec![1, 2]]);
    bench.answer(&[Delivered, Delivered]);
    assert_eq!(bench.sent(), [vec![5, 6]]);
}

#[test]
fn a_batch_of_one_that_is_refused_has_named_its_record() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[(1, "a")], 1);
    bench.answer(&[refused()]);
    assert_eq!(bench.settled[0].dead.len(), 1);
    assert!(bench.sent().is_empty());
}

#[test]
fn a_retried_batch_under_batch_order_is_what_failed_and_nothing_else() {
    let mut bench = Bench::new(limits(Order::Batch, 5));
    bench.log(&[(1, "a"), (2, "a"), (3, "a"), (4, "a"), (5, "a")], 5);
    assert_eq!(bench.sent(), [vec![1, 2, 3, 4]], "one at a time, whatever the sink would take");
    bench.answer(&[Delivered, retry(), retry(), Delivered]);
    assert!(bench.sent().is_empty());
    bench.advance(100);
    assert_eq!(bench.sent(), [vec![2, 3]]);
    bench.answer(&[Delivered, Delivered]);
    assert_eq!(bench.sent(), [vec![5]]);
}

#[test]
fn missing_outcomes_are_failures_and_extra_ones_nothing() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[(1, "a"), (2, "a")], 2);
    bench.answer(&[Delivered]);
    let (_, last) = bench.machine.status().last_trouble.unwrap();
    assert_eq!((last.kind, last.code.as_str()), (TroubleKind::Transient, "missing_outcome"));
    bench.advance(100);
    assert_eq!(bench.sent(), [vec![2]]);
    bench.answer(&[Delivered, rejected(), rejected()]);
    assert_eq!(
        bench.machine.flush().progress.totals,
        Totals { delivered: 2, retried: 1, ..Totals::default() }
    );
}

#[test]
fn an_unknown_batch_counts_for_nothing() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.input(Input::Finished { batch: BatchId(77), outcomes: vec![Delivered] });
    assert_eq!(bench.machine.flush().progress, Progress::default());
}

#[test]
fn through_an_open_breaker_only_one_probe_goes_at_a_time() {
    let mut bench = Bench::new(BatchLimits { max_records: 1, ..limits(Order::None, 3) });
    let records: Vec<_> = (1..=20).map(|sequence| (sequence, "a")).collect();
    bench.log(&records, 20);
    for _ in 0..5 {
        bench.answer(&[retry()]);
    }
    assert_eq!(bench.machine.status().state, SinkState::Open);
    while !bench.sent.is_empty() {
        bench.answer(&[retry()]);
    }
    bench.advance(999);
    assert!(bench.sent().is_empty());
    bench.advance(1);
    assert_eq!(bench.sent(), [vec![1]]);
    bench.advance(60_000);
    assert_eq!(bench.sent().len(), 1);
    bench.answer(&[Delivered]);
    assert_eq!(bench.sent().len(), 3, "closed: as many as may be in flight");
    assert_eq!(bench.machine.status().state, SinkState::Retrying);
}

#[test]
fn a_wholly_throttled_batch_pauses_the_sink_for_as_long_as_it_asks() {
    let mut bench = Bench::new(BatchLimits { max_records: 1, ..limits(Order::None, 1) });
    bench.log(&[(1, "a"), (2, "a")], 2);
    let retry_after = Some(Duration::from_secs(3));
    bench.answer(&[Outcome::Retry(Trouble { retry_after, ..trouble(TroubleKind::Throttled) })]);
    bench.advance(2_999);
    assert!(bench.sent().is_empty());
    assert_eq!(bench.machine.status().state, SinkState::Retrying);
    bench.advance(1);
    assert_eq!(bench.sent(), [vec![1]]);
}

#[test]
fn what_a_sink_holds_back_comes_again_and_was_no_attempt() {
    let limits = limits(Order::PerKey, 1);
    let config = Config { rate_per_second: NonZeroU32::new(2), ..Config::for_batches(&limits) };
    let mut bench = Bench::with(limits, &Progress::default(), config);
    bench.log(&[(1, "a"), (2, "b"), (3, "b")], 3);
    let later = Outcome::Later(Duration::from_millis(700));
    bench.answer(&[Delivered, later.clone()]);
    assert_eq!(bench.machine.status().state, SinkState::Healthy);
    bench.advance(699);
    assert!(bench.sent().is_empty(), "and its key waits with it");
    bench.advance(1);
    assert_eq!(bench.sent(), [vec![2]], "the rate has room, because the first try was none");
    bench.answer(&[rejected()]);
    let settlement = bench.settled.last().unwrap();
    assert_eq!((settlement.dead[0].attempts, bench.machine.status().totals.retried), (1, 0));
}

#[test]
fn a_probe_that_the_sink_holds_back_is_followed_by_another() {
    let mut bench = Bench::new(BatchLimits { max_records: 1, ..limits(Order::None, 1) });
    bench.log(&[(1, "a"), (2, "b")], 2);
    while bench.machine.status().state != SinkState::Open {
        bench.advance(60_000);
        bench.answer(&[retry()]);
    }
    bench.advance(60_000);
    bench.answer(&[Outcome::Later(Duration::from_secs(5))]);
    assert_eq!(bench.sent().len(), 1, "the other record is the probe now");
    assert_eq!(bench.machine.status().state, SinkState::Open);
    bench.answer(&[Delivered]);
    assert_ne!(bench.machine.status().state, SinkState::Open);
}

#[test]
fn a_rate_cap_spaces_the_batches() {
    let limits = limits(Order::None, 5);
    let config = Config { rate_per_second: NonZeroU32::new(8), ..Config::for_batches(&limits) };
    let mut bench = Bench::with(limits, &Progress::default(), config);
    let records: Vec<_> = (1..=20).map(|sequence| (sequence, "a")).collect();
    bench.log(&records, 20);
    assert_eq!(bench.sent().len(), 3, "a second's worth saved up, and one batch");
    bench.advance(499);
    assert_eq!(bench.sent().len(), 3);
    bench.advance(1);
    assert_eq!(bench.sent().len(), 4);
}

#[test]
fn a_draining_machine_only_waits_for_what_is_under_way() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[(1, "a"), (2, "a"), (3, "a"), (4, "a"), (5, "a")], 5);
    bench.machine.drain();
    let pulls = bench.pulls.len();
    bench.answer(&[Delivered, Delivered, Delivered, retry()]);
    bench.input(Input::LogGrew);
    bench.advance(60_000);
    assert!(bench.sent().is_empty());
    assert_eq!((bench.pulls.len(), bench.machine.status().in_flight), (pulls, 0));
    assert_eq!(bench.machine.flush().progress.cursor, 3);
}

#[test]
fn a_pull_out_of_order_costs_no_event_and_repeats_none() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[(3, "a"), (1, "a")], 3);
    bench.log(&[(3, "a"), (4, "a")], 4);
    bench.answer(&[Delivered, Delivered]);
    bench.answer(&[Delivered]);
    let written = bench.machine.flush().progress;
    assert_eq!((written.cursor, written.totals.delivered), (4, 3));
}

#[test]
fn without_input_nothing_happens() {
    let mut bench = Bench::new(limits(Order::PerKey, 2));
    bench.log(&[(1, "a"), (2, "a"), (3, "b")], 3);
    bench.answer(&[Delivered, retry()]);
    bench.log(&[], 3);
    bench.advance(1_000);
    let count = |bench: &Bench| [bench.sent.len(), bench.pulls.len(), bench.wakes.len(), bench.settled.len()];
    let before = count(&bench);
    for _ in 0..100 {
        bench.advance(1_000);
    }
    assert_eq!(count(&bench), before, "ticks alone bring nothing while answers are awaited");
}

proptest! {
    #[test]
    fn no_sequence_or_time_makes_it_panic(
        sequences in proptest::collection::vec(any::<u64>(), 0..20),
        scanned_to in any::<u64>(),
        cursor in any::<u64>(),
        settled in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..5),
    ) {
        let limits = limits(Order::PerKey, 1);
        let config = Config::for_batches(&limits);
        let progress = Progress { cursor, settled, ..Progress::default() };
        let mut bench = Bench::with(limits, &progress, config);
        bench.now = Duration::MAX - Duration::from_secs(1);
        let records: Vec<_> = sequences.iter().map(|sequence| (*sequence, "a")).collect();
        bench.log(&records, scanned_to);
        while !bench.sent.is_empty() {
            bench.answer(&[retry()]);
        }
        bench.now = Duration::MAX;
        bench.input(Input::Tick);
    }
}

#[test]
fn a_sink_that_is_let_go_of_counts_what_it_did_not_get_as_dead_and_goes_on_from_there() {
    let mut bench = Bench::new(limits(Order::PerKey, 1));
    bench.log(&[(1, "a"), (2, "b"), (4, "a")], 5);
    bench.answer(&[Delivered, retry()]);
    assert_eq!(bench.sent(), [vec![4]]);
    // the router has counted 7 events up to 100: one is delivered
    bench.input(Input::Detach { to: 100, accepted: 7 });
    bench.advance(60_000);
    assert_eq!(bench.machine.status().totals.dead, 0, "not before what is under way has come back");
    bench.answer(&[retry()]);
    let status = bench.machine.status();
    assert_eq!((status.cursor, status.scanned_to, status.pending), (100, 100, 0));
    assert_eq!((status.totals.delivered, status.totals.dead), (1, 6));
    let range = Detached { first: 2, last: 100, events: 6, unix_ms: bench.now.as_millis() as u64 };
    assert_eq!(status.detached, [range]);
    let written = bench.settled.last().unwrap().clone();
    assert_eq!((written.progress.cursor, &written.progress.detached), (100, &vec![range]));
    assert_eq!(status.last_trouble.unwrap().1.code, "detached");
    bench.log(&[(4, "a"), (101, "a")], 101);
    assert_eq!(bench.sent(), [vec![101]], "what was given up is not sent again, what comes is");
    let again =
        Machine::new(limits(Order::PerKey, 1), &written.progress, Config::for_batches(&batch_limits()));
    assert_eq!(again.status().detached, [range]);
    bench.answer(&[Delivered]);
    bench.input(Input::Detach { to: 101, accepted: 8 });
    assert_eq!(bench.machine.status().detached.len(), 1, "who has caught up has nothing to lose");
}

#[test]
fn what_the_machine_has_looked_at_beyond_the_router_is_given_up_too() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[(1, "a")], 1);
    bench.answer(&[retry()]);
    bench.log(&[(5, "a"), (9, "b")], 9);
    bench.input(Input::Detach { to: 7, accepted: 2 });
    bench.answer(&[retry(), retry()]);
    let status = bench.machine.status();
    assert_eq!((status.cursor, status.totals.dead, status.pending), (9, 3, 0));
}

#[test]
fn an_empty_pull_after_a_detach_makes_the_machine_pull_anew() {
    let mut bench = Bench::new(limits(Order::None, 1));
    assert_eq!(bench.pulls.pop().unwrap().0, 0);
    bench.input(Input::Detach { to: 100, accepted: 7 });
    assert_eq!(bench.pulls, [], "the first pull is still under way");
    bench.input(Input::Pulled { records: Vec::new(), scanned_to: 0 });
    assert_eq!(bench.pulls.pop().unwrap().0, 100);
}

#[test]
fn a_machine_that_was_drained_goes_on() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.machine.drain();
    bench.log(&[(1, "a")], 1);
    assert_eq!(bench.sent().len(), 0);
    bench.machine.resume();
    bench.input(Input::Tick);
    assert_eq!(bench.sent(), [vec![1]]);
}

#[test]
fn a_sink_is_held_for_as_long_as_a_record_waits_for_an_operator() {
    let mut bench = Bench::new(limits(Order::None, 1));
    bench.log(&[(1, "a"), (2, "b")], 2);
    let hold = Outcome::Retry(trouble(TroubleKind::Hold));
    bench.answer(&[hold.clone(), Delivered]);
    let held = |bench: &Bench| bench.machine.status().held.map(|trouble| trouble.kind);
    assert_eq!(held(&bench), Some(TroubleKind::Hold));
    // what fails by itself now is no longer what an operator has to mend
    bench.advance(60_000);
    bench.answer(&[Outcome::Retry(trouble(TroubleKind::Transient))]);
    assert_eq!(held(&bench), None);
    for answer in [hold.clone(), hold] {
        bench.advance(60_000);
        bench.answer(&[answer]);
        assert_eq!(held(&bench), Some(TroubleKind::Hold));
    }
    // others go through meanwhile
    bench.log(&[(3, "c")], 3);
    bench.answer(&[Delivered]);
    assert_eq!(held(&bench), Some(TroubleKind::Hold));
    bench.advance(60_000);
    bench.answer(&[Delivered]);
    assert_eq!((held(&bench), bench.machine.status().state), (None, SinkState::Healthy));
}
