//! Servers that are not being measured rest: stopped by a signal, with their children, so that nothing of theirs runs
//! on the same cores and disk. Whoever is measured next is woken and left alone until it has done what fell due.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::processor;

/// How often to look whether a woken server is still at work.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A server is quiet that took at most this much processor time from one look to the next, in ticks of 10 ms.
const QUIET_TICKS: u64 = 1;

/// So many quiet looks in a row, and it is measured.
const QUIET_LOOKS: usize = 4;

/// Measured by then, quiet or not: what it does all the time is its own.
const WAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// Stops a process and its children; the parent first, so that no child comes meanwhile.
pub(crate) fn stop(pid: u32) {
    signal("-STOP", &[pid]);
    signal("-STOP", &family(pid));
}

/// Lets a process and its children go on.
pub(crate) fn go_on(pid: u32) {
    signal("-CONT", &family(pid));
}

/// Lets it go on, and waits until what fell due meanwhile is done and written.
pub(crate) fn wake(pid: u32) {
    go_on(pid);
    let begun = Instant::now();
    let mut quiet_looks = 0;
    let mut before = ticks(pid);
    while quiet_looks < QUIET_LOOKS && begun.elapsed() < WAKE_TIMEOUT {
        thread::sleep(LOOK_EVERY);
        let now = ticks(pid);
        quiet_looks = if now.saturating_sub(before) <= QUIET_TICKS { quiet_looks + 1 } else { 0 };
        before = now;
    }
    if quiet_looks < QUIET_LOOKS {
        eprintln!("process {pid} is not quiet {WAKE_TIMEOUT:?} after it was woken; it is measured so");
    }
}

/// Writes what the kernel still holds of anyone's files, so that it is not on the next one's bill.
pub(crate) fn write_back() {
    assert!(Command::new("sync").status().unwrap().success(), "sync");
}

/// A child may end between the look and the signal, so what `kill` says of one is not an error.
fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    Command::new("kill").arg(name).args(pids).stderr(Stdio::null()).status().unwrap();
}

/// A process, its children, their children and so on.
fn family(pid: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = (fs::read_dir("/proc").unwrap().flatten())
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, processor::parent(pid)?)))
        .collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        next += 1;
    }
    family
}

/// Processor time of the whole family, in ticks.
fn ticks(pid: u32) -> u64 {
    family(pid).into_iter().filter_map(processor::ticks).sum()
}
