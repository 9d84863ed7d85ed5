//! The segments of a log as one: written once for all stores.
//!
//! The last segment takes the appends. A commit that does not fit begins the next one, which carries on the hash
//! chain: its first frame names the last one of the segment before. What is before the last segment is sealed:
//! opened when it is read, and closed again when others are.
//!
//! A commit is always within one segment, so a crash leaves at most the last segment unfinished.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::chain::Chain;
use crate::file_format::HEADER_BLOCK_BYTES;
use crate::gaps::Gaps;
use crate::high_water::Mark;
use crate::log::LogOptions;
use crate::recovery::OpenError;
use crate::sealed::{Recent, Sealed};
use crate::segment_names::{self, first_sequence};
use crate::set_aside;
use crate::space::{self, LogSpace, disk_bytes, next_segment_bytes};
use crate::spare::Spare;
use crate::store::{SegmentStore, StoreError};
use crate::store_kind::StoreKind;
use crate::trimmed::{Trimmed, TrimmedSegments};

/// The size at which the next segment begins: of the file, or in sled of the frames.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// What a segment file needs besides frames, generously, and so the least that it may have.
const SEGMENT_OVERHEAD_BYTES: u64 = 2 * HEADER_BLOCK_BYTES;

/// With less of the segment left than this, the next one is prepared. Early, because zeros are written slowly when
/// commits are many, and late enough that a log that rests keeps no spare.
fn spare_below_bytes(segment_bytes: u64) -> u64 {
    segment_bytes / 4 * 3
}

/// How many of the sealed segments, from the last one back, may still change their size on disk.
const MAX_CHANGING_SEALED: usize = 2;

/// All segments of a log. One thread appends, begins segments and trims; any thread reads.
#[derive(Debug)]
pub(crate) struct Segments {
    chain: RwLock<Chain>,
    recent: Recent,
    /// Acknowledged by a repair.
    gaps: Gaps,
    /// None for a log on one given segment, which takes everything.
    place: Option<Place>,
    trimming: Mutex<()>,
    /// The first sequences of sealed segments that were found damaged.
    damaged: Mutex<BTreeSet<u64>>,
    trimmed: TrimmedSegments,
}

/// Where segments are made.
#[derive(Debug)]
struct Place {
    dir: PathBuf,
    options: LogOptions,
    spare: Spare,
}

impl Segments {
    /// One given segment that is all of the log.
    pub(crate) fn single(store: Arc<dyn SegmentStore>, first: u64) -> Segments {
        Segments::of(Chain { sealed: VecDeque::new(), current_first: first, current: store }, None)
    }

    /// The segments at `paths`, in order, of the log in `dir`: the last one is opened. Without any, the first one
    /// is created.
    pub(crate) fn open(dir: &Path, paths: &[PathBuf], options: &LogOptions) -> Result<Segments, OpenError> {
        segment_names::remove_leftovers(dir)?;
        let segment_bytes = options.segment_bytes.max(SEGMENT_OVERHEAD_BYTES);
        let options = &LogOptions { segment_bytes, ..options.clone() };
        let kind = options.store;
        let (sealed, current_first, current) = match paths.split_last() {
            None => {
                let prepared = segment_names::preparing(dir, "now", kind);
                let free = free_bytes(dir, options)?;
                let bytes = next_segment_bytes(kind, segment_bytes, free).unwrap_or(segment_bytes);
                kind.prepare(&prepared, bytes, &AtomicBool::new(false))?;
                let path = segment_names::path(dir, 1, kind);
                (&[][..], 1, kind.begin(&prepared, &path, &Mark::NONE, options)?)
            }
            Some((last, sealed)) => {
                let first = first_sequence(last).unwrap_or(1);
                (sealed, first, kind.open(last, options)?)
            }
        };
        let sealed =
            sealed.iter().filter_map(|path| Some(Sealed::closed(first_sequence(path)?, path))).collect();
        let spare =
            Spare::start(dir, kind, segment_bytes).map_err(StoreError::on("start a thread for", dir))?;
        let place = Place { dir: dir.to_owned(), options: options.clone(), spare };
        Ok(Segments::of(Chain { sealed, current_first, current }, Some(place)))
    }

    fn of(chain: Chain, place: Option<Place>) -> Segments {
        Segments {
            chain: RwLock::new(chain),
            recent: Recent::default(),
            gaps: Gaps::default(),
            place,
            trimming: Mutex::default(),
            damaged: Mutex::default(),
            trimmed: TrimmedSegments::default(),
        }
    }

    /// The same with what a repair has acknowledged to be missing.
    pub(crate) fn with_gaps(self, gaps: Gaps) -> Segments {
        Segments { gaps, ..self }
    }

    /// The same with what a trim before this open has left to be dropped.
    pub(crate) fn with_trimmed(self, left: Vec<Trimmed>) -> Segments {
        Segments { trimmed: TrimmedSegments::left(left), ..self }
    }

    /// What is acknowledged to be missing.
    pub(crate) fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// The first sequence there is or will be.
    pub(crate) fn first(&self) -> u64 {
        self.chain().first()
    }

    /// The first sequence of each segment, ascending.
    pub(crate) fn firsts(&self) -> Vec<u64> {
        let chain = self.chain();
        chain.sealed.iter().map(|sealed| sealed.first).chain([chain.current_first]).collect()
    }

    /// The segment that takes the appends, and its first sequence.
    pub(crate) fn current(&self) -> (u64, Arc<dyn SegmentStore>) {
        let chain = self.chain();
        (chain.current_first, Arc::clone(&chain.current))
    }

    /// What to call the segment that holds this sequence.
    pub(crate) fn path_of(&self, sequence: u64) -> PathBuf {
        let chain = self.chain();
        chain.sealed_of(sequence).map_or(chain.current.path(), |(sealed, _)| &sealed.path).to_owned()
    }

    /// Prepares the next segment if a commit of so many bytes does not fit into this one, or if the next one is
    /// `wanted` anyway and is ready. Nothing of the log has changed if it fails.
    pub(crate) fn prepare_for(&self, bytes: u64, wanted: bool) -> Result<Option<PathBuf>, StoreError> {
        let Some(place @ Place { dir, options, spare }) = &self.place else { return Ok(None) };
        let remaining = self.chain().current.remaining_bytes();
        if remaining >= bytes {
            // a file system that cannot be asked shows where room is asked for, and here when there is need
            let _ = place.prepare_ahead(if wanted { 0 } else { remaining });
            return Ok(if wanted { spare.take(remaining) } else { None });
        }
        let needed = bytes.saturating_add(SEGMENT_OVERHEAD_BYTES);
        if let Some(ready) = spare.take_at_least(needed)? {
            return Ok(Some(ready));
        }
        let path = segment_names::preparing(dir, "now", options.store);
        let fits = next_segment_bytes(options.store, options.segment_bytes, free_bytes(dir, options)?);
        options.store.prepare(&path, fits.unwrap_or(0).max(needed), &AtomicBool::new(false))?;
        Ok(Some(path))
    }

    /// See [`crate::Log::room_bytes`].
    pub(crate) fn room_bytes(&self) -> Result<u64, StoreError> {
        let remaining = self.chain().current.remaining_bytes();
        let Some(place) = &self.place else { return Ok(remaining) };
        let free = place.prepare_ahead(remaining)?;
        let free = free.map_or_else(|| free_bytes(&place.dir, &place.options), Ok)?;
        Ok(space::room_bytes(place.options.store, remaining, place.spare.next_bytes(free), free))
    }

    /// See [`crate::Log::space`].
    pub(crate) fn space(&self) -> LogSpace {
        let Some(Place { dir, options, spare }) = &self.place else { return LogSpace::default() };
        let (spare, set_aside_bytes) = (spare.space(), set_aside::bytes(dir));
        let chain = self.chain();
        // one that has just been sealed may still change
        chain.sealed.iter().rev().take(MAX_CHANGING_SEALED).for_each(Sealed::measure);
        let sealed: u64 = chain.sealed.iter().map(Sealed::disk_bytes).sum();
        let current = disk_bytes(chain.current.path());
        let unwritten = match options.store {
            StoreKind::Sled => 0,
            StoreKind::Files => chain.current.remaining_bytes().saturating_add(spare.unwritten_bytes),
        };
        let allocated_bytes = sealed + current + spare.allocated_bytes + set_aside_bytes;
        LogSpace { allocated_bytes, unwritten_bytes: unwritten, set_aside_bytes }
    }

    /// Begins the segment that was prepared, after the last record. Durable when it returns.
    pub(crate) fn begin(&self, prepared: &Path, last: &Mark) -> Result<(), StoreError> {
        let Some(Place { dir, options, spare }) = &self.place else { return Ok(()) };
        let first = last.sequence.saturating_add(1);
        let path = segment_names::path(dir, first, options.store);
        let next = options.store.begin(prepared, &path, last, options)?;
        let mut chain = self.chain_mut();
        let before_first = std::mem::replace(&mut chain.current_first, first);
        let before = std::mem::replace(&mut chain.current, next);
        // an empty one that was too small has been replaced
        if before_first == first {
            return Ok(());
        }
        chain.sealed.push_back(Sealed::still_open(before_first, &before));
        drop(chain);
        spare.give_back(Arc::clone(&before));
        if let Some(oldest) = self.recent.keep(before_first, before) {
            spare.close(oldest);
        }
        Ok(())
    }

    /// Held by whoever trims.
    pub(crate) fn lock_trimming(&self) -> MutexGuard<'_, ()> {
        self.trimming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first sequence there would be without the sealed segments that hold nothing from `below` on.
    pub(crate) fn first_after_trim(&self, below: u64) -> u64 {
        self.firsts().into_iter().take_while(|first| *first <= below).last().unwrap_or(0).max(self.first())
    }

    /// Drops the sealed segments before the one that begins with `first`. The low-water file says so already, so
    /// that a crash leaves files that the next open removes. A file that cannot be dropped keeps no other: the first
    /// error is returned at the end, and what failed is tried again by the next trim that drops anything, or by the
    /// next open.
    pub(crate) fn drop_before(&self, first: u64) -> Result<(), StoreError> {
        let dropped: Vec<_> = {
            let mut chain = self.chain_mut();
            let mut damaged = self.damaged_set();
            let count = chain.sealed.iter().take_while(|sealed| sealed.first < first).count();
            let mark = |sealed: Sealed| (damaged.remove(&sealed.first), sealed);
            chain.sealed.drain(..count).map(mark).collect()
        };
        let trimmed = dropped.into_iter().map(|(is_damaged, sealed)| {
            drop(self.recent.forget(sealed.first));
            Trimmed { path: sealed.path, is_damaged }
        });
        self.trimmed.drop_files(trimmed.collect())
    }

    /// The first sealed segment that begins after this sequence, and the last sequence it holds.
    pub(crate) fn sealed_after(&self, after: u64) -> Option<(StoreKind, Sealed, u64)> {
        let kind = self.place.as_ref()?.options.store;
        let chain = self.chain();
        let index = chain.sealed.partition_point(|sealed| sealed.first <= after);
        let sealed = chain.sealed.get(index)?.clone();
        let next_first = chain.sealed.get(index + 1).map_or(chain.current_first, |next| next.first);
        Some((kind, sealed, self.last_held(next_first.saturating_sub(1))))
    }

    /// Notes whether a sealed segment is damaged. False: it is there no more.
    pub(crate) fn note_damage(&self, first: u64, is_damaged: bool) -> bool {
        let chain = self.chain();
        let sealed = chain.sealed.iter().find(|sealed| sealed.first == first);
        let mut damaged = self.damaged_set();
        match sealed.filter(|_| is_damaged) {
            Some(sealed) => {
                sealed.is_whole.store(false, Ordering::Relaxed);
                damaged.insert(first);
            }
            None => {
                damaged.remove(&first);
            }
        }
        sealed.is_some()
    }

    /// Notes that the sealed segment with this sequence is damaged.
    pub(crate) fn note_damage_at(&self, sequence: u64) {
        let first = self.chain().sealed_of(sequence).map(|(sealed, _)| sealed.first);
        if let Some(first) = first {
            self.note_damage(first, true);
        }
    }

    /// How many sealed segments are known to be damaged.
    pub(crate) fn damaged(&self) -> usize {
        self.damaged_set().len()
    }

    fn damaged_set(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`SegmentStore::read`], over all segments.
    pub(crate) fn read(
        &self,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let mut from = from;
        let mut found: Vec<(u64, Bytes)> = Vec::new();
        let mut bytes = 0_usize;
        loop {
            let (store, last) = match self.store_of(from) {
                Ok(of) => of,
                // those found are whole; who asks for the rest hears of it
                Err(_) if !found.is_empty() => return Ok(found),
                Err(error) => return Err(error),
            };
            let part = match store.read(from, max_records - found.len(), max_bytes - bytes) {
                Ok(part) => part,
                Err(_) if !found.is_empty() => return Ok(found),
                Err(error) => return Err(error),
            };
            let read_to = part.last().map(|(sequence, _)| *sequence);
            for (sequence, frame) in part {
                bytes = bytes.saturating_add(frame.len());
                if bytes > max_bytes && !found.is_empty() {
                    return Ok(found);
                }
                found.push((sequence, frame));
            }
            // sequences missing at the end of a segment are skipped like others
            let Some(last) = last.filter(|last| read_to.is_none_or(|read_to| read_to >= *last)) else {
                return Ok(found);
            };
            if found.len() >= max_records || bytes >= max_bytes {
                return Ok(found);
            }
            from = last.saturating_add(1);
        }
    }

    /// The segment that holds a sequence, and if it is sealed, its last sequence.
    fn store_of(&self, sequence: u64) -> Result<(Arc<dyn SegmentStore>, Option<u64>), StoreError> {
        let (sealed, last) = {
            let chain = self.chain();
            match chain.sealed_of(sequence) {
                None => return Ok((Arc::clone(&chain.current), None)),
                Some((sealed, last)) => (sealed.clone(), last),
            }
        };
        let Some(Place { options, spare, .. }) = &self.place else { return Ok((self.current().1, None)) };
        let store = sealed.open(options.store, self.last_held(last))?;
        if let Some(oldest) = self.recent.keep(sealed.first, Arc::clone(&store)) {
            spare.close(oldest);
        }
        Ok((store, Some(last)))
    }

    /// The last sequence of a segment that ends before a gap, by the last one that it could hold.
    fn last_held(&self, last: u64) -> u64 {
        self.gaps.last_held(last)
    }

    #[cfg(test)]
    pub(crate) fn recent(&self) -> Vec<u64> {
        self.recent.firsts()
    }

    #[cfg(test)]
    pub(crate) fn spare(&self) -> &Spare {
        &self.place.as_ref().expect("on disk").spare
    }

    fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn chain_mut(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Requests the next segment if little remains of this one; what is free, if it had to be asked for.
    fn prepare_ahead(&self, remaining: u64) -> Result<Option<u64>, StoreError> {
        if remaining >= spare_below_bytes(self.options.segment_bytes) {
            return Ok(None);
        }
        let free = free_bytes(&self.dir, &self.options)?;
        self.spare.request(free);
        Ok(Some(free))
    }
}

/// What the log may take of its disk.
fn free_bytes(dir: &Path, options: &LogOptions) -> Result<u64, StoreError> {
    let available = space::file_system_space(dir)?.available_bytes;
    Ok(available.saturating_sub(options.keep_free_bytes))
}
