//! One commit against the bare minimum: the same bytes appended to a growing file, and one fdatasync.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say so and stop")]

use std::fs::File;
use std::hint::black_box;
use std::io::Write;

use criterion::{Criterion, criterion_group, criterion_main};
use turnstiled_wal::{Append, Log, LogOptions};

/// About as long as one event.
const PAYLOAD_BYTES: usize = 500;

fn commit(criterion: &mut Criterion) {
    for records in [1, 64] {
        let mut group = criterion.benchmark_group(format!("commit of {records}"));
        let dir = tempfile::tempdir().expect("a directory");
        let payload = vec![7; PAYLOAD_BYTES];

        let mut file = File::create(dir.path().join("bare")).expect("created");
        let bytes = payload.repeat(records);
        group.bench_function("bare append and fdatasync", |bencher| {
            bencher.iter(|| {
                file.write_all(black_box(&bytes)).expect("written");
                file.sync_data().expect("synced");
            });
        });

        let mut log = Log::open(&dir.path().join("log"), LogOptions::default()).expect("opened");
        let batch = vec![Append { payload: payload.into(), ends_group: true }; records];
        group.bench_function("log", |bencher| {
            bencher.iter(|| log.commit(black_box(&batch)).expect("committed"));
        });
        let mut in_memory = Log::in_memory();
        group.bench_function("log in memory: frames and hashes only", |bencher| {
            bencher.iter(|| in_memory.commit(black_box(&batch)).expect("committed"));
        });
        group.finish();
    }
}

criterion_group!(benches, commit);
criterion_main!(benches);
