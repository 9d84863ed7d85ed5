//! A server whose data directory is on a disk that the test may cut, fail and fill.

use std::{ops::Deref, path::PathBuf};

use serde_json::Value;

use crate::{
    cut_fs::{Cut, CutFs},
    daemon::{FILE_SINK, Site, TWO_BUILDINGS},
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

    fn on(store: &str, mount: impl FnOnce(&std::path::Path) -> Option<CutFs>) -> Option<Self> {
        let buildings = TWO_BUILDINGS.replace("\"data", &format!("\"{DISK}/data"));
        let site = Site::new(&format!("[wal]\nstore = \"{store}\"\n{buildings}{FILE_SINK}"));
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
}

impl Deref for PoweredSite {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}
