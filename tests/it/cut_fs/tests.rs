//! The file system itself: that it forgets what it should, and nothing else.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use fuser::Errno;
use tempfile::TempDir;

use super::{Cut, CutFs, Fault, Operation};
use crate::random::Random;

/// The file system and the directory it is mounted on, which goes after it.
struct Mounted {
    fs: CutFs,
    dir: TempDir,
}

impl Mounted {
    fn with_capacity(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        Some(Self { fs: CutFs::mount_with_capacity(dir.path(), bytes)?, dir })
    }

    fn new() -> Option<Self> {
        Self::with_capacity(1 << 30)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sync(&self, directory: &str) {
        File::open(self.path(directory)).unwrap().sync_all().unwrap();
    }

    fn cut(&self) {
        self.fs.power_cut(Cut::Clean, &mut Random::seeded(1));
    }
}

#[test]
fn bytes_that_were_not_synced_are_gone() {
    let Some(mounted) = Mounted::new() else { return };
    let mut file = File::create(mounted.path("a")).unwrap();
    file.write_all(b"synced").unwrap();
    file.sync_data().unwrap();
    file.write_all(b", not synced").unwrap();
    file.write_all_at(b"S", 0).unwrap();
    mounted.sync("");
    assert_eq!(fs::read(mounted.path("a")).unwrap(), b"Synced, not synced");
    drop(file);
    mounted.cut();
    assert_eq!(fs::read(mounted.path("a")).unwrap(), b"synced");
    OpenOptions::new().write(true).open(mounted.path("a")).unwrap().set_len(2).unwrap();
    assert_eq!(fs::read(mounted.path("a")).unwrap(), b"sy");
    mounted.cut();
    assert_eq!(fs::read(mounted.path("a")).unwrap(), b"synced");
}

#[test]
fn names_whose_directory_was_not_synced_are_gone() {
    let Some(mounted) = Mounted::new() else { return };
    let names = |directory: &str| {
        let entries = fs::read_dir(mounted.path(directory)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    for name in ["kept", "moved", "removed"] {
        File::create(mounted.path(name)).unwrap().sync_all().unwrap();
    }
    fs::create_dir(mounted.path("dir")).unwrap();
    mounted.sync("");
    File::create(mounted.path("new")).unwrap().sync_all().unwrap();
    fs::rename(mounted.path("moved"), mounted.path("elsewhere")).unwrap();
    fs::remove_file(mounted.path("removed")).unwrap();
    fs::rename(mounted.path("kept"), mounted.path("dir/kept")).unwrap();
    assert_eq!(names(""), ["dir", "elsewhere", "new"]);
    mounted.cut();
    assert_eq!(names(""), ["dir", "kept", "moved", "removed"]);
    assert!(names("dir").is_empty());
    // the sync of either directory makes a move between them durable, with what was before it
    fs::hard_link(mounted.path("kept"), mounted.path("linked")).unwrap();
    fs::rename(mounted.path("kept"), mounted.path("dir/kept")).unwrap();
    File::create(mounted.path("later")).unwrap();
    mounted.sync("dir");
    mounted.cut();
    assert_eq!(names(""), ["dir", "linked", "moved", "removed"]);
    assert_eq!(names("dir"), ["kept"]);
    fs::remove_file(mounted.path("dir/kept")).unwrap();
    fs::remove_dir(mounted.path("dir")).unwrap();
    mounted.sync("");
    mounted.cut();
    assert_eq!(names(""), ["linked", "moved", "removed"]);
}

#[test]
fn a_torn_file_has_old_and_new_sectors_and_zeros() {
    let Some(mounted) = Mounted::new() else { return };
    let mut random = Random::new();
    let mut kinds = [0; 3];
    for round in 0..100 {
        let path = mounted.path(&format!("torn-{round}"));
        let file = File::create(&path).unwrap();
        file.write_all_at(&[1; 4 * 512], 0).unwrap();
        file.sync_all().unwrap();
        mounted.sync("");
        for start in [0, 700, 3_000, 9_000] {
            file.write_all_at(&[2; 1_500], start).unwrap();
        }
        drop(file);
        mounted.fs.power_cut(Cut::Torn, &mut random);
        let bytes = fs::read(&path).unwrap();
        assert!((2_048..=10_500).contains(&bytes.len()), "{}", bytes.len());
        for (at, byte) in bytes.iter().enumerate() {
            kinds[usize::from(*byte)] += 1;
            assert!(*byte != 1 || at < 2_048 && *byte == bytes[at / 512 * 512 + 511], "{at}: {byte}");
        }
    }
    assert!(kinds.iter().all(|count| *count > 10_000), "zeros, old and new bytes: {kinds:?}");
}

#[test]
fn faults_come_when_they_were_ordered() {
    let Some(mounted) = Mounted::new() else { return };
    let file = File::create(mounted.path("a.log")).unwrap();
    let other = File::create(mounted.path("b")).unwrap();
    mounted.sync("");
    let order = |operation, after, errno| {
        mounted.fs.order(Fault { operation, path: ".log", after, errno });
    };
    order(Operation::Write, 1, Errno::ENOSPC);
    order(Operation::Sync, 1, Errno::EIO);
    file.write_all_at(b"one", 0).unwrap();
    other.write_all_at(b"one", 0).unwrap();
    assert_eq!(file.write_all_at(b"two", 3).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_all_at(b"two", 3).unwrap();
    file.sync_all().unwrap();
    file.write_all_at(b"six", 6).unwrap();
    assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(i32::from(Errno::EIO)));
    file.sync_all().unwrap();
    assert_eq!(fs::read(mounted.path("a.log")).unwrap(), b"onetwosix", "the page cache has it");
    assert_eq!(mounted.fs.faults(), 2);
    mounted.cut();
    assert_eq!(fs::read(mounted.path("a.log")).unwrap(), b"onetwo", "the device has not");
    mounted.fs.order_power_cut_at("/b", 1);
    file.write_all_at(b"two", 0).unwrap();
    other.write_all_at(b"two", 0).unwrap();
    file.write_all_at(b"two", 0).unwrap();
    other.write_all_at(b"two", 0).unwrap_err();
    other.sync_all().unwrap_err();
    assert!(mounted.fs.is_off() && fs::read(mounted.path("a.log")).is_err());
    mounted.cut();
    assert!(!mounted.fs.is_off() && fs::read(mounted.path("b")).unwrap().is_empty());
}

#[test]
fn a_disk_is_full_until_something_is_removed() {
    const BLOCKS: u64 = 4;
    let Some(mounted) = Mounted::with_capacity(BLOCKS * 4_096) else { return };
    let file = File::create(mounted.path("a")).unwrap();
    file.write_all_at(&[1; 3 * 4_096], 0).unwrap();
    let other = File::create(mounted.path("b")).unwrap();
    other.write_all_at(&[1; 4_096], 0).unwrap();
    other.write_all_at(&[2; 4_096], 0).unwrap();
    assert_eq!(other.write_all_at(&[1], 4_096).unwrap_err().kind(), ErrorKind::StorageFull);
    fs::remove_file(mounted.path("a")).unwrap();
    assert_eq!(other.write_all_at(&[1], 4_096).unwrap_err().kind(), ErrorKind::StorageFull, "it is open");
    drop(file);
    // the kernel tells of a close a moment later
    while other.write_all_at(&[1], 4_096).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn locks_are_held_and_left() {
    let Some(mounted) = Mounted::new() else { return };
    let file = File::create(mounted.path("lock")).unwrap();
    file.try_lock().unwrap();
    let other = File::open(mounted.path("lock")).unwrap();
    other.try_lock().unwrap_err();
    drop(file);
    other.lock().unwrap();
}
