//! What is being opened right now, for the one message that matters when opening does not return.
//!
//! sled 0.34.7 panicked on opening 32 of 40 databases with one flipped bit. A release build aborts on a panic, so
//! no code after the open can say anything, and sled's own message names neither the file nor what to do. A panic
//! hook still runs before the abort: [`explain_panics_while_opening`] adds both. For the open that hangs, callers
//! log [`crate::segment_paths`] before they call [`crate::Log::open`].

use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, TryLockError};

static OPENING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Lists a path as being opened until it is dropped.
#[derive(Debug)]
pub(crate) struct Opening(PathBuf);

impl Opening {
    pub(crate) fn of(path: &Path) -> Opening {
        OPENING.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        Opening(path.to_owned())
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = opening.iter().position(|path| *path == self.0) {
            opening.swap_remove(index);
        }
    }
}

/// Makes every panic that happens while a store is being opened name that store and the next command on stderr,
/// after the usual message. Call it once, first thing in `main`; it keeps the hook that was there.
pub fn explain_panics_while_opening() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        usual(panic);
        // never wait inside a panic: its own thread may hold the lock
        let opening = match OPENING.try_lock() {
            Ok(opening) => opening,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        for path in opening.iter() {
            eprintln!(
                "turnstiled: this happened while opening {}, which is probably damaged; \
                 copy it before anything else, then {}",
                path.display(),
                crate::VERIFY_HINT
            );
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::{Append, Log, LogOptions, segments};

    const DIR_VARIABLE: &str = "TURNSTILED_TEST_DAMAGED_DIR";

    /// sled reads the log file itself if there is no snapshot of its page table, and panics on what it finds.
    #[test]
    fn a_panic_while_opening_names_the_segment_and_the_command() {
        let dir = tempfile::tempdir().expect("a directory");
        let segment = fill(dir.path());
        let data_file = segment.join("db");
        let mut bytes = fs::read(&data_file).expect("read");
        let third = bytes.len() / 3;
        bytes[third] ^= 0x10;
        fs::write(&data_file, bytes).expect("damaged");
        for entry in fs::read_dir(&segment).expect("listed") {
            let entry = entry.expect("listed");
            if entry.file_name().to_string_lossy().starts_with("snap.") {
                fs::remove_file(entry.path()).expect("removed");
            }
        }
        let stderr = open_in_child(dir.path());
        assert!(stderr.contains("panicked at"), "else this test is of no use: {stderr}");
        let note = stderr.lines().last().expect("a last line");
        assert!(note.contains(&segment.display().to_string()), "{stderr}");
        assert!(note.contains("run `turnstiled wal verify`"), "{stderr}");
    }

    /// The other half of the test above, in a process of its own; does nothing when run with the others.
    #[test]
    fn child() {
        let Ok(dir) = std::env::var(DIR_VARIABLE) else { return };
        explain_panics_while_opening();
        drop(Log::open(Path::new(&dir), LogOptions::default()));
    }

    fn open_in_child(dir: &Path) -> String {
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "opening::tests::child", "--nocapture"])
            .env(DIR_VARIABLE, dir)
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// More than one of sled's own segments, opened twice.
    fn fill(dir: &Path) -> PathBuf {
        let mut log = Log::open(dir, LogOptions::default()).expect("opened");
        let batch = vec![Append { payload: vec![1; 1000].into(), ends_group: true }; 100];
        for _ in 0..20 {
            log.commit(&batch).expect("committed");
        }
        drop(log);
        drop(Log::open(dir, LogOptions::default()).expect("opened"));
        segments::path(dir, 1)
    }
}
