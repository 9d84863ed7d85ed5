//! The thread that makes the index of the log. Nobody waits for it: what it has not made is scanned.

use std::{
    io,
    sync::mpsc::{self, Sender},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::background::{self, ends_within};
use crate::{
    actors::disk::DiskBoard,
    index::{Index, keeper::Keeper},
    metrics::Metrics,
};

/// How fast it reads the log when it has much to make: the largest log, 20 GiB, in a quarter of an hour.
const INDEX_BYTES_PER_SECOND: usize = 24 << 20;
/// How often it looks for new events. Until then those who ask scan them.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Indexing {
    /// Hung up to stop it.
    running: Sender<()>,
    thread: JoinHandle<()>,
}

impl Indexing {
    pub(super) fn start(index: Index, disk: DiskBoard, metrics: Metrics) -> io::Result<Self> {
        let (running, stopped) = mpsc::channel();
        let run = move || {
            let mut keeper = Keeper::new(index, |bytes| disk.has_room_for(bytes), metrics);
            loop {
                let pause = match keeper.step(Instant::now()) {
                    0 => LOOK_EVERY,
                    bytes => Duration::from_secs(1).mul_f64(bytes as f64 / INDEX_BYTES_PER_SECOND as f64),
                };
                if ends_within(&stopped, pause) {
                    return;
                }
            }
        };
        let thread = background::spawn("index", run)?;
        Ok(Self { running, thread })
    }

    /// Ends the thread, within a step of it.
    pub(super) fn stop(self) {
        drop(self.running);
        if self.thread.join().is_err() {
            tracing::error!("the thread that makes the index did not end as it should");
        }
    }
}
