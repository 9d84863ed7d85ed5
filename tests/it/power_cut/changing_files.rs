//! The power is cut while files come and go: the next segment, segments that are trimmed, snapshots.

use std::{collections::BTreeSet, fs, time::Instant};

use super::{
    rounds::{Disk, End, Tally, is_long},
    site::PoweredSite,
};
use crate::random::Random;

const LONG_DISKS: usize = 20;
/// Each kind of cut once.
const ROUNDS_OF_A_DISK: usize = KINDS.len();

/// Where the power fails: at an operation on a path with this in it, after at most so many of these.
const KINDS: [Kind; 4] = [
    Kind { name: "rotation", path: ".preparing", max_operations: 12 },
    Kind { name: "trim", path: "/low-water", max_operations: 5 },
    Kind { name: "snapshot", path: "/snapshots", max_operations: 12 },
    Kind { name: "drop", path: ".trimmed", max_operations: 1 },
];

/// A right to a gate is as long as this makes it, and a card has the most rights there may be: its events are of more
/// than 30 KiB, and a segment of the smallest size holds some sixty.
const LONG_ID_BYTES: usize = 64;
const RIGHTS: usize = 256;

struct Kind {
    name: &'static str,
    path: &'static str,
    max_operations: u64,
}

#[tokio::test]
async fn power_cuts_in_rotations_trims_and_snapshots_lose_nothing_with_sled() {
    power_cuts_in_rotations_trims_and_snapshots_lose_nothing("sled").await;
}

#[tokio::test]
async fn power_cuts_in_rotations_trims_and_snapshots_lose_nothing_with_segments() {
    power_cuts_in_rotations_trims_and_snapshots_lose_nothing("segments").await;
}

async fn power_cuts_in_rotations_trims_and_snapshots_lose_nothing(store: &str) {
    let mut random = Random::new();
    let begin = Instant::now();
    let disks = if is_long() { LONG_DISKS } else { 1 };
    let (mut tally, mut seen) = (Tally::default(), Seen::default());
    for _ in 0..disks {
        let Some(mut disk) = small_disk(store, &mut random) else { return };
        for kind in KINDS.iter().cycle().take(ROUNDS_OF_A_DISK) {
            let round = Instant::now();
            let after = random.below(kind.max_operations);
            disk.round_with(&mut tally, End::PowerCut { path: kind.path, after }).await;
            seen.look(&disk.site);
            println!("{store}, cut in a {}: {:?}", kind.name, round.elapsed());
        }
        disk.finish(&mut tally).await;
        seen.forget_names();
    }
    println!("{store}: {seen:?}, {tally:?}, none lost; {:?}", begin.elapsed());
    // each kind of cut came; these are what was whole after one
    let Seen { rotations, trims, snapshots, .. } = seen;
    assert!(rotations > 0 && trims > 0 && snapshots > 0, "{rotations}, {trims}, {snapshots}");
}

/// A server whose log has small segments, with cards whose events fill them.
fn small_disk(store: &str, random: &mut Random) -> Option<Disk> {
    let (building, gate) = ("b".repeat(LONG_ID_BYTES), "g".repeat(LONG_ID_BYTES));
    let config = format!(
        "[[buildings]]\nid = \"{building}\"\nanti_passback = \"off\"\ngates = [{{ id = \"{gate}\" }}]\n"
    );
    let site = PoweredSite::with_small_segments(store, &config)?;
    let gates = vec![format!("{building}/{gate}"); RIGHTS];
    Some(Disk::on(site, Random::seeded(random.next()), gates))
}

/// What was there after some round and not before.
#[derive(Debug, Default)]
struct Seen {
    rotations: usize,
    trims: usize,
    snapshots: usize,
    names: BTreeSet<String>,
    first: String,
}

impl Seen {
    fn look(&mut self, site: &PoweredSite) {
        let segments = names(site, "log", |name| name.ends_with(".seg") || name.ends_with(".sled"));
        let snapshots = names(site, "snapshots", |name| name.ends_with(".snapshot"));
        let first = segments.iter().next().unwrap().clone();
        self.trims += usize::from(!self.first.is_empty() && first != self.first);
        self.first = first;
        self.rotations += segments.difference(&self.names).count();
        self.snapshots += snapshots.difference(&self.names).count();
        self.names.extend(segments.into_iter().chain(snapshots));
    }

    /// The next disk has the same ones.
    fn forget_names(&mut self) {
        self.names.clear();
        self.first.clear();
    }
}

fn names(site: &PoweredSite, dir: &str, is_one: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(site.on_disk("data").join(dir)) else { return BTreeSet::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| is_one(name)).collect()
}
