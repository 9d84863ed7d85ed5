//! A disk that fails, or is full: what was answered is there, and the server says that it has ended for a reason.

use std::{fs, sync::atomic::Ordering::Relaxed};

use fuser::Errno;

use super::site::{PoweredSite, STORES};
use crate::{
    cut_fs::{Cut, Fault, Operation},
    random::Random,
    traffic::Crowd,
    wait::eventually,
};

/// What the paths of the log's first segment have in them; not those of the next one, which is prepared beside requests: a
/// fault there would be used up and end nothing.
const SEGMENT_PATH: &str = "/log/00000000000000000001.";
/// A fault comes after so many operations that went well, and whether the machine starts anew after it or only the
/// server, which then finds what could not be synced in the page cache.
const FAULTS: [(u64, bool); 3] = [(0, false), (1, true), (40, false)];
/// Afterwards, to see that it works.
const ANSWERS: u64 = 100;

#[tokio::test]
async fn a_sync_that_fails_ends_the_server_and_loses_nothing() {
    a_fault_ends_the_server_and_loses_nothing(Operation::Sync).await;
}

#[tokio::test]
async fn a_write_that_fails_ends_the_server_and_loses_nothing() {
    a_fault_ends_the_server_and_loses_nothing(Operation::Write).await;
}

async fn a_fault_ends_the_server_and_loses_nothing(operation: Operation) {
    let mut random = Random::new();
    for (store, (after, is_machine_restarted)) in each_fault() {
        let Some(site) = PoweredSite::new(store) else { return };
        let mut crowd = Crowd::new(&site, &mut random);
        let mut daemon = site.start();
        crowd.register(&daemon).await;
        site.disk.order(Fault { operation, path: SEGMENT_PATH, after, errno: Errno::EIO });
        crowd
            .swipe(&mut daemon, async |daemon, _| {
                eventually("the server ends", async || daemon.has_ended().then_some(())).await;
            })
            .await;
        assert!(!daemon.wait().success(), "{}", daemon.stderr());
        assert_eq!(site.disk.faults(), 1);
        drop(daemon);
        if is_machine_restarted {
            site.power_cut(Cut::Clean, &mut random);
        }
        goes_on(&site, &mut crowd, &mut random).await;
    }
}

fn each_fault() -> impl Iterator<Item = (&'static str, (u64, bool))> {
    STORES.into_iter().flat_map(|store| FAULTS.map(|fault| (store, fault)))
}

/// A full disk for one write; the server may end or not.
#[tokio::test]
async fn a_write_without_space_loses_nothing() {
    let mut random = Random::new();
    for (store, (after, _)) in each_fault() {
        let Some(site) = PoweredSite::new(store) else { return };
        let mut crowd = Crowd::new(&site, &mut random);
        let mut daemon = site.start();
        crowd.register(&daemon).await;
        let fault = Fault { operation: Operation::Write, path: SEGMENT_PATH, after, errno: Errno::ENOSPC };
        site.disk.order(fault);
        crowd
            .swipe(&mut daemon, async |daemon, _| {
                eventually("a write fails", async || (site.disk.faults() == 1).then_some(())).await;
                daemon.kill();
            })
            .await;
        drop(daemon);
        goes_on(&site, &mut crowd, &mut random).await;
    }
}

/// A disk that is full until something else on it is removed: entries are refused in words, exits go on, and entries
/// again once there is room, without a restart. What was answered is there after a power cut, what was refused is not.
#[tokio::test]
async fn a_full_disk_refuses_entries_keeps_exits_and_recovers_by_itself() {
    const CAPACITY_BYTES: u64 = 16 << 20;
    /// Of what the server has left once it runs.
    const LEFT_BYTES: u64 = 3 << 20;
    /// Of each of the crowd, all of them within the reserve.
    const EXITS_WHILE_FULL: usize = 20;
    let mut random = Random::new();
    for store in STORES {
        let Some(site) = PoweredSite::with_capacity(store, CAPACITY_BYTES) else { return };
        let mut crowd = Crowd::new(&site, &mut random);
        let daemon = site.start();
        crowd.register(&daemon).await;
        let ballast = site.on_disk("data/ballast");
        eventually("the ballast is in place", async || ballast.exists().then_some(())).await;
        let filler = fs::File::create(site.on_disk("filler")).unwrap();
        filler.set_len(site.disk.free_bytes().saturating_sub(LEFT_BYTES)).unwrap();
        let refused = crowd.swipe_until_full(&daemon, EXITS_WHILE_FULL).await;
        println!("{store}: {} answers, then {refused} entries refused", crowd.answers());
        assert!(!crowd.enter(&daemon).await && crowd.leave(&daemon).await);
        let ready = daemon.anyone().get("/readyz").await.expect(200);
        assert_eq!(ready["disk"], "full", "{ready}");
        drop(filler);
        fs::remove_file(site.on_disk("filler")).unwrap();
        // what was removed may be there again after a power cut if nobody syncs that
        fs::File::open(site.on_disk("")).unwrap().sync_all().unwrap();
        eventually("entries are granted again", async || crowd.enter(&daemon).await.then_some(())).await;
        assert!(crowd.leave(&daemon).await);
        drop(daemon);
        site.power_cut(Cut::Torn, &mut random);
        goes_on(&site, &mut crowd, &mut random).await;
    }
}

/// The log has what was answered, the server starts and works, and after another power cut nothing is lost.
async fn goes_on(site: &PoweredSite, crowd: &mut Crowd, random: &mut Random) {
    let log = site.whole_log();
    crowd.check(&log);
    let mut daemon = site.start();
    crowd.check_presence(&daemon, &log).await;
    crowd.retry(&daemon, &log).await;
    crowd
        .swipe(&mut daemon, async |daemon, count| {
            eventually("answers", async || (count.load(Relaxed) >= ANSWERS).then_some(())).await;
            daemon.kill();
        })
        .await;
    drop(daemon);
    site.power_cut(Cut::Clean, random);
    let log = site.whole_log();
    crowd.check(&log);
    crowd.check_presence(&site.start(), &log).await;
}
