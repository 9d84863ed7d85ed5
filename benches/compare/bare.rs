//! The least that a durable append can cost: one write, one fdatasync.

use std::time::Instant;

use crate::{
    support::BareFile,
    support::measure::{Measured, Tally, Window},
};

/// Appends again and again, on one thread.
pub(crate) fn run(file: &mut BareFile, bytes: &[u8], seconds: f64) -> Measured {
    let window = Window::from_now(seconds);
    let mut tally = Tally::default();
    loop {
        let begun = Instant::now();
        file.append(bytes);
        if !tally.count_of(1, true, begun, window) {
            return tally.measured(window);
        }
    }
}
