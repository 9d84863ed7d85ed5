//! The names in a log's directory: what each segment is called, and what is on the way to be one or no longer is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable_fs;
use crate::set_aside;
use crate::store::StoreError;
use crate::store_kind::StoreKind;

/// As many as the largest sequence has, so that names sort as sequences do.
const SEQUENCE_DIGITS: usize = 20;

/// Ends the name of what will be a segment.
const PREPARING_SUFFIX: &str = ".preparing";

/// Ends the name of what was a segment.
const TRIMMED_SUFFIX: &str = ".trimmed";

/// The segment that begins with this sequence.
pub(crate) fn path(dir: &Path, first_sequence: u64, kind: StoreKind) -> PathBuf {
    dir.join(format!("{first_sequence:0SEQUENCE_DIGITS$}{}", kind.suffix()))
}

/// A segment that is being prepared.
pub(crate) fn preparing(dir: &Path, name: &str, kind: StoreKind) -> PathBuf {
    dir.join(format!("{name}{}{PREPARING_SUFFIX}", kind.suffix()))
}

/// What a segment is renamed to before it is deleted.
pub(crate) fn trimmed(segment: &Path) -> PathBuf {
    let mut name = segment.file_name().unwrap_or_default().to_owned();
    name.push(TRIMMED_SUFFIX);
    segment.with_file_name(name)
}

/// Moves a damaged segment away that nobody is to read any more: it is evidence.
pub(crate) fn set_aside(segment: &Path) -> Result<(), StoreError> {
    let name = segment.file_name().unwrap_or_default().to_string_lossy();
    set_aside::set_aside(segment, &segment.with_file_name(set_aside::DIR_NAME), &name)
}

/// The store a segment is in, by its name.
pub(crate) fn kind(path: &Path) -> Option<StoreKind> {
    parse(path).map(|(_, kind)| kind)
}

/// The sequence a segment begins with, by its name. `None`: not a segment.
pub(crate) fn first_sequence(path: &Path) -> Option<u64> {
    parse(path).map(|(first, _)| first)
}

fn parse(path: &Path) -> Option<(u64, StoreKind)> {
    let name = path.file_name()?.to_str()?;
    StoreKind::ALL.into_iter().find_map(|kind| {
        let digits = name.strip_suffix(kind.suffix())?;
        let all_digits = digits.len() == SEQUENCE_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| digits.parse().ok()).flatten().map(|first| (first, kind))
    })
}

/// Removes what a crash left of preparing or trimming.
pub(crate) fn remove_leftovers(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(StoreError::on("list", dir))? {
        let path = entry.map_err(StoreError::on("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(PREPARING_SUFFIX) || name.ends_with(TRIMMED_SUFFIX) {
            durable_fs::remove(&path)?;
        }
    }
    Ok(())
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
        let path = path(Path::new("data"), 42, StoreKind::Sled);
        assert_eq!(path, Path::new("data/00000000000000000042.sled"));
        assert_eq!((first_sequence(&path), kind(&path)), (Some(42), Some(StoreKind::Sled)));
        let file = super::path(Path::new("data"), 42, StoreKind::Files);
        assert_eq!(file, Path::new("data/00000000000000000042.seg"));
        assert_eq!((first_sequence(&file), kind(&file)), (Some(42), Some(StoreKind::Files)));
        assert_eq!(first_sequence(&trimmed(&file)), None);
        assert_eq!(first_sequence(&preparing(Path::new("data"), "next", StoreKind::Files)), None);
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
            fs::create_dir(path(dir.path(), first, StoreKind::Sled)).expect("created");
        }
        fs::create_dir(dir.path().join("set-aside")).expect("created");
        let expected: Vec<_> = [1, 20, 300].map(|first| path(dir.path(), first, StoreKind::Sled)).into();
        assert_eq!(segment_paths(dir.path()).expect("listed"), expected);
        assert!(segment_paths(&dir.path().join("nowhere")).expect("none").is_empty());
    }
}
