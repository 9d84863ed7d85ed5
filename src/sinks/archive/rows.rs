//! An object of Parquet as its events.

use std::{
    fs::File,
    io::{self, Read},
};

use super::{ArchiveError, Line, MAX_LINE_BYTES, Object, cannot_read};
use crate::sinks::parquet_file::{self, ReadError};

/// Hands on each event. A file that is not, to the last bit, as a sink wrote it is damaged.
pub(super) fn each(file: File, object: &Object, take: &mut dyn FnMut(Line<'_>)) -> Result<(), ArchiveError> {
    let read = parquet_file::each(file, |row| {
        if row.event.len() > MAX_LINE_BYTES {
            take(Line::TooLong);
            return false;
        }
        take(row.differs_in.map_or(Line::Whole(row.event), |column| Line::Differs(row.event, column)));
        true
    });
    match read {
        Ok(()) => Ok(()),
        Err(ReadError::Io(error)) => Err(cannot_read(&object.name)(error)),
        Err(error @ ReadError::Damaged(_)) => {
            tracing::warn!(object = object.name, %error, "the object cannot be read");
            take(Line::Damaged);
            Ok(())
        }
    }
}

/// The object on the disk, under no name: Parquet is read from its end.
pub(super) fn whole(mut stored: impl Read, object: &Object) -> Result<File, ArchiveError> {
    let error = cannot_read(&object.name);
    let mut file = tempfile::tempfile().map_err(&error)?;
    io::copy(&mut stored, &mut file).map_err(&error)?;
    Ok(file)
}
