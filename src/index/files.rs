//! The files of the index: `<first sequence, 20 digits>.idx`, one a sealed segment. They are not synced: one that a power
//! cut damages says so when it is read, and is made anew; a sync would make the log's own syncs wait.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::format::{FormatError, IndexFile, ReadAt, Segment};

const ENDING: &str = ".idx";
/// What a file is called until it is whole.
const UNFINISHED: &str = ".new";

#[derive(Debug)]
pub(super) struct Files(PathBuf);

impl ReadAt for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Files {
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    fn path(&self, first: u64) -> PathBuf {
        self.0.join(format!("{first:020}{ENDING}"))
    }

    /// The file of a segment; `None` if there is none.
    pub(super) fn open(&self, segment: &Segment) -> Result<Option<IndexFile<File>>, FormatError> {
        match File::open(self.path(segment.first)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => IndexFile::open(file?, segment).map(Some),
        }
    }

    pub(super) fn write(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(first);
        let unfinished = path.with_extension(UNFINISHED.trim_start_matches('.'));
        // it may have been deleted; who may look into it is up to the data directory around it
        fs::create_dir_all(&self.0)?;
        fs::write(&unfinished, bytes)?;
        fs::rename(unfinished, path)
    }

    pub(super) fn remove(&self, first: u64) -> io::Result<()> {
        match fs::remove_file(self.path(first)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Removes the files of segments that are not to be kept, and what was left unfinished.
    pub(super) fn keep(&self, is_kept: impl Fn(u64) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let first = name.strip_suffix(ENDING).and_then(|name| name.parse().ok());
            if first.is_some_and(|first| !is_kept(first)) || name.ends_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}
