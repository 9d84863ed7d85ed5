//! The high-water file: the last sequence known to be durable, kept apart from the store.
//!
//! A store that lost its tail looks whole: nothing in it says that there was more. sled lost it silently in 30 of
//! 30 trials with a cut or garbage tail. So after every successful sync the log notes here the last sequence and
//! the hash of its frame, and compares at the next open.
//!
//! The file has two slots, written in turn, so that a write torn by a crash leaves the other one. A slot write is
//! not synced: the records it speaks of were durable before it was written, so after power loss the file says less
//! than is durable, never more. It is a lower bound, and costs no second sync per commit.
//!
//! | bytes of a slot | field |
//! |---|---|
//! | 4 | magic |
//! | 4 | version |
//! | 8 | counter: the higher one of the two slots counts |
//! | 8 | last durable sequence |
//! | 32 | hash of its frame |
//! | 4 | zero |
//! | 4 | CRC32C of the 60 bytes before |
//!
//! The state store keeps one, too: there the sequence is the generation, and the hash that of its seal (see
//! `state_seal.rs`). `low_water.rs` has the same file under another name.
//!
//! Integers are little-endian. The slots begin at byte 0 and at byte [`SLOT_DISTANCE_BYTES`], so that one bad
//! sector does not take both.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use crate::durable_fs;
use crate::frame::{Hash, NO_HASH};
use crate::store::StoreError;

/// The file's name in the log's directory.
pub(crate) const FILE_NAME: &str = "high-water";

const MAGIC: [u8; 4] = *b"TWHW";
const VERSION: u32 = 1;
const SLOT_BYTES: usize = 64;
const CRC_BYTES: usize = 4;
/// A page: at least as much as any disk's sector.
const SLOT_DISTANCE_BYTES: u64 = 4096;

/// The last record known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// 0: none yet.
    pub(crate) sequence: u64,
    /// SHA-256 of its frame.
    pub(crate) hash: Hash,
}

impl Mark {
    /// Of a log without records.
    pub(crate) const NONE: Mark = Mark { sequence: 0, hash: NO_HASH };
}

/// What the file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is no file.
    Missing,
    /// Neither slot is whole.
    Damaged,
    /// The newest mark.
    Mark(Mark),
}

/// The open file.
#[derive(Debug)]
pub(crate) struct HighWater {
    path: PathBuf,
    file: File,
    counter: u64,
    next_slot_offset: u64,
}

/// Reads the file without opening it for writing.
pub(crate) fn read(dir: &Path) -> Result<Found, StoreError> {
    read_file(&dir.join(FILE_NAME))
}

/// Reads a file of two slots, whatever its name.
pub(crate) fn read_file(path: &Path) -> Result<Found, StoreError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
        Err(error) => Err(StoreError::on("open", path)(error)),
        Ok(file) => {
            let newest = newest_slot(&file).map_err(StoreError::on("read", path))?;
            Ok(newest.map_or(Found::Damaged, |slot| Found::Mark(slot.mark)))
        }
    }
}

/// Creates the file, durably, with this mark in both slots: [`Mark::NONE`] for a log without records. It appears
/// under its name only when it is whole.
pub(crate) fn create(dir: &Path, mark: &Mark) -> Result<(), StoreError> {
    create_file(&dir.join(FILE_NAME), mark)
}

/// Creates a file of two slots, or replaces it: after a crash it is the old one or the new one, whole.
pub(crate) fn create_file(path: &Path, mark: &Mark) -> Result<(), StoreError> {
    let unfinished = path.with_extension("new");
    let write = || {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&unfinished)?;
        file.write_all_at(&encode(0, mark), 0)?;
        file.write_all_at(&encode(1, mark), SLOT_DISTANCE_BYTES)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().map_err(StoreError::on("create", path))?;
    path.parent().map_or(Ok(()), durable_fs::sync_dir)
}

impl HighWater {
    /// Opens an existing file for writing.
    pub(crate) fn open(dir: &Path) -> Result<HighWater, StoreError> {
        let path = dir.join(FILE_NAME);
        let open = || {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            file.sync_all()?;
            let newest = newest_slot(&file)?
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "neither slot is whole"))?;
            Ok((file, newest))
        };
        let (file, newest) = open().map_err(StoreError::on("open", &path))?;
        let next_slot_offset = other_slot(newest.offset);
        Ok(HighWater { path, file, counter: newest.counter, next_slot_offset })
    }

    /// Notes that everything up to this mark is durable, in the older slot. Call it only when that is so.
    pub(crate) fn write(&mut self, mark: &Mark) -> Result<(), StoreError> {
        let counter = self.counter.saturating_add(1);
        self.file
            .write_all_at(&encode(counter, mark), self.next_slot_offset)
            .map_err(StoreError::on("write", &self.path))?;
        self.counter = counter;
        self.next_slot_offset = other_slot(self.next_slot_offset);
        Ok(())
    }
}

/// Makes the newest mark durable, from whichever thread.
pub(crate) fn sync(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(FILE_NAME);
    File::open(&path).and_then(|file| file.sync_data()).map_err(StoreError::on("sync", &path))
}

struct Slot {
    offset: u64,
    counter: u64,
    mark: Mark,
}

fn other_slot(offset: u64) -> u64 {
    if offset == 0 { SLOT_DISTANCE_BYTES } else { 0 }
}

fn newest_slot(file: &File) -> io::Result<Option<Slot>> {
    let mut newest: Option<Slot> = None;
    for offset in [0, SLOT_DISTANCE_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        match file.read_exact_at(&mut bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            read => read?,
        }
        let Some((counter, mark)) = decode(&bytes) else { continue };
        if newest.as_ref().is_none_or(|slot| counter > slot.counter) {
            newest = Some(Slot { offset, counter, mark });
        }
    }
    Ok(newest)
}

fn encode(counter: u64, mark: &Mark) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.put_slice(&MAGIC);
    slot.put_u32_le(VERSION);
    slot.put_u64_le(counter);
    slot.put_u64_le(mark.sequence);
    slot.put_slice(&mark.hash);
    slot.put_u32_le(0);
    let crc = crc32c::crc32c(&slot);
    slot.put_u32_le(crc);
    slot
}

/// The counter and the mark, if the slot is whole.
fn decode(slot: &[u8; SLOT_BYTES]) -> Option<(u64, Mark)> {
    let (mut body, mut crc) = slot.split_at(SLOT_BYTES - CRC_BYTES);
    if crc.get_u32_le() != crc32c::crc32c(body) {
        return None;
    }
    let mut magic = [0; 4];
    body.copy_to_slice(&mut magic);
    if magic != MAGIC || body.get_u32_le() != VERSION {
        return None;
    }
    let (counter, sequence) = (body.get_u64_le(), body.get_u64_le());
    let mut hash = NO_HASH;
    body.copy_to_slice(&mut hash);
    Some((counter, Mark { sequence, hash }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(sequence: u64) -> Mark {
        Mark { sequence, hash: [sequence as u8; 32] }
    }

    fn write_three_marks(dir: &Path) {
        create(dir, &Mark::NONE).expect("created");
        let mut high_water = HighWater::open(dir).expect("opened");
        for sequence in [5, 6, 7] {
            high_water.write(&mark(sequence)).expect("written");
        }
    }

    fn overwrite(dir: &Path, offset: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(dir.join(FILE_NAME)).expect("opened");
        file.write_all_at(bytes, offset).expect("overwritten");
    }

    #[test]
    fn the_newest_mark_is_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(read(dir.path()).expect("read"), Found::Missing);
        create(dir.path(), &Mark::NONE).expect("created");
        assert_eq!(read(dir.path()).expect("read"), Found::Mark(Mark::NONE));
        write_three_marks(dir.path());
        assert_eq!(read(dir.path()).expect("read"), Found::Mark(mark(7)));
    }

    #[test]
    fn a_torn_slot_leaves_the_one_before_and_is_written_next() {
        for newest_offset in [0, SLOT_DISTANCE_BYTES] {
            let dir = tempfile::tempdir().expect("a directory");
            write_three_marks(dir.path());
            if newest_offset == SLOT_DISTANCE_BYTES {
                HighWater::open(dir.path()).expect("opened").write(&mark(8)).expect("written");
            }
            let before = read(dir.path()).expect("read");
            overwrite(dir.path(), newest_offset + 20, &[0xEE; 8]);
            let after = read(dir.path()).expect("read");
            assert_ne!(before, after, "the damaged slot was the newest");
            assert_ne!(after, Found::Damaged);
            HighWater::open(dir.path()).expect("opened").write(&mark(9)).expect("written");
            assert_eq!(read(dir.path()).expect("read"), Found::Mark(mark(9)));
        }
    }

    #[test]
    fn two_torn_slots_and_an_empty_file_are_damage() {
        let dir = tempfile::tempdir().expect("a directory");
        write_three_marks(dir.path());
        overwrite(dir.path(), 0, &[0; SLOT_BYTES]);
        overwrite(dir.path(), SLOT_DISTANCE_BYTES, &[0; SLOT_BYTES]);
        assert_eq!(read(dir.path()).expect("read"), Found::Damaged);
        HighWater::open(dir.path()).expect_err("no mark to go on from");
        fs::write(dir.path().join(FILE_NAME), b"").expect("emptied");
        assert_eq!(read(dir.path()).expect("read"), Found::Damaged);
    }

    #[test]
    fn golden_slot() {
        let slot = encode(3, &mark(2));
        let hex: String = slot.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "54574857",
            "01000000",
            "0300000000000000",
            "0200000000000000",
            "0202020202020202020202020202020202020202020202020202020202020202",
            "00000000",
            "855bce5c",
        );
        assert_eq!(hex, expected);
    }
}
