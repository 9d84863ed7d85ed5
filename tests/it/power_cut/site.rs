//! A server whose data directory is on a disk that the test may cut, fail and fill.

use std::{
    collections::BTreeMap,
    ops::Deref,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    cut_fs::{Cut, CutFs},
    daemon::{FILE_SINK, Site, TWO_BUILDINGS, sequence},
    random::Random,
};

/// Both kinds of log.
pub(super) const STORES: [&str; 2] = ["sled", "segments"];

/// The directory that the disk is mounted on.
const DISK: &str = "disk";

/// A server's place; the data directory is on the disk, the files of its sink are not.
pub(super) struct PoweredSite {
    // unmounted before the directory that it is in goes
    pub(super) disk: CutFs,
    site: Site,
}

impl PoweredSite {
    /// `None` where nothing can be mounted.
    pub(super) fn new(store: &str) -> Option<Self> {
        Self::on(store, CutFs::mount)
    }

    pub(super) fn with_capacity(store: &str, bytes: u64) -> Option<Self> {
        Self::on(store, |path| CutFs::mount_with_capacity(path, bytes))
    }

    fn on(store: &str, mount: impl FnOnce(&Path) -> Option<CutFs>) -> Option<Self> {
        Self::configured(&format!("store = \"{store}\"\n"), "", mount)
    }

    /// A log of the smallest segments, from which goes at once what two snapshots have; and one more building.
    pub(super) fn with_small_segments(store: &str, building: &str) -> Option<Self> {
        let wal = format!(
            "store = \"{store}\"\nmax_bytes = \"16MiB\"\nretention = \"0s\"\nsnapshot_every = \"1s\"\n"
        );
        Self::configured(&wal, building, CutFs::mount)
    }

    fn configured(wal: &str, building: &str, mount: impl FnOnce(&Path) -> Option<CutFs>) -> Option<Self> {
        let buildings = TWO_BUILDINGS.replace("\"data", &format!("\"{DISK}/data"));
        let site = Site::new(&format!("[wal]\n{wal}{buildings}{building}{FILE_SINK}"));
        std::fs::create_dir(site.path(DISK)).unwrap();
        Some(Self { disk: mount(&site.path(DISK))?, site })
    }

    /// A file on the disk that is not the server's.
    pub(super) fn on_disk(&self, name: &str) -> PathBuf {
        self.site.path(DISK).join(name)
    }

    pub(super) fn power_cut(&self, cut: Cut, random: &mut Random) {
        self.disk.power_cut(cut, random);
    }

    /// The events in the log of the stopped daemon, which has no damage.
    pub(super) fn whole_log(&self) -> Vec<Value> {
        let verified = self.site.run(&["wal", "verify"]);
        let said = [verified.stdout, verified.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(verified.status.success(), "wal verify: {said:?}");
        self.site.dump()
    }

    /// Every event there ever was: the log, and before it what is in the files of the sink. The log drops only what the
    /// sink has settled, and the sink has nothing that the log had not.
    pub(super) fn history(&self) -> Vec<Value> {
        let log = self.whole_log();
        let in_log: BTreeMap<u64, &Value> = log.iter().map(|event| (sequence(event), event)).collect();
        let first = in_log.keys().next().copied().unwrap_or(1);
        let mut before = BTreeMap::new();
        for line in self.site.file_lines("sinks/files") {
            // half a line is no delivery: whoever stopped in it had not settled the event
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            let sequence = sequence(&event);
            if sequence >= first {
                assert_eq!(in_log.get(&sequence), Some(&&event), "delivered, and not so in the log");
            } else if let Some(other) = before.insert(sequence, event) {
                assert_eq!(other, before[&sequence], "delivered in two ways");
            }
        }
        before.into_values().chain(log).collect()
    }
}

impl Deref for PoweredSite {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}
