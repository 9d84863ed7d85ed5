//! What is being opened right now, for the one message that matters when opening does not return.
//!
//! sled 0.34.7 panicked on opening 32 of 40 databases with one flipped bit. A release build aborts on a panic, so
//! no code after the open can say anything, and sled's own message names neither the file nor what to do. A panic
//! hook still runs before the abort: [`explain_panics_while_opening`] adds both. For the open that hangs, callers
//! log [`crate::segment_paths`] before they call [`crate::Log::open`].

use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, TryLockError};

static OPENING: Mutex<Vec<Note>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    path: PathBuf,
    hint: String,
}

/// Lists a path as being opened, and what to do if it is damaged, until it is dropped. Hold it until everything
/// that an open checks has been read: sled panics over damaged pages then, too.
#[derive(Debug)]
pub(crate) struct Opening(Note);

impl Opening {
    pub(crate) fn of(path: &Path, hint: &str) -> Opening {
        let note = Note { path: path.to_owned(), hint: hint.to_owned() };
        OPENING.lock().unwrap_or_else(PoisonError::into_inner).push(note.clone());
        Opening(note)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = opening.iter().position(|note| *note == self.0) {
            opening.swap_remove(index);
        }
    }
}

#[cfg(test)]
pub(crate) fn is_listed(path: &Path) -> bool {
    OPENING.lock().expect("no panic").iter().any(|note| note.path == path)
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
        for Note { path, hint } in opening.iter() {
            eprintln!(
                "turnstiled: this happened while opening {}, which is probably damaged; \
                 copy it before anything else, then {hint}",
                path.display()
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
        let stderr = panic_in_child("opening state");
        let note = stderr.lines().last().expect("a last line");
        assert!(
            note.contains("data/state, which") && note.contains("then move data/state away: "),
            "{stderr}"
        );
        assert!(!note.contains("wal verify"), "{stderr}");
        let stderr = panic_in_child("later");
        assert!(stderr.contains("as sled does") && !stderr.contains("wal verify"), "{stderr}");
    }

    /// The other half of the test above, in a process of its own; does nothing when run with the others.
    #[test]
    fn child() {
        let Ok(when) = std::env::var(CHILD_VARIABLE) else { return };
        explain_panics_while_opening();
        drop(Opening::of(Path::new("data/opened-before.sled"), "do nothing"));
        let segment = Path::new("data/00000000000000000001.sled");
        let state = Path::new("data/state");
        let _opening = match when.as_str() {
            "opening" => Some(Opening::of(segment, crate::VERIFY_HINT)),
            "opening state" => Some(Opening::of(state, &crate::state_open::move_away(state))),
            _ => None,
        };
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
