use super::*;

fn limits(max_in_flight: usize) -> BatchLimits {
    BatchLimits { max_in_flight, max_records: 1, linger: Duration::ZERO, ..batch_limits() }
}

#[test]
fn a_place_is_lent_when_nothing_is_due_and_given_back() {
    let mut bench = Bench::new(limits(1));
    assert_eq!(bench.machine.lend(bench.now, 1), Spare::Lent);
    assert_eq!(bench.machine.lend(bench.now, 1), Spare::NotNow, "one at a time");
    bench.log(&[(1, "a")], 1);
    assert!(bench.sent.is_empty(), "the sink takes one request at a time");
    bench.machine.give_back(&[]);
    bench.input(Input::Tick);
    assert_eq!(bench.sent.len(), 1);
    assert_eq!(bench.machine.lend(bench.now, 1), Spare::NotNow, "the live stream has the only place");
}

#[test]
fn one_of_several_places_stays_for_the_live_stream() {
    let mut bench = Bench::new(limits(3));
    bench.log(&[(1, "a")], 1);
    assert_eq!(bench.machine.lend(bench.now, 1), Spare::Lent);
    bench.machine.give_back(&[]);
    bench.log(&[(2, "b")], 2);
    assert_eq!(bench.sent.len(), 2);
    assert_eq!(bench.machine.lend(bench.now, 1), Spare::NotNow);
}

#[test]
fn what_is_lent_counts_against_the_rate() {
    let limits = limits(4);
    let config = Config { rate_per_second: NonZeroU32::new(10), ..Config::for_batches(&limits) };
    let mut bench = Bench::with(limits, &Progress::default(), config);
    assert_eq!(bench.machine.lend(bench.now, 20), Spare::Lent);
    bench.machine.give_back(&[]);
    let Spare::From(from) = bench.machine.lend(bench.now, 1) else { panic!("the rate is used up") };
    assert_eq!(from, bench.now + Duration::from_secs(1));
    bench.log(&[(1, "a")], 1);
    assert!(bench.sent.is_empty());
    bench.now = from;
    bench.input(Input::Tick);
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn a_service_that_is_away_is_probed_by_the_live_stream() {
    let limits = limits(1);
    let breaker = BreakerLimits { max_failed_batches: 1, ..BreakerLimits::default() };
    let config = Config { breaker, ..Config::for_batches(&limits) };
    let mut bench = Bench::with(limits, &Progress::default(), config);
    bench.log(&[(1, "a")], 1);
    let batch = bench.sent.pop().unwrap().0;
    bench.input(Input::Finished { batch, outcomes: vec![] });
    bench.now += Duration::from_millis(1);
    assert_eq!(bench.machine.lend(bench.now, 1), Spare::NotNow);
}

#[test]
fn a_draining_machine_lends_nothing() {
    let mut bench = Bench::new(limits(2));
    bench.machine.drain();
    assert_eq!(bench.machine.lend(bench.now, 1), Spare::NotNow);
    bench.machine.resume();
    assert_eq!(bench.machine.lend(bench.now, 1), Spare::Lent);
}
