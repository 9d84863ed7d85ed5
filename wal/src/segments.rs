//! The names of segments. Today a log has one; a name says where its segment begins, so that there can be more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::StoreError;

const SLED_SUFFIX: &str = ".sled";
/// As many as the largest sequence has, so that names sort as sequences do.
const SEQUENCE_DIGITS: usize = 20;

/// The directory of the segment that begins with this sequence.
pub(crate) fn path(dir: &Path, first_sequence: u64) -> PathBuf {
    dir.join(format!("{first_sequence:0SEQUENCE_DIGITS$}{SLED_SUFFIX}"))
}

/// The sequence a segment begins with, by its name. `None`: not a segment.
pub(crate) fn first_sequence(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(SLED_SUFFIX)?;
    let all_digits = digits.len() == SEQUENCE_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

/// The segments of the log in `dir`, in order of their sequences; none if there is no such directory. Opens none
/// of them: log these before opening, because opening a damaged one may hang.
///
/// # Errors
/// The directory cannot be listed.
pub fn segment_paths(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StoreError::on("list", dir))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(StoreError::on("list", dir))?.path();
        if first_sequence(&path).is_some() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_its_segment_begins() {
        let path = path(Path::new("data"), 42);
        assert_eq!(path, Path::new("data/00000000000000000042.sled"));
        assert_eq!(first_sequence(&path), Some(42));
        for other in
            ["42.sled", "0000000000000000004x.sled", "00000000000000000042", "high-water", "set-aside"]
        {
            assert_eq!(first_sequence(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn segments_are_listed_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        for first in [300, 1, 20] {
            fs::create_dir(path(dir.path(), first)).expect("created");
        }
        fs::create_dir(dir.path().join("set-aside")).expect("created");
        let expected: Vec<_> = [1, 20, 300].map(|first| path(dir.path(), first)).into();
        assert_eq!(segment_paths(dir.path()).expect("listed"), expected);
        assert!(segment_paths(&dir.path().join("nowhere")).expect("none").is_empty());
    }
}
