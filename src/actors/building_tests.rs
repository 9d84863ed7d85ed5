//! Batches of exits that get no place: all of them are answered.

use std::rc::Rc;

use turnstiled_wal::{Ballast, Log};

use super::*;
use crate::{
    actors::{
        busy_poll::BusyPoll,
        directory::DirectoryActor,
        disk::{DiskBoard, DiskParts},
        log::{LogActor, LogGrew},
        places::Places,
        recorder::LogEnd,
    },
    domain::{
        directory::Directory,
        ids::{CardId, GateId},
        swipes::Direction,
    },
    projections::tests::{log_name, rules},
    space::{Gauge, Sizes},
    trace::Tracer,
};

type Batch = (RecordBatch, oneshot::Receiver<Vec<Result<Answer, SwipeError>>>);

/// Hears of commits and does nothing.
struct Deaf;

impl Actor for Deaf {
    type Context = Context<Self>;
}

impl Handler<LogGrew> for Deaf {
    type Result = ();
    fn handle(&mut self, _: LogGrew, _: &mut Self::Context) {}
}

fn new_places() -> Rc<Places> {
    Rc::new(Places::new(Arc::default(), Metrics::new().queues.log_records.clone()))
}

/// A building that gets no place: nobody has looked at its disk yet.
fn building_without_places() -> BuildingActor {
    building(new_places(), new_places())
}

/// A building whose log has room.
fn building_with_places() -> BuildingActor {
    let places = new_places();
    building(Rc::clone(&places), places)
}

/// The log looks after the places that are `watched`.
fn building(places: Rc<Places>, watched: Rc<Places>) -> BuildingActor {
    let metrics = Metrics::new();
    let disk = DiskParts {
        dir: std::env::temp_dir(),
        gauge: Gauge::new(Sizes::of(0, 0), 0, 1),
        ballast: Ballast::new(std::path::Path::new("no-such-directory/ballast"), 0),
        board: DiskBoard::default(),
        metrics: metrics.clone(),
    };
    let (router, last) = (Deaf.start().recipient(), Timestamp::from_millis(0));
    let log = LogActor::new(Log::in_memory(), watched, disk, router, last, BusyPoll::default());
    let end = LogEnd {
        name: log_name(),
        next_sequence: 1,
        last_event_millis: Arc::default(),
        is_stopped: Arc::default(),
    };
    let recorder = Recorder::new(log.start(), places, end, Tracer::off());
    let (_, cards) = DirectoryActor::new(Directory::default(), recorder.clone());
    let building = Building::new(rules().remove(0));
    BuildingActor::new(building, cards, recorder, metrics)
}

fn exit() -> Swipe {
    Swipe {
        direction: Direction::Exit,
        gate: GateId::parse("north").unwrap(),
        card_id: CardId::parse("C1").unwrap(),
        swipe_id: None,
        occurred_at: None,
    }
}

fn batch() -> Batch {
    batch_of(2)
}

fn batch_of(exits: usize) -> Batch {
    let (reply, answers) = oneshot::channel();
    let swipes = vec![exit(); exits].into_iter();
    (RecordBatch { swipes, origin: Origin::server(), answers: vec![], reply }, answers)
}

/// What a batch of two is answered; nothing may keep it waiting.
fn answers_now(mut answers: oneshot::Receiver<Vec<Result<Answer, SwipeError>>>) -> usize {
    answers.try_recv().expect("the batch is answered").iter().filter(|answer| answer.is_err()).count()
}

#[test]
fn every_waiting_batch_is_answered_when_there_is_no_place() {
    actix::System::new().block_on(async {
        let mut building = building_without_places();
        let (waiting, answers): (Vec<_>, Vec<_>) = (0..3).map(|_| batch()).unzip();
        building.batches.extend(waiting);
        let (last, last_answers) = batch();
        building.start().send(last).await.unwrap();
        assert!(answers.into_iter().chain([last_answers]).all(|answers| answers_now(answers) == 2));
    });
}

/// A piece whose end found the mailbox full leaves other batches behind, and none on its way.
#[test]
fn any_message_moves_on_batches_that_were_left_behind() {
    actix::System::new().block_on(async {
        let mut building = building_without_places();
        let (waiting, answers) = batch();
        building.batches.push_back(waiting);
        let building = building.start();
        let (reply, swiped) = oneshot::channel();
        building.send(DecideSwipe { swipe: exit(), origin: Origin::server(), reply }).await.unwrap();
        assert!(swiped.await.unwrap().is_err());
        assert_eq!(answers_now(answers), 2);
    });
}

#[test]
fn batches_share_a_commit_and_keep_no_entry_waiting_for_more_than_one() {
    actix::System::new().block_on(async {
        let building = building_with_places();
        let metrics = building.metrics.clone();
        let building = building.start();
        let (batches, answers): (Vec<_>, Vec<_>) = (0..4).map(|_| batch_of(MAX_EXITS_IN_FLIGHT / 2)).unzip();
        for batch in batches {
            building.try_send(batch).unwrap();
        }
        let (reply, swiped) = oneshot::channel();
        building.try_send(DecideSwipe { swipe: exit(), origin: Origin::server(), reply }).unwrap();
        let swiped = swiped.await.unwrap().unwrap();
        let mut firsts = vec![];
        for batch in answers {
            firsts.push(batch.await.unwrap()[0].as_ref().unwrap().sequence);
        }
        let before = firsts.iter().filter(|first| **first < swiped.sequence).count();
        assert_eq!(before, 2, "the swipe waited for the batches that were on their way only");
        assert_eq!(metrics.commit_records.get_sample_count(), 2, "two batches share a commit");
    });
}
