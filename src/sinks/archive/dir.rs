//! Files below a directory: a `file` sink's, or a copy of a bucket.

use std::{fs, fs::File, io, path::Path};

use super::{ArchiveError, Lister, Object, cannot_read};

/// How deep directories are looked into: a copy of a bucket has four levels.
const MAX_DEPTH: usize = 16;

pub(super) fn list(root: &Path, lister: &mut Lister<'_>) -> Result<(), ArchiveError> {
    list_below(root, "", MAX_DEPTH, lister)
}

fn list_below(root: &Path, below: &str, depth: usize, lister: &mut Lister<'_>) -> Result<(), ArchiveError> {
    let path = root.join(below);
    let name = path.display().to_string();
    let error = cannot_read(&name);
    let Some(depth) = depth.checked_sub(1) else {
        return Err(error(io::Error::other(format!("it is more than {MAX_DEPTH} directories deep"))));
    };
    for entry in fs::read_dir(&path).map_err(&error)? {
        let entry = entry.map_err(&error)?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| error(io::Error::other("a file's name is not UTF-8")))?;
        let name = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        // a link to a file is one; a link to a directory is not followed, for it may lead around in a circle
        let metadata = fs::metadata(entry.path()).map_err(cannot_read(&name))?;
        if metadata.is_file() {
            lister.add(&root.display(), name, metadata.len())?;
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list_below(root, &name, depth, lister)?;
        }
    }
    Ok(())
}

pub(super) fn open(root: &Path, object: &Object) -> Result<File, ArchiveError> {
    File::open(root.join(&object.name)).map_err(cannot_read(&object.name))
}
