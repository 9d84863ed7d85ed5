//! The power is cut again and again, under load and during starts.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use serde_json::{Value, json};

use super::{desk::Desk, site::PoweredSite};
use crate::{
    cut_fs::Cut, daemon::Daemon, random::Random, sinks::everything_is_in_files, traffic::Crowd,
    wait::eventually,
};

/// Cuts of each store; half of them torn.
const ROUNDS: u64 = 25;
const LONG_ROUNDS: u64 = 250;
const LONG_VARIABLE: &str = "TURNSTILED_LONG";
/// So many on the same disk.
const ROUNDS_OF_A_DISK: u64 = 5;
/// The process is killed, and the power cut, after at most so many answers of a round.
const MAX_ANSWERS: u64 = 200;
/// Or the power fails at a write, a sync or a change of names, at most so many after the load began.
const MAX_OPERATIONS: u64 = 500;
/// About as many as a start has: the first one, which makes everything, and a later one.
const OPERATIONS_OF_THE_FIRST_START: u64 = 150;
const OPERATIONS_OF_A_START: u64 = 24;
/// In every path.
const ANYWHERE: &str = "";
/// What the control run loses at least some of.
const CONTROL_ANSWERS: u64 = 100;

#[tokio::test]
async fn what_was_answered_survives_power_cuts_with_sled() {
    what_was_answered_survives_power_cuts("sled").await;
}

#[tokio::test]
async fn what_was_answered_survives_power_cuts_with_segments() {
    what_was_answered_survives_power_cuts("segments").await;
}

async fn what_was_answered_survives_power_cuts(store: &str) {
    let mut random = Random::new();
    let (begin, rounds) = (Instant::now(), if is_long() { LONG_ROUNDS } else { ROUNDS });
    let mut tally = Tally::default();
    while tally.cuts.iter().sum::<u64>() < rounds {
        let Some(mut disk) = Disk::new(store, Random::seeded(random.next())) else { return };
        for _ in 0..ROUNDS_OF_A_DISK {
            disk.round(&mut tally).await;
        }
        disk.finish(&mut tally).await;
        if is_long() {
            println!("{store}: {tally:?} so far");
        }
    }
    println!("{store}: {tally:?}, none lost; {:?}", begin.elapsed());
}

pub(super) fn is_long() -> bool {
    std::env::var_os(LONG_VARIABLE).is_some()
}

#[tokio::test]
async fn without_syncs_answers_are_lost() {
    for store in super::site::STORES {
        let mut random = Random::new();
        let Some(site) = PoweredSite::new(store) else { return };
        let mut crowd = Crowd::new(&site, &mut random);
        let mut daemon = site.start();
        crowd.register(&daemon).await;
        site.disk.leave_out_syncs();
        crowd
            .swipe(&mut daemon, async |daemon, count| {
                eventually("answers", async || (count.load(Relaxed) >= CONTROL_ANSWERS).then_some(())).await;
                daemon.kill();
            })
            .await;
        drop(daemon);
        site.power_cut(Cut::Clean, &mut random);
        let (lost, answers) = (crowd.lost(&site.dump()), crowd.answers());
        println!("{store}, syncs left out: {lost} of {answers} answers lost");
        assert!(lost > 0, "the power cuts of these tests lose nothing that was not synced: they are void");
    }
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Clean ones and torn ones.
    cuts: [u64; 2],
    during_a_start: u64,
    at_an_operation: u64,
    answers: usize,
    unanswered_kept: usize,
    unanswered_lost: usize,
    /// Deliveries to the file sink beyond the first of an event.
    repeats: usize,
}

/// How a round ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The process is killed, and the power cut, after so many answers.
    Kill { answers: u64 },
    /// The power fails at an operation on a path with this in it, after so many of these.
    PowerCut { path: &'static str, after: u64 },
}

/// A server on a disk of its own, with those who use it.
pub(super) struct Disk {
    pub(super) site: PoweredSite,
    crowd: Crowd,
    desk: Desk,
    random: Random,
    /// Every event there ever was.
    log: Vec<Value>,
    /// A device's key that was made just before the cut.
    key: String,
    is_registered: bool,
}

impl Disk {
    fn new(store: &str, random: Random) -> Option<Self> {
        Some(Self::on(PoweredSite::new(store)?, random, vec!["north-1".to_owned()]))
    }

    /// Someone changes cards for these gates.
    pub(super) fn on(site: PoweredSite, mut random: Random, gates: Vec<String>) -> Self {
        let (crowd, desk) = (Crowd::new(&site, &mut random), Desk::new(&site, &mut random, gates));
        let key = site.key("hq");
        // keys and tokens work once the command has ended
        site.power_cut(Cut::Clean, &mut random);
        Self { site, crowd, desk, random, log: Vec::new(), key, is_registered: false }
    }

    async fn round(&mut self, tally: &mut Tally) {
        let end = if self.random.one_in(2) {
            End::Kill { answers: self.random.below(MAX_ANSWERS) }
        } else {
            tally.at_an_operation += 1;
            End::PowerCut { path: ANYWHERE, after: self.random.below(MAX_OPERATIONS) }
        };
        self.round_with(tally, end).await;
    }

    /// A round with this end.
    pub(super) async fn round_with(&mut self, tally: &mut Tally, end: End) {
        if self.random.one_in(2) {
            self.start_and_cut(tally);
        }
        let mut daemon = self.site.start();
        self.check(&daemon, tally).await;
        self.key = self.site.key("hq");
        self.load_and_end(&mut daemon, end).await;
        drop(daemon);
        self.power_cut(tally);
        self.log = self.site.history();
        self.crowd.check(&self.log);
        self.desk.check(&self.log);
    }

    /// A start in which the power may fail.
    fn start_and_cut(&mut self, tally: &mut Tally) {
        let operations =
            if self.is_registered { OPERATIONS_OF_A_START } else { OPERATIONS_OF_THE_FIRST_START };
        self.site.disk.order_power_cut(self.random.below(operations));
        // without power a process does nothing more; sled, for one, may wait for ever for a thread that failed
        if let Err(refused) = self.site.try_start_unless(|| self.site.disk.is_off()) {
            assert!(self.site.disk.is_off(), "refused for no reason: {}", refused.stderr);
        }
        tally.during_a_start += u64::from(self.site.disk.is_off());
        self.power_cut(tally);
    }

    /// What the server says after a start is what the log says.
    async fn check(&mut self, daemon: &Daemon, tally: &mut Tally) {
        if !self.is_registered {
            self.crowd.register(daemon).await;
            self.desk.register(daemon).await;
            self.is_registered = true;
        } else {
            self.crowd.check_presence(daemon, &self.log).await;
            self.desk.check_cards(daemon, &self.log).await;
            let (kept, lost) = self.crowd.retry(daemon, &self.log).await;
            tally.unanswered_kept += kept;
            tally.unanswered_lost += lost;
        }
        let swipe_id = self.random.uuid();
        let entry = json!({ "card_id": "nobody", "gate_id": "north-1", "swipe_id": swipe_id });
        daemon.device(&self.key).post("/v1/buildings/hq/entries", &entry).await.expect(200);
    }

    /// Load until the process is killed, or until it ends because the power has failed.
    async fn load_and_end(&mut self, daemon: &mut Daemon, end: End) {
        if let End::PowerCut { path, after } = end {
            self.site.disk.order_power_cut_at(path, after);
        }
        let (person, disk) = (self.desk.person(daemon), &self.site.disk);
        let swipes = self.crowd.swipe(daemon, async |daemon, count| match end {
            End::Kill { answers } => {
                eventually("answers", async || (count.load(Relaxed) >= answers).then_some(())).await;
                daemon.kill();
            }
            End::PowerCut { path: ANYWHERE, .. } => {
                eventually("the server ends", async || daemon.has_ended().then_some(())).await;
                assert!(!daemon.wait().success(), "ended well without power: {}", daemon.stderr());
            }
            // a server that has just no commit to make does not notice
            End::PowerCut { .. } => {
                eventually("the power fails", async || disk.is_off().then_some(())).await;
                daemon.kill();
            }
        });
        tokio::join!(swipes, self.desk.change_until_refused(person));
    }

    /// Everything that there ever was is with the sink.
    pub(super) async fn finish(self, tally: &mut Tally) {
        tally.answers += self.crowd.answers() + self.desk.answers();
        tally.repeats += everything_is_in_files(&self.site, &self.log).await;
    }

    fn power_cut(&mut self, tally: &mut Tally) {
        let cut = if self.random.one_in(2) { Cut::Torn } else { Cut::Clean };
        tally.cuts[usize::from(cut == Cut::Torn)] += 1;
        self.site.power_cut(cut, &mut self.random);
    }
}
