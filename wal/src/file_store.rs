//! A segment in one file of our own: the shortest way from a commit to the disk.
//!
//! The file has its full size from the beginning, and its zeros are *written*: a sync after an append then changes
//! no metadata of the file system, which made an append a third faster than one to a growing file (`fallocate`
//! alone did not). An append is one write at the tail, a sync one `fdatasync`. What is in the file is in
//! `file_format.rs`, how it is found again in `file_scan.rs`; where each frame is, is kept in memory.
//!
//! An open changes nothing. What a crash left after the last whole frame is zeroed by `remove_tail`, once recovery
//! has compared the segment with the high-water file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rustix::fs::FallocateFlags;

use crate::durable_fs;
use crate::failed_sync;
use crate::file_format::{self, HEADER_BLOCK_BYTES, HEADER_BYTES, Header, MARK_BYTES};
use crate::file_scan::{self, Index, Place};
use crate::frame::{self, Hash};
use crate::sled_db::{LOCK_POLL_MS, LOCK_WAIT_MS, SledOpenError};
use crate::store::{SegmentStore, StoreError};

/// Zeros written and synced at once: a commit to the same disk waits for at most so many.
const ZERO_CHUNK_BYTES: usize = 256 * 1024;

/// With less than this unused at its end, a sealed segment stays as it is.
const MIN_GIVEN_BACK_BYTES: u64 = 256 * 1024;

/// See [`SegmentStore`] for the contract.
#[derive(Debug)]
pub(crate) struct FileStore {
    path: PathBuf,
    file: File,
    header: Header,
    index: RwLock<Index>,
    /// After a crash there may be bytes of a torn commit behind the tail.
    is_clean: AtomicBool,
}

/// Who may use the file at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Alone,
    ReadOnly,
}

impl FileStore {
    /// Writes a file of zeros, durably. It becomes a segment by [`FileStore::adopt`].
    ///
    /// With `cancelled` set meanwhile it ends early, with an error.
    pub(crate) fn prepare(path: &Path, segment_bytes: u64, cancelled: &AtomicBool) -> Result<(), StoreError> {
        let write = || {
            if u32::try_from(segment_bytes).is_err() {
                let what = format!("{segment_bytes} bytes are too many for a segment");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
            let zeros = vec![0; ZERO_CHUNK_BYTES.min(segment_bytes as usize)];
            let mut offset = 0;
            while offset < segment_bytes {
                if cancelled.load(Ordering::Relaxed) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let bytes = (segment_bytes - offset).min(zeros.len() as u64);
                file.write_all_at(zeros.get(..bytes as usize).unwrap_or_default(), offset)?;
                file.sync_data()?;
                offset += bytes;
            }
            file.sync_all()
        };
        write().map_err(StoreError::on("prepare", path))
    }

    /// Makes a prepared file the segment that begins with `first`, durably, and opens it.
    pub(crate) fn adopt(
        prepared: &Path,
        path: &Path,
        first: u64,
        previous_hash: Hash,
    ) -> Result<FileStore, SledOpenError> {
        let write = || {
            let file = OpenOptions::new().write(true).open(prepared)?;
            let header = Header { first, previous_hash, segment_bytes: file.metadata()?.len() };
            file.write_all_at(&header.encode(), 0)?;
            file.sync_all()?;
            fs::rename(prepared, path)?;
            Ok(header)
        };
        let header = write().map_err(StoreError::on("create", path))?;
        path.parent().map_or(Ok(()), durable_fs::sync_dir)?;
        let file = open_file(path, Access::Alone)?;
        let (index, is_clean) = (RwLock::new(Index::empty()), AtomicBool::new(true));
        Ok(FileStore { path: path.to_owned(), file, header, index, is_clean })
    }

    /// Opens a segment for appending; nobody else has it open meanwhile.
    pub(crate) fn open(path: &Path) -> Result<FileStore, SledOpenError> {
        let store = FileStore::open_with(path, Access::Alone)?;
        let on_file = |action| StoreError::on(action, path);
        let actual = store.file.metadata().map_err(on_file("look at"))?.len();
        let expected = store.header.segment_bytes;
        if actual != expected {
            let what = format!("the file has {actual} bytes, its header says {expected}");
            return Err(on_file("open")(io::Error::new(io::ErrorKind::InvalidData, what)).into());
        }
        // whatever a killed process left in the page cache only
        failed_sync::sync_data(&store.file, path).map_err(on_file("sync"))?;
        path.parent().map_or(Ok(()), durable_fs::sync_dir)?;
        let tail = store.index().tail;
        let end = file_scan::end_of_data(&store.file, tail).map_err(on_file("read"))?;
        store.is_clean.store(end == tail, Ordering::Relaxed);
        Ok(store)
    }

    /// Opens a segment for reading: of a damaged one what is there.
    pub(crate) fn open_read_only(path: &Path) -> Result<FileStore, SledOpenError> {
        FileStore::open_with(path, Access::ReadOnly)
    }

    fn open_with(path: &Path, access: Access) -> Result<FileStore, SledOpenError> {
        let file = open_file(path, access)?;
        if access == Access::Alone {
            failed_sync::write_again(path)?;
        }
        let scan = || {
            let header = read_header(&file)?;
            let index = file_scan::scan(&file, &header)?;
            Ok((header, index))
        };
        let (header, index) = scan().map_err(StoreError::on("read", path))?;
        let (index, is_clean) = (RwLock::new(index), AtomicBool::new(false));
        Ok(FileStore { path: path.to_owned(), file, header, index, is_clean })
    }

    /// What the header of a segment says, without looking at the rest.
    pub(crate) fn read_header(path: &Path) -> io::Result<Header> {
        read_header(&File::open(path)?)
    }

    /// What its header says.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, action: &'static str, kind: io::ErrorKind, what: String) -> StoreError {
        StoreError::on(action, &self.path)(io::Error::new(kind, what))
    }

    /// The mark and the frames, as they are written, and the places of the frames.
    fn encode(&self, frames: &[(u64, Bytes)], tail: u64) -> Result<(BytesMut, Vec<Place>), StoreError> {
        let first = frames.first().map_or(0, |(sequence, _)| *sequence);
        let total: usize = frames.iter().map(|(_, frame)| frame.len()).sum();
        let mut bytes = BytesMut::with_capacity(MARK_BYTES + total);
        bytes.put_slice(&file_format::encode_mark(first));
        let mut places = Vec::with_capacity(frames.len());
        for (sequence, frame) in frames {
            if frame::claimed_bytes(frame) != Ok(frame.len()) {
                let what = format!("what was given as {sequence} is no frame");
                return Err(self.error("append to", io::ErrorKind::InvalidInput, what));
            }
            let offset = tail + bytes.len() as u64;
            // fits: a segment is shorter than that
            places.push(Place { offset: offset as u32, bytes: frame.len() as u32 });
            bytes.put_slice(frame);
        }
        if tail + bytes.len() as u64 > self.header.segment_bytes {
            let what = format!("it is full: there is no room for {} bytes", bytes.len());
            return Err(self.error("append to", io::ErrorKind::FileTooLarge, what));
        }
        Ok((bytes, places))
    }
}

impl SegmentStore for FileStore {
    fn path(&self) -> &Path {
        &self.path
    }

    fn append(&self, frames: &[(u64, Bytes)]) -> Result<(), StoreError> {
        if frames.is_empty() {
            return Ok(());
        }
        if !self.is_clean.load(Ordering::Relaxed) {
            let what = "it was not recovered, or is read-only".to_owned();
            return Err(self.error("append to", io::ErrorKind::InvalidInput, what));
        }
        let tail = self.index().tail;
        let (bytes, places) = self.encode(frames, tail)?;
        self.file.write_all_at(&bytes, tail).map_err(StoreError::on("append to", &self.path))?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for ((sequence, _), place) in frames.iter().zip(places) {
            index.push(*sequence, place);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        failed_sync::sync_data(&self.file, &self.path).map_err(StoreError::on("sync", &self.path))
    }

    fn give_back(&self) {
        let (tail, end) = (self.index().tail, self.header.segment_bytes);
        let unused_bytes = end.saturating_sub(tail);
        if unused_bytes >= MIN_GIVEN_BACK_BYTES {
            let keep_size = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // a file system that cannot do this costs the space until the segment is trimmed, nothing else
            let _ = rustix::fs::fallocate(&self.file, keep_size, tail, unused_bytes);
        }
    }

    fn read(&self, from: u64, max_records: usize, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let places = places(&self.index(), from, max_records, max_bytes);
        let (Some((_, first)), Some((_, last))) = (places.first(), places.last()) else {
            return Ok(Vec::new());
        };
        let start = u64::from(first.offset);
        let mut bytes = vec![0; (last.end() - start) as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                self.error("read", io::ErrorKind::InvalidData, "the file has been cut".to_owned())
            }
            _ => StoreError::on("read", &self.path)(error),
        })?;
        let frame = |place: &Place| {
            let from = (u64::from(place.offset) - start) as usize;
            // it is within them: places ascend
            Bytes::copy_from_slice(bytes.get(from..from + place.bytes as usize).unwrap_or_default())
        };
        Ok(places.iter().map(|(sequence, place)| (*sequence, frame(place))).collect())
    }

    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let index = self.index();
        Ok(index.next().map(|next| (index.first, next - 1)))
    }

    fn count(&self) -> Result<u64, StoreError> {
        Ok(self.index().places.iter().filter(|place| !place.is_missing()).count() as u64)
    }

    fn remaining_bytes(&self) -> u64 {
        self.header.segment_bytes.saturating_sub(self.index().tail).saturating_sub(MARK_BYTES as u64)
    }

    fn remove_tail(&self, after: u64) -> Result<(), StoreError> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let clean_tail = self.is_clean.load(Ordering::Relaxed).then_some(index.tail);
        index.truncate(after);
        let tail = index.tail;
        if clean_tail == Some(tail) {
            return Ok(());
        }
        let zero = || {
            let end = file_scan::end_of_data(&self.file, tail)?;
            let zeros = vec![0; ZERO_CHUNK_BYTES.min((end - tail) as usize)];
            let mut offset = tail;
            while offset < end {
                let bytes = (end - offset).min(zeros.len() as u64);
                self.file.write_all_at(zeros.get(..bytes as usize).unwrap_or_default(), offset)?;
                offset += bytes;
            }
            failed_sync::sync_data(&self.file, &self.path)
        };
        zero().map_err(StoreError::on("remove the tail of", &self.path))?;
        self.is_clean.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn places(index: &Index, from: u64, max_records: usize, max_bytes: usize) -> Vec<(u64, Place)> {
    let skipped = usize::try_from(from.saturating_sub(index.first)).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut bytes = 0_usize;
    for (number, place) in index.places.iter().enumerate().skip(skipped) {
        if place.is_missing() {
            continue;
        }
        bytes = bytes.saturating_add(place.bytes as usize);
        if found.len() == max_records || (bytes > max_bytes && !found.is_empty()) {
            break;
        }
        found.push((index.first + number as u64, *place));
    }
    found
}

fn read_header(file: &File) -> io::Result<Header> {
    let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let bytes = file.metadata()?.len();
    if bytes < HEADER_BLOCK_BYTES {
        return Err(damaged(format!("{bytes} bytes are too short for a segment")));
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    Header::decode(&header).map_err(damaged)
}

/// Opens and locks it. A process just killed gives its lock back only a moment later, so this waits that long.
fn open_file(path: &Path, access: Access) -> Result<File, SledOpenError> {
    let on_file = |action| StoreError::on(action, path);
    let write = access == Access::Alone;
    let file = OpenOptions::new().read(true).write(write).open(path).map_err(on_file("open"))?;
    let deadline = Instant::now() + Duration::from_millis(LOCK_WAIT_MS);
    loop {
        let locked = if write { file.try_lock() } else { file.try_lock_shared() };
        match locked {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(on_file("lock")(error).into()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(SledOpenError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(LOCK_POLL_MS)),
        }
    }
}
