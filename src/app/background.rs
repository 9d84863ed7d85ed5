//! Threads whose work can wait.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Ten steps below those who serve: about a tenth of their share of the processor while they want all of it, and all
/// of it while they do not (Linux counts niceness by thread, see sched(7)).
const NICENESS: i32 = 10;

/// Starts such a thread.
///
/// # Errors
/// The system makes no thread.
pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::warn!(%error, "the thread {:?} runs beside answers, not behind them", thread::current().name());
        }
        run();
    })
}

/// Whether the owner of such a thread hangs up within this time.
pub(super) fn ends_within(stopped: &Receiver<()>, time: Duration) -> bool {
    !matches!(stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}
