//! The second half of a repair: the new log.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use crate::candidates::Candidate;
use crate::durable_fs;
use crate::file_format::{HEADER_BLOCK_BYTES, MARK_BYTES};
use crate::high_water;
use crate::log::LogOptions;
use crate::low_water;
use crate::repair::{self, RepairError, RepairPlan, Run};
use crate::salvage::Salvaged;
use crate::segment_names;
use crate::sled_db;
use crate::store::StoreError;
use crate::store_kind::StoreKind;

/// What is written and synced at once, and about as much is in memory.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
const BATCH_RECORDS: usize = 4_096;

/// What a new sled database takes before it holds anything, generously.
const SLED_SEGMENT_BYTES: u64 = 1024 * 1024;

impl RepairPlan {
    /// How much room the new log needs, roughly; never less than it takes. sled needs about twice what it holds.
    pub fn bytes_needed(&self, options: &LogOptions) -> u64 {
        let segments = self.new_segments() as u64 + 1;
        match self.store() {
            StoreKind::Sled => segments * SLED_SEGMENT_BYTES + self.frame_bytes.saturating_mul(2),
            StoreKind::Files => {
                let marks = self.salvaged.saturating_mul(MARK_BYTES as u64);
                segments * HEADER_BLOCK_BYTES + self.frame_bytes + marks + options.segment_bytes
            }
        }
    }

    /// Writes the new log into `dir`, which is made. `progress` hears of each segment of the damaged log, with how
    /// many there are. Durable when it returns; when it fails nothing of it is left.
    ///
    /// # Errors
    /// See [`RepairError`].
    pub fn write(
        &self,
        dir: &Path,
        options: &LogOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), RepairError> {
        self.write_all(dir, options, progress).inspect_err(|_| repair::give_up(dir))
    }

    fn write_all(
        &self,
        dir: &Path,
        options: &LogOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), RepairError> {
        durable_fs::create_dir_all(dir)?;
        let sources = self.sources();
        for (index, source) in sources.iter().enumerate() {
            progress(index + 1, sources.len());
            self.replay(source, &mut |run, file, salvaged| {
                let data_path = self.store().data_path(source.path());
                let read = |record: &Candidate| record.read(file).map_err(StoreError::on("read", &data_path));
                self.write_run(dir, run, salvaged, &read)
            })?;
        }
        self.begin_empty(dir, options)?;
        self.gaps_file().write(dir)?;
        if self.low().sequence > 0 {
            low_water::write(dir, self.low())?;
        }
        high_water::create(dir, &self.end())?;
        durable_fs::sync_tree(dir)?;
        Ok(())
    }

    fn write_run(
        &self,
        dir: &Path,
        run: &Run,
        salvaged: &Salvaged<'_>,
        read: &dyn Fn(&Candidate) -> Result<Bytes, StoreError>,
    ) -> Result<(), RepairError> {
        let from = salvaged.records.partition_point(|(sequence, _)| *sequence < run.first);
        let to = salvaged.records.partition_point(|(sequence, _)| *sequence <= run.last);
        let records = salvaged.records.get(from..to).unwrap_or_default();
        let batches = batches(records);
        let marks = batches.len() as u64 * MARK_BYTES as u64;
        let segment_bytes = HEADER_BLOCK_BYTES + run.frame_bytes + marks;
        let (kind, options) = (self.store(), LogOptions { segment_bytes, ..LogOptions::default() });
        let prepared = segment_names::preparing(dir, "now", kind);
        kind.prepare(&prepared, segment_bytes, &AtomicBool::new(false))?;
        let path = segment_names::path(dir, run.first, kind);
        let store = kind.begin(&prepared, &path, &run.previous, &options)?;
        for batch in batches {
            let frames: Result<Vec<_>, StoreError> =
                batch.iter().map(|(sequence, record)| Ok((*sequence, read(record)?))).collect();
            store.append(&frames?)?;
            store.sync()?;
        }
        drop(store);
        self.await_closed(&path)
    }

    /// The segment that the new log goes on with.
    fn begin_empty(&self, dir: &Path, options: &LogOptions) -> Result<(), RepairError> {
        let (kind, end) = (self.store(), self.end());
        let prepared = segment_names::preparing(dir, "now", kind);
        kind.prepare(&prepared, options.segment_bytes, &AtomicBool::new(false))?;
        let path = segment_names::path(dir, end.sequence.saturating_add(1), kind);
        drop(kind.begin(&prepared, &path, &end, options)?);
        self.await_closed(&path)
    }

    fn await_closed(&self, path: &Path) -> Result<(), RepairError> {
        if self.store() == StoreKind::Sled {
            sled_db::await_lock(path).map_err(StoreError::from)?;
        }
        Ok(())
    }
}

type Records<'a, 'b> = &'a [(u64, &'b Candidate)];

/// Cuts records into what is written at once.
fn batches<'a, 'b>(records: Records<'a, 'b>) -> Vec<Records<'a, 'b>> {
    let mut batches = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (index, (_, record)) in records.iter().enumerate() {
        let more = record.frame_bytes();
        if index > from && (bytes + more > BATCH_BYTES || index - from >= BATCH_RECORDS) {
            batches.extend(records.get(from..index));
            (from, bytes) = (index, 0);
        }
        bytes += more;
    }
    batches.extend(records.get(from..).filter(|rest| !rest.is_empty()));
    batches
}
