//! Standard output: one line an event, for pipes and for looking on.

use std::{
    io::{self, Write},
    time::Duration,
};

use futures_util::future::BoxFuture;

use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, Order, Outcome},
    },
    sinks::{Sink, failure::outcome_of_io_error},
};

/// Lines written at once: a screenful more or less costs nothing.
const MAX_BATCH_RECORDS: usize = 1_000;
/// Bytes written at once.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// The line feed after each event.
const LINE_FEED_BYTES: usize = 1;

/// Writes events to standard output. Durable is here what the pipe has taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdoutSink;

impl StdoutSink {
    /// A sink on this process's standard output.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Sink for StdoutSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: MAX_BATCH_RECORDS,
            max_bytes: MAX_BATCH_BYTES,
            record_overhead_bytes: LINE_FEED_BYTES,
            linger: Duration::ZERO,
            max_in_flight: 1,
            order: Order::Batch,
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        Box::pin(async move {
            let records = batch.len();
            // a reader that has stopped reading must not hold up the runtime's thread
            let written =
                tokio::task::spawn_blocking(move || write_lines(&mut io::stdout().lock(), &batch)).await;
            let outcome = match written.map_err(io::Error::other).flatten() {
                Ok(()) => Outcome::Delivered,
                Err(error) => outcome_of_io_error(&error, "standard output"),
            };
            vec![outcome; records]
        })
    }
}

/// Writes one line an event, in one write.
///
/// # Errors
/// Whatever the writer says.
pub fn write_lines(out: &mut impl Write, batch: &[Outgoing]) -> io::Result<()> {
    out.write_all(&lines(batch))?;
    out.flush()
}

/// The events as ndjson: one line each, the last one ended too.
#[must_use]
pub fn lines(batch: &[Outgoing]) -> Vec<u8> {
    let bytes = batch.iter().map(|event| event.body.len() + LINE_FEED_BYTES).sum();
    let mut lines = Vec::with_capacity(bytes);
    for event in batch {
        lines.extend_from_slice(&event.body);
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::test_events::event;

    #[test]
    fn one_line_an_event() {
        let batch = [event("card.lost", "", "E1", 1), event("card.lost", "", "E1", 2)];
        let mut out = Vec::new();
        write_lines(&mut out, &batch).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.ends_with("}\n"));
        assert_eq!(text.lines().next().unwrap().as_bytes(), &batch[0].body[..]);
    }
}
