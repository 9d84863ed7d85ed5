//! What the benchmarks share: a place on the disk, a bare file to compare with, a daemon and its clients.

#![allow(dead_code, reason = "each benchmark is a program of its own and uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark stops at the first surprise"
)]

pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod measure;
pub(crate) mod page;
pub(crate) mod processor;
pub(crate) mod rest;
pub(crate) mod spread;
pub(crate) mod swipes;
pub(crate) mod turnstiled;

use std::{
    fs::{File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::Path,
    process::Command,
};

use tempfile::TempDir;

/// About the size of an entry's event with its frame.
pub(crate) const EVENT_BYTES: usize = 700;

/// Written zeros ahead of a preallocated file: `fallocate` alone still costs metadata at each sync.
const PREALLOCATED_BYTES: usize = 256 << 20;

/// Names a directory on the disk that benchmarks are to use.
const DIR_VARIABLE: &str = "BENCH_DIR";

/// A directory on the disk that the build directory is on, unless [`DIR_VARIABLE`] names another; removed when
/// dropped.
pub(crate) fn scratch() -> TempDir {
    let dir = std::env::var_os(DIR_VARIABLE).unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    tempfile::tempdir_in(dir).unwrap()
}

/// The first line that a program prints.
pub(crate) fn first_line(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

/// The least that a durable append can cost.
pub(crate) struct BareFile(File);

impl BareFile {
    /// A file that grows, or one whose blocks are written already.
    pub(crate) fn create(dir: &Path, preallocate: bool) -> Self {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).open(dir.join("bare")).unwrap();
        if preallocate {
            file.write_all(&vec![0; PREALLOCATED_BYTES]).unwrap();
            file.sync_all().unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
        }
        Self(file)
    }

    /// One write, one fdatasync.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.sync_data().unwrap();
    }
}
