//! An object of Parquet as its events.

use std::{
    fs::File,
    io::{self, Read},
};

use super::{ArchiveError, Line, MAX_LINE_BYTES, Object, cannot_read};
use crate::sinks::parquet_file;

/// Hands on each event. A file whose bytes cannot be read as a sink's is damaged.
pub(super) fn each(file: File, object: &Object, take: &mut dyn FnMut(Line<'_>)) -> Result<(), ArchiveError> {
    // should the decoder panic over it, this says over what
    tracing::info!(object = object.name, "reading Parquet");
    let read = parquet_file::each(file, |row| {
        if row.event.len() > MAX_LINE_BYTES {
            take(Line::TooLong);
            return false;
        }
        take(row.differs_in.map_or(Line::Whole(row.event), |column| Line::Differs(row.event, column)));
        true
    });
    if let Err(error) = read {
        tracing::warn!(object = object.name, %error, "the object cannot be read as Parquet");
        take(Line::Damaged);
    }
    Ok(())
}

/// The object on the disk, under no name: Parquet is read from its end.
pub(super) fn whole(mut stored: impl Read, object: &Object) -> Result<File, ArchiveError> {
    let error = cannot_read(&object.name);
    let mut file = tempfile::tempfile().map_err(&error)?;
    io::copy(&mut stored, &mut file).map_err(&error)?;
    Ok(file)
}
