//! This program again, in a process of its own with a time limit, because sled may panic or hang over a damaged
//! database.

use std::{
    ffi::OsStr,
    fs, io,
    io::Read,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// The least time that it may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// And this for each of these many bytes: far below what any disk that still works can read.
const TIMEOUT_PER_BYTES: (Duration, u64) = (Duration::from_secs(1), 4 << 20);
/// How often to look whether it has ended.
const POLL: Duration = Duration::from_millis(20);
/// The most that is taken of what it says, where it is not just passed on. It has to fit into a pipe.
const MAX_SAID_BYTES: u64 = 4_096;

/// Where what it prints goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stdout {
    /// To this process' own.
    Shown,
    /// Into [`Ended::said`].
    Kept,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None`: not within this time.
    pub(super) status: Result<ExitStatus, Duration>,
    /// What it printed, if that was kept.
    pub(super) said: String,
}

/// Runs it with these arguments over what lies in `dir`, and waits.
pub(super) fn run<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
    dir: &Path,
    stdout: Stdout,
) -> io::Result<Ended> {
    let (per, bytes) = TIMEOUT_PER_BYTES;
    let chunks = u32::try_from(bytes_below(dir)? / bytes).unwrap_or(u32::MAX);
    let limit = TIMEOUT.saturating_add(per.saturating_mul(chunks));
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(if stdout == Stdout::Kept { Stdio::piped() } else { Stdio::inherit() })
        .spawn()?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Ok(status);
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            break Err(limit);
        }
        std::thread::sleep(POLL);
    };
    let mut said = String::new();
    if let Some(pipe) = child.stdout.take() {
        pipe.take(MAX_SAID_BYTES).read_to_string(&mut said)?;
    }
    Ok(Ended { status, said })
}

/// The size of a file, or of all files below a directory.
pub(super) fn bytes_below(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        bytes += bytes_below(&entry?.path())?;
    }
    Ok(bytes)
}
