//! A file that holds nothing but space: deleted when a disk is full, so that what needs space to open or to end well
//! has some. sled does: it cannot open a database on a full disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use crate::space::disk_bytes;
use crate::store::StoreError;

/// Zeros written at once where the file system cannot allocate without writing.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Space kept in a file. Clones are the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// So much space in this file, which need not be there.
    pub fn new(path: &Path, bytes: u64) -> Ballast {
        Ballast { path: path.to_owned(), bytes }
    }

    /// How much it holds when it is there.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is there, whole.
    pub fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| found.len() == self.bytes)
    }

    /// What of it is on the disk, also while it is being made.
    pub fn bytes_on_disk(&self) -> u64 {
        disk_bytes(&self.path).min(self.bytes)
    }

    /// Makes it, if it is not there whole. Blocks; where blocks cannot be allocated otherwise, zeros are written.
    ///
    /// # Errors
    /// There is no room for it: then none of it is there.
    pub fn make(&self) -> Result<(), StoreError> {
        if self.is_there() {
            return Ok(());
        }
        self.release()?;
        self.fill()
            .inspect_err(|_| drop(fs::remove_file(&self.path)))
            .map_err(StoreError::on("make", &self.path))
    }

    fn fill(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => write_zeros(&file, self.bytes)?,
            Err(errno) => return Err(errno.into()),
        }
        file.sync_all()
    }

    /// Gives the space back. Whether there was any.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn release(&self) -> Result<bool, StoreError> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::on("remove", &self.path)(error)),
        }
    }
}

fn write_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let chunk = (bytes - offset).min(zeros.len() as u64);
        file.write_all_at(zeros.get(..chunk as usize).unwrap_or_default(), offset)?;
        offset += chunk;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_its_space_and_gives_it_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ballast");
        let ballast = Ballast::new(&path, 3 << 20);
        assert!(!ballast.is_there());
        ballast.make().expect("made");
        assert!(ballast.is_there());
        assert!(disk_bytes(&path) >= 3 << 20);
        ballast.make().expect("it is there");
        fs::write(&path, b"cut short").expect("written");
        assert!(!ballast.is_there());
        assert!((1..3 << 20).contains(&ballast.bytes_on_disk()), "what is there of it counts");
        ballast.make().expect("made again");
        assert!(ballast.is_there());
        assert!(ballast.release().expect("released"));
        assert!(!ballast.release().expect("not there"));
        assert_eq!(ballast.bytes_on_disk(), 0);
    }

    #[test]
    fn without_room_nothing_of_it_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ballast");
        Ballast::new(&path, 1 << 60).make().expect_err("no disk is so large");
        assert!(!path.exists());
    }

    #[test]
    fn zeros_fill_a_file_where_it_cannot_be_allocated() {
        let file = tempfile::tempfile().expect("a file");
        write_zeros(&file, CHUNK_BYTES as u64 + 5).expect("written");
        assert_eq!(file.metadata().expect("looked at").len(), CHUNK_BYTES as u64 + 5);
    }
}
