//! `set-aside/`: what nobody is to read any more, and someone may want to look at.

use std::fs;
use std::path::{Path, PathBuf};

use crate::durable_fs;
use crate::space::disk_bytes;
use crate::store::StoreError;

/// Beside what is set aside.
pub(crate) const DIR_NAME: &str = "set-aside";

/// So many segments and files are kept, and count as taken by the log; of more the oldest go.
pub const MAX_SET_ASIDE: usize = 4;

/// Moves a file or a directory away, durably, as `name`.
pub(crate) fn set_aside(from: &Path, dir: &Path, name: &str) -> Result<(), StoreError> {
    durable_fs::create_dir_all(dir)?;
    let mut to = dir.join(name);
    let mut copy = 1_u32;
    while to.exists() {
        copy += 1;
        to = dir.join(format!("{name}.{copy}"));
    }
    fs::rename(from, to).map_err(StoreError::on("set aside", from))?;
    durable_fs::sync_dir(dir)?;
    from.parent().map_or(Ok(()), durable_fs::sync_dir)?;
    remove_surplus(dir)
}

/// What is set aside in `parent` takes of the disk.
pub(crate) fn bytes(parent: &Path) -> u64 {
    disk_bytes(&parent.join(DIR_NAME))
}

/// Names begin with sequences, and so sort by age.
fn remove_surplus(dir: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(dir).map_err(StoreError::on("list", dir))?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(StoreError::on("list", dir))?;
    paths.sort();
    let surplus = paths.len().saturating_sub(MAX_SET_ASIDE);
    paths.iter().take(surplus).try_for_each(|path| durable_fs::remove(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_counted() {
        let parent = tempfile::tempdir().expect("a directory");
        let (from, dir) = (parent.path().join("from"), parent.path().join(DIR_NAME));
        assert_eq!(bytes(parent.path()), 0);
        for name in ["1.seg", "2.seg", "2.seg", "3.seg", "4.seg"] {
            fs::write(&from, [1; 8_192]).expect("written");
            set_aside(&from, &dir, name).expect("set aside");
        }
        let mut names: Vec<_> =
            fs::read_dir(&dir).expect("listed").map(|entry| entry.expect("listed").file_name()).collect();
        names.sort();
        assert_eq!(names, ["2.seg", "2.seg.2", "3.seg", "4.seg"]);
        assert_eq!(bytes(parent.path()), MAX_SET_ASIDE as u64 * 8_192);
    }
}
