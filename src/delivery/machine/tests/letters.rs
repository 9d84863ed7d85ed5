//! Dead letters: back to the sink, thrown away, and too many of them.

use super::*;
use crate::delivery::progress::{Before, Letter};

const BEFORE: Before = Before { attempts: 3, first_failed_ms: 77 };

/// A machine whose sink has this many dead letters, from sequence 1 on, and nothing else.
fn bench(order: Order, letters: u64, max_dead_letters: u64) -> Bench {
    let limits = limits(order, 1);
    let totals = Totals { dead: letters, ..Totals::default() };
    let progress = Progress { cursor: letters, totals, ..Progress::default() };
    let config = Config { max_dead_letters, ..Config::for_batches(&limits) };
    Bench::with(limits, &progress, config)
}

fn letters(sequences: impl IntoIterator<Item = u64>) -> Input {
    let letter = |sequence| Letter { outgoing: outgoing(sequence, "a", 10), before: BEFORE };
    Input::Letters(sequences.into_iter().map(letter).collect())
}

fn totals(delivered: u64, dead: u64) -> Totals {
    Totals { delivered, dead, ..Totals::default() }
}

#[test]
fn a_letter_is_dead_until_it_is_delivered_and_goes_in_the_same_write() {
    let mut bench = bench(Order::None, 2, 10);
    assert_eq!(bench.letter_pulls, [], "nothing is marked");
    bench.input(Input::Redrive);
    assert_eq!(bench.letter_pulls, [(0, MAX_REDRIVING_LETTERS)]);
    bench.input(letters([1, 2]));
    assert_eq!((bench.sent(), bench.machine.status().totals), (vec![vec![1, 2]], totals(0, 2)));
    assert!(bench.machine.discard(1).is_none(), "nobody knows what becomes of it");
    bench.answer(&[Delivered, rejected()]);
    let [written] = bench.settled.as_slice() else { panic!("it is written at once, and once") };
    assert_eq!((written.progress.totals, &written.resolved), (totals(1, 1), &vec![1]));
    let again = &written.dead[0];
    assert_eq!((again.outgoing.sequence, again.attempts, again.first_failed_ms), (2, 4, 77));
    assert_eq!((written.progress.cursor, &written.progress.settled), (2, &vec![]));
    let written = bench.machine.discard(2).unwrap();
    assert_eq!((written.resolved, written.progress.totals.discarded), (vec![2], 1));
}

#[test]
fn a_reading_that_is_behind_sends_nothing_twice() {
    let mut bench = bench(Order::None, 3, 10);
    bench.input(Input::Redrive);
    bench.input(letters([1]));
    assert_eq!(bench.letter_pulls.last(), Some(&(1, 99)), "there may be more");
    // read now, told after 1 has arrived
    bench.input(Input::Redrive);
    bench.answer(&[Delivered]);
    bench.input(letters([1, 2]));
    assert_eq!(bench.sent(), [vec![2]]);
    assert_eq!(bench.letter_pulls.last(), Some(&(0, 99)), "marks were set meanwhile: from the beginning");
    bench.input(letters([2, 3]));
    bench.answer(&[Delivered]);
    assert_eq!(bench.sent(), [vec![3]], "2 was on its way already");
    bench.input(letters([]));
    let pulls = bench.letter_pulls.len();
    bench.answer(&[Delivered]);
    assert_eq!((bench.machine.status().totals, bench.letter_pulls.len()), (totals(3, 0), pulls));
}

#[test]
fn letters_go_in_portions_and_live_events_between_them() {
    let mut bench = bench(Order::None, 300, 1_000);
    bench.input(Input::Redrive);
    bench.input(letters(1..=100));
    assert_eq!(bench.letter_pulls.len(), 1, "the others wait where they are kept");
    bench.log(&[(301, "b")], 301);
    for _ in 0..13 {
        bench.answer(&[Delivered, Delivered, Delivered, Delivered]);
    }
    assert_eq!(bench.letter_pulls[1..], [(100, 52)]);
    assert!(bench.machine.status().pending == 1 && bench.machine.status().letters == 248);
}

#[test]
fn a_letter_holds_its_key_and_no_other() {
    let mut bench = bench(Order::PerKey, 1, 10);
    bench.input(Input::Redrive);
    bench.input(letters([1]));
    bench.log(&[(2, "a"), (3, "b")], 3);
    bench.answer(&[retry()]);
    assert_eq!(bench.sent(), [vec![3]]);
    bench.answer(&[Delivered]);
    bench.advance(1_000);
    bench.answer(&[Delivered]);
    assert_eq!(bench.sent(), [vec![2]]);
}

#[test]
fn a_record_without_place_among_the_letters_lets_a_letter_of_its_key_leave() {
    let mut bench = bench(Order::PerKey, 2, 2);
    bench.log(&[(3, "a"), (4, "a")], 4);
    bench.input(Input::Redrive);
    bench.input(letters([1, 2]));
    bench.answer(&[rejected()]);
    assert_eq!(bench.sent(), [vec![1]], "3 would be one too many");
    bench.answer(&[Delivered]);
    assert_eq!(bench.sent(), [vec![2]]);
    bench.answer(&[Delivered]);
    assert_eq!(bench.sent(), [vec![3]]);
    bench.answer(&[rejected()]);
    assert_eq!(
        (bench.sent(), bench.machine.status().totals),
        (vec![vec![4]], Totals { retried: 1, ..totals(2, 1) })
    );
}

#[test]
fn under_batch_order_a_letter_goes_alone() {
    let mut bench = bench(Order::Batch, 3, 10);
    bench.input(Input::Redrive);
    bench.input(letters([1, 3]));
    bench.log(&[(4, "a"), (5, "a")], 5);
    assert_eq!(bench.sent(), [vec![1]]);
    bench.answer(&[Delivered]);
    assert_eq!(bench.sent(), [vec![3]]);
    bench.answer(&[Delivered]);
    assert_eq!(bench.sent(), [vec![4, 5]]);
}

#[test]
fn one_letter_too_many_waits_and_is_not_dropped() {
    let mut bench = bench(Order::None, 1, 2);
    bench.log(&[(2, "a"), (3, "b"), (4, "c")], 4);
    bench.answer(&[rejected(), rejected(), Delivered]);
    let status = bench.machine.status();
    assert_eq!((status.totals.dead, status.pending, status.cursor), (2, 1, 2));
    assert!(status.letters_are_full && status.state == SinkState::Retrying);
    assert_eq!(status.last_trouble.unwrap().1.code, "dead_letters_full");
    bench.advance(1_000);
    bench.answer(&[refused()]);
    assert_eq!(bench.machine.status().totals.dead, 2, "a batch of one that is refused is the same");
    // one that is a letter already takes no more place than before
    bench.input(Input::Redrive);
    bench.input(letters([1]));
    bench.answer(&[rejected()]);
    assert_eq!(bench.machine.status().totals.dead, 2);
    bench.machine.discard(1).unwrap();
    bench.advance(60_000);
    bench.answer(&[rejected()]);
    let status = bench.machine.status();
    assert_eq!((status.totals.dead, status.pending, status.cursor), (2, 0, 4));
}

#[test]
fn what_is_let_go_of_does_not_count_as_letters_and_letters_begin_again() {
    let mut bench = bench(Order::None, 1, 2);
    bench.input(Input::Redrive);
    bench.input(letters([1]));
    bench.log(&[(2, "a"), (3, "b")], 3);
    bench.input(Input::Detach { to: 3, accepted: 3 });
    bench.answer(&[retry()]);
    let status = bench.machine.status();
    assert_eq!((status.totals.dead, status.letters, status.letters_are_full), (3, 1, false));
    // it was asked before, and the answer is of no use any more
    bench.input(letters([]));
    assert_eq!(bench.letter_pulls.last(), Some(&(0, MAX_REDRIVING_LETTERS)));
    bench.input(letters([1]));
    bench.advance(60_000);
    bench.answer(&[Delivered]);
    assert_eq!(bench.machine.status().totals, Totals { retried: 1, ..totals(1, 2) });
}
