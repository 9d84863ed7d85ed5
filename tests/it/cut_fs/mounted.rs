//! A disk that is mounted for as long as this lives.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fuser::{BackgroundSession, Config, MountOption};

use super::{
    disk::{BLOCK_BYTES, Cut, Disk},
    faults::Fault,
    requests::Requests,
};
use crate::random::Random;

/// What the table of mounts calls it.
const NAME: &str = "turnstiled-power-cut";
const DEVICE: &str = "/dev/fuse";

/// More than any test writes.
const AMPLE_BYTES: u64 = 1 << 40;

/// A mounted disk; unmounted when dropped.
pub(crate) struct CutFs {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
    session: Option<BackgroundSession>,
}

impl CutFs {
    /// A disk with room for everything, mounted on an empty directory. `None`, with the reason printed, where
    /// this process may not mount.
    pub(crate) fn mount(path: &Path) -> Option<Self> {
        Self::mount_with_capacity(path, AMPLE_BYTES)
    }

    pub(crate) fn mount_with_capacity(path: &Path, capacity_bytes: u64) -> Option<Self> {
        unmount_leftovers();
        let disk = Arc::new(Mutex::new(Disk::new(capacity_bytes)));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(NAME.to_owned()), MountOption::NoAtime];
        match fuser::spawn_mount(Requests::new(Arc::clone(&disk)), path, &config) {
            Ok(session) => Some(Self { disk, path: path.to_owned(), session: Some(session) }),
            Err(error) if may_not_mount(error.kind()) => {
                eprintln!("SKIPPED: no power cuts, because {DEVICE} cannot be mounted here: {error}");
                None
            }
            Err(error) => panic!("mounting {}: {error}", path.display()),
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves what a power cut leaves. Whoever used the disk has ended before. Ordered faults are forgotten.
    pub(crate) fn power_cut(&self, cut: Cut, random: &mut Random) {
        self.disk().cut(cut, random);
    }

    /// The power fails after so many more writes, syncs and changes of names: from then on everything fails, until
    /// [`CutFs::power_cut`] has been called.
    pub(crate) fn order_power_cut(&self, after_operations: u64) {
        self.order_power_cut_at("", after_operations);
    }

    /// The same; counted are those on paths that have this in them, and it fails at one of them.
    pub(crate) fn order_power_cut_at(&self, path: &'static str, after_operations: u64) {
        self.disk().faults.order_power_cut(path, after_operations);
    }

    pub(crate) fn is_off(&self) -> bool {
        self.disk().faults.is_off()
    }

    pub(crate) fn order(&self, fault: Fault) {
        self.disk().faults.order(fault);
    }

    /// How many of the ordered faults have happened.
    pub(crate) fn faults(&self) -> u64 {
        self.disk().faults.happened()
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.disk().blocks().1 * BLOCK_BYTES
    }

    /// Nothing that is asked of the disk is answered for as long as this lives.
    pub(crate) fn hang(&self) -> impl Drop {
        self.disk()
    }

    /// From now on until the next cut a sync says that it is done and does nothing.
    pub(crate) fn leave_out_syncs(&self) {
        self.disk().faults.are_syncs_left_out = true;
    }
}

impl Drop for CutFs {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // A file that is still open keeps it busy: by a process that is being started, say, which has a copy of
        // every descriptor for a moment.
        if let Err(error) = session.umount_and_join() {
            eprintln!("unmounting {}: {error}; detaching it", self.path.display());
            detach(&self.path);
        }
    }
}

fn may_not_mount(kind: ErrorKind) -> bool {
    // not there, not permitted, or a device without a driver
    matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::Unsupported)
        || !Path::new(DEVICE).exists()
}

/// Those of a test that was killed: their process is gone, and so nobody answers.
fn unmount_leftovers() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(name), Some(path)) = (fields.next(), fields.next()) else { continue };
        let is_dead = || fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotConnected);
        if name == NAME && is_dead() {
            detach(Path::new(path));
        }
    }
}

fn detach(path: &Path) {
    match Command::new("umount").arg("--lazy").arg(path).status() {
        Ok(status) if status.success() => {}
        failed => eprintln!("{} stays mounted: {failed:?}", path.display()),
    }
}
