//! A durable append to the log, beside a bare append + fdatasync on the same disk in the same run.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark stops at the first surprise"
)]

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{BareFile, EVENT_BYTES, scratch};
use turnstiled_wal::{Append, Log, LogOptions, StoreKind};

fn append(criterion: &mut Criterion) {
    for records in [1_usize, 64] {
        let mut group = criterion.benchmark_group(format!("append {records} records"));
        group.sample_size(50).throughput(Throughput::Elements(records as u64));
        let bytes = vec![b'x'; EVENT_BYTES * records];
        for (name, preallocate) in [("bare append + fdatasync", false), ("bare, preallocated", true)] {
            let dir = scratch();
            let mut file = BareFile::create(dir.path(), preallocate);
            group.bench_function(BenchmarkId::from_parameter(name), |bench| {
                bench.iter(|| file.append(&bytes))
            });
        }
        for (name, store) in [("log on sled", StoreKind::Sled), ("log on segments", StoreKind::Files)] {
            let dir = scratch();
            let options = LogOptions { store, ..LogOptions::default() };
            let mut log = Log::open(&dir.path().join("log"), options).unwrap();
            let record = Append { payload: vec![b'x'; EVENT_BYTES].into(), ends_group: true };
            let batch = vec![record; records];
            group.bench_function(BenchmarkId::from_parameter(name), |bench| {
                bench.iter(|| log.commit(&batch).unwrap());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
