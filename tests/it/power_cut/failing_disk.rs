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

/// What the paths of the log's segments have in them.
const SEGMENT_PATH: &str = "/log/0";
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

/// A disk that is full until something else on it is removed.
#[tokio::test]
async fn a_full_disk_loses_nothing_and_goes_on_when_there_is_room() {
    const CAPACITY_BYTES: u64 = 16 << 20;
    const LEFT_BYTES: u64 = 1 << 20;
    let mut random = Random::new();
    let Some(site) = PoweredSite::with_capacity("sled", CAPACITY_BYTES) else { return };
    let mut crowd = Crowd::new(&site, &mut random);
    let mut daemon = site.start();
    crowd.register(&daemon).await;
    let filler = fs::File::create(site.on_disk("filler")).unwrap();
    filler.set_len(site.disk.free_bytes() - LEFT_BYTES).unwrap();
    crowd.swipe(&mut daemon, async |_, _| {}).await;
    daemon.kill();
    drop(daemon);
    drop(filler);
    fs::remove_file(site.on_disk("filler")).unwrap();
    goes_on(&site, &mut crowd, &mut random).await;
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
