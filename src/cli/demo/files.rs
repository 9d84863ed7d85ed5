//! What the `file` sinks have written.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::{audit::Audit, setting::Setting};

/// What every file's name ends in.
const EXTENSION: &str = "ndjson";

/// The files of one sink.
#[derive(Debug)]
pub(super) struct SinkFiles {
    pub(super) dir: PathBuf,
    pub(super) files: u64,
    pub(super) lines: u64,
}

/// The files of all sinks; a sink that has not written what it says is a mismatch.
pub(super) fn of_sinks(setting: &Setting, audit: &mut Audit) -> io::Result<Vec<SinkFiles>> {
    let mut found = Vec::new();
    for sink in &audit.sinks {
        let files = SinkFiles::count(&setting.sink_dir(&sink.name))?;
        if files.lines != sink.delivered {
            audit.tally.mismatches.add(format!(
                "sink {}: {} delivered, but {} lines in {}",
                sink.name,
                sink.delivered,
                files.lines,
                files.dir.display()
            ));
        }
        found.push(files);
    }
    Ok(found)
}

impl SinkFiles {
    fn count(dir: &Path) -> io::Result<Self> {
        let mut found = Self { dir: dir.to_owned(), files: 0, lines: 0 };
        let entries = match fs::read_dir(dir) {
            // a sink that had nothing to write has not made its directory
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                found.files += 1;
                for line in BufReader::new(File::open(path)?).split(b'\n') {
                    line?;
                    found.lines += 1;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ndjson_files_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("a.ndjson", "1\n2\n"), ("b.ndjson", "3\n"), (".lock", "x\n")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let found = SinkFiles::count(dir.path()).unwrap();
        assert_eq!((found.files, found.lines), (2, 3));
        assert_eq!(SinkFiles::count(&dir.path().join("none")).unwrap().files, 0);
    }
}
