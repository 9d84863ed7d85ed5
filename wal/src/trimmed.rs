//! Segments that are no longer of the log, until their files are gone.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::durable_fs;
use crate::segment_names;
use crate::store::StoreError;

/// A segment that is no longer of the log.
#[derive(Debug)]
pub(crate) struct Trimmed {
    pub(crate) path: PathBuf,
    /// Then it is evidence, and set aside.
    pub(crate) is_damaged: bool,
}

/// Those whose files are there still; no more than the log had segments.
#[derive(Debug, Default)]
pub(crate) struct TrimmedSegments(Mutex<Vec<Trimmed>>);

impl TrimmedSegments {
    /// With what was left by an earlier run.
    pub(crate) fn left(left: Vec<Trimmed>) -> TrimmedSegments {
        TrimmedSegments(Mutex::new(left))
    }

    /// Drops the files of these, and of those that could not be dropped before. One that fails keeps no other.
    ///
    /// # Errors
    /// The first one, after all were tried; what failed is tried again by the next call.
    pub(crate) fn drop_files(&self, trimmed: Vec<Trimmed>) -> Result<(), StoreError> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.extend(trimmed);
        let mut result = Ok(());
        left.retain(|trimmed| {
            let dropped = trimmed.drop_files();
            let is_left = dropped.is_err();
            if result.is_ok() {
                result = dropped;
            }
            is_left
        });
        result
    }
}

impl Trimmed {
    /// What is not there is done: an earlier try may have come so far.
    pub(crate) fn drop_files(&self) -> Result<(), StoreError> {
        if self.is_damaged {
            return done_if_missing(segment_names::set_aside(&self.path));
        }
        let aside = segment_names::trimmed(&self.path);
        done_if_missing(fs::rename(&self.path, &aside).map_err(StoreError::on("trim", &self.path)))?;
        durable_fs::remove(&aside)
    }
}

fn done_if_missing(result: Result<(), StoreError>) -> Result<(), StoreError> {
    match result {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
