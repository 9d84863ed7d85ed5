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
    use std::process::Command;

    use super::*;

    const CHILD_VARIABLE: &str = "TURNSTILED_TEST_PANIC_WHILE_OPENING";

    /// With a panic of our own: where sled panics depends on how its threads laid the file out.
    #[test]
    fn a_panic_while_opening_names_the_store_and_the_command() {
        let stderr = panic_in_child("opening");
        let note = stderr.lines().last().expect("a last line");
        assert!(note.contains("data/00000000000000000001.sled"), "{stderr}");
        assert!(note.contains("run `turnstiled wal verify`"), "{stderr}");
        assert!(!note.contains("opened-before.sled"), "{stderr}");
        let stderr = panic_in_child("later");
        assert!(stderr.contains("as sled does") && !stderr.contains("wal verify"), "{stderr}");
    }

    /// The other half of the test above, in a process of its own; does nothing when run with the others.
    #[test]
    fn child() {
        let Ok(when) = std::env::var(CHILD_VARIABLE) else { return };
        explain_panics_while_opening();
        drop(Opening::of(Path::new("data/opened-before.sled")));
        let _opening = (when == "opening").then(|| Opening::of(Path::new("data/00000000000000000001.sled")));
        // on a thread of its own, as sled's are
        let panicked = std::thread::spawn(|| panic!("as sled does")).join();
        panicked.expect_err("a panic");
    }

    fn panic_in_child(when: &str) -> String {
        let output = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "opening::tests::child", "--nocapture"])
            .env(CHILD_VARIABLE, when)
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("started");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}
