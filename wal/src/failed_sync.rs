//! A sync that failed, and the open after it when only the process is started again, not the machine.
//!
//! Once it has reported a failed write-back, Linux takes the pages for clean: they stay in the page cache, so
//! whoever opens the file reads everything back, and later syncs succeed without writing them. Records that an open
//! found whole would then be gone after power loss, with newer ones behind them. PostgreSQL learned of it in 2018
//! ("fsyncgate"); power cuts after failed syncs, in the tests of the daemon, left damaged databases.
//!
//! So a failed sync leaves a note beside its file, and the next open first writes the file's bytes again, as they
//! are, and syncs them. The note needs no sync of its own: it is there for as long as the page cache is, and after
//! power loss nobody needs it. A process killed between the failure and its note leaves none; that remains.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::durable_fs;
use crate::store::StoreError;

/// Ends the name of the note.
const NOTE_SUFFIX: &str = ".failed-sync";

/// Read and written at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Syncs a file's bytes; a failure leaves the note.
pub(crate) fn sync_data(file: &File, path: &Path) -> io::Result<()> {
    file.sync_data().inspect_err(|_| leave_note(path))
}

/// For a sync that someone else did.
pub(crate) fn leave_note(path: &Path) {
    // the disk has just failed: if it takes no note, the sync's own error says all there is to say
    drop(File::create(note_of(path)));
}

/// Writes a file's bytes again if there is a note, durably. Call it before anything of the file is believed, and
/// while nobody else writes to it.
pub(crate) fn write_again(path: &Path) -> Result<(), StoreError> {
    let note = note_of(path);
    if !note.exists() {
        return Ok(());
    }
    let write = || {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut offset = 0;
        loop {
            let bytes = file.read_at(&mut chunk, offset)?;
            let Some(read) = chunk.get(..bytes).filter(|read| !read.is_empty()) else { break };
            file.write_all_at(read, offset)?;
            offset += bytes as u64;
        }
        file.sync_all()
    };
    write().map_err(StoreError::on("write again, after a failed sync,", path))?;
    durable_fs::remove(&note)
}

fn note_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(NOTE_SUFFIX);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_could_not_be_synced_is_written_again_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("db");
        let bytes: Vec<u8> = (0..CHUNK_BYTES + 100).map(|at| at as u8).collect();
        fs::write(&path, &bytes).expect("written");
        write_again(&path).expect("nothing to do");
        // the null device refuses fsync
        let null = File::open("/dev/null").expect("opened");
        sync_data(&null, &path).expect_err("refused");
        assert!(note_of(&path).exists());
        write_again(&path).expect("written again");
        assert!(!note_of(&path).exists());
        assert_eq!(fs::read(&path).expect("read"), bytes);
    }
}
