//! Random operations on a log against a model of it, with crashes.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::frame::{self, NO_HASH};
use crate::{
    Append, CommitError, DEFAULT_SEGMENT_BYTES, Log, LogOptions, LogReader, MemoryStore, SegmentStore,
    StoreKind,
};

pub(crate) const OPTIONS: LogOptions = LogOptions {
    cache_bytes: 1 << 20,
    store: StoreKind::Sled,
    segment_bytes: DEFAULT_SEGMENT_BYTES,
    keep_free_bytes: 0,
};

#[derive(Debug, Clone)]
enum Operation {
    /// Groups, as the payload lengths of their records.
    Commit(Vec<Vec<usize>>),
    Read {
        after: u64,
        max_records: usize,
        max_bytes: usize,
    },
    /// The next commit fails in its write or in its sync; then the process dies with these frames surviving.
    FailAndCrash {
        in_sync: bool,
        surviving_frames: usize,
    },
    Reopen,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let group = prop::collection::vec(0..60_usize, 1..5);
    let operation = prop_oneof![
        4 => prop::collection::vec(group, 1..6).prop_map(Operation::Commit),
        3 => (0..60_u64, 0..20_usize, 0..3000_usize)
            .prop_map(|(after, max_records, max_bytes)| Operation::Read { after, max_records, max_bytes }),
        1 => (any::<bool>(), 0..8_usize)
            .prop_map(|(in_sync, surviving_frames)| Operation::FailAndCrash { in_sync, surviving_frames }),
        1 => Just(Operation::Reopen),
    ];
    prop::collection::vec(operation, 1..30)
}

/// What the log must hold: payload and group mark of each record.
#[derive(Default)]
struct Model(Vec<(Bytes, bool)>);

impl Model {
    fn batch(&self, groups: &[Vec<usize>]) -> Vec<Append> {
        let mut batch = Vec::new();
        for group in groups {
            for (index, length) in group.iter().enumerate() {
                let fill = (self.0.len() + batch.len()) as u8;
                batch.push(Append {
                    payload: vec![fill; *length].into(),
                    ends_group: index + 1 == group.len(),
                });
            }
        }
        batch
    }

    fn push(&mut self, batch: &[Append]) {
        self.0.extend(batch.iter().map(|append| (append.payload.clone(), append.ends_group)));
    }

    fn check_whole(&self, reader: &LogReader) {
        assert_eq!(reader.committed(), self.0.len() as u64);
        self.check_read(reader, 0, usize::MAX, usize::MAX);
    }

    fn check_read(&self, reader: &LogReader, after: u64, max_records: usize, max_bytes: usize) {
        let records = reader.read(after, max_records, max_bytes).expect("read");
        let stored = reader.of_the_store().read(after, max_records, max_bytes).expect("read");
        assert_eq!(records, stored, "from memory it is the same");
        let mut expected = Vec::new();
        let mut bytes = 0;
        for record in self.0.iter().skip(after as usize).take(max_records) {
            bytes += record.0.len() + frame::OVERHEAD_BYTES;
            if bytes > max_bytes && !expected.is_empty() {
                break;
            }
            expected.push(record.clone());
        }
        let found: Vec<_> =
            records.iter().map(|record| (record.payload.clone(), record.ends_group)).collect();
        assert_eq!(found, expected);
        for (record, sequence) in records.iter().zip(after + 1..) {
            assert_eq!(record.sequence, sequence);
        }
    }

    /// After a failed commit of `batch`: whole groups of it may be there, nothing else.
    fn adopt(&mut self, batch: &[Append], reader: &LogReader) {
        let survived = reader.committed() as usize - self.0.len();
        assert!(survived <= batch.len());
        let batch = &batch[..survived];
        assert!(batch.last().is_none_or(|last| last.ends_group), "half a group survived");
        self.push(batch);
        self.check_whole(reader);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_log_in_memory_is_its_model(operations in operations()) {
        let disk = Arc::new(MemoryStore::new());
        let mut model = Model::default();
        let mut log = open_memory(&disk);
        for operation in operations {
            match operation {
                Operation::Commit(groups) => commit(&mut log, &mut model, &groups),
                Operation::Read { after, max_records, max_bytes } => {
                    model.check_read(&log.reader(), after, max_records, max_bytes);
                }
                Operation::FailAndCrash { in_sync, surviving_frames } => {
                    if in_sync { disk.fail_sync_after(0) } else { disk.fail_append_after(0) }
                    let batch = model.batch(&[vec![1, 2], vec![3, 4, 5], vec![6]]);
                    log.commit(&batch).expect_err("the injected fault");
                    model.check_whole(&log.reader());
                    prop_assert!(matches!(log.commit(&batch), Err(CommitError::Poisoned)));
                    disk.crash(surviving_frames);
                    log = open_memory(&disk);
                    model.adopt(&batch, &log.reader());
                }
                Operation::Reopen => {
                    disk.crash(0);
                    log = open_memory(&disk);
                }
            }
        }
        model.check_whole(&log.reader());
        check_chain(&log.reader());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_log_in_sled_is_its_model(operations in operations()) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut model = Model::default();
        let mut log = open(dir.path());
        for operation in operations {
            match operation {
                Operation::Commit(groups) => commit(&mut log, &mut model, &groups),
                Operation::Read { after, max_records, max_bytes } => {
                    model.check_read(&log.reader(), after, max_records, max_bytes);
                }
                Operation::Reopen | Operation::FailAndCrash { .. } => {
                    drop(log);
                    log = open(dir.path());
                }
            }
        }
        model.check_whole(&log.reader());
        check_chain(&log.reader());
        drop(log);
        let report = crate::verify(dir.path(), &dir.path().join("scratch")).expect("checked");
        prop_assert!(report.is_clean(), "{report:?}");
        prop_assert_eq!(report.whole_records, model.0.len() as u64);
    }
}

fn commit(log: &mut Log, model: &mut Model, groups: &[Vec<usize>]) {
    let batch = model.batch(groups);
    let first = log.next_sequence();
    let sequences = log.commit(&batch).expect("committed");
    model.push(&batch);
    assert_eq!(sequences, first..=model.0.len() as u64);
    assert_eq!(log.reader().committed(), *sequences.end());
}

pub(crate) fn check_chain(reader: &LogReader) {
    let mut previous = NO_HASH;
    for record in reader.read(0, usize::MAX, usize::MAX).expect("read") {
        assert_eq!(record.previous_hash, previous);
        let bytes = frame::encode(record.sequence, &record.previous_hash, record.ends_group, &record.payload);
        previous = frame::hash(&bytes);
    }
}

pub(crate) fn open(dir: &Path) -> Log {
    Log::open(dir, OPTIONS).expect("opened")
}

pub(crate) fn open_memory(disk: &Arc<MemoryStore>) -> Log {
    Log::with_store(Arc::clone(disk) as Arc<dyn SegmentStore>).expect("opened")
}
