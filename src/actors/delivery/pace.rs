//! How long sends take: in the metrics, and in the log when that is too long.

use super::DeliveryActor;
use crate::{
    delivery::{
        outcome::Outcome,
        slowness::{Notice, SLOW_SEND, Sending},
    },
    domain::trace::TraceContext,
    trace::current,
};

/// A send that has ended.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) send: Sending,
    /// Whose span shows it; without a collector its first event's.
    pub(super) trace: Option<TraceContext>,
}

impl DeliveryActor {
    /// Counts how long it took; what came of it.
    pub(super) fn note_pace(&mut self, Sent { outcomes, send, trace }: Sent) -> Vec<Outcome> {
        self.seconds.observe(send.took.as_secs_f64());
        let _trace = current::enter(trace);
        let seconds = send.took.as_secs_f64();
        match self.slowness.look(&send, self.started.elapsed()) {
            Some(Notice::Slow) => {
                tracing::warn!(sink = %self.name, seconds, slow_after_seconds = SLOW_SEND.as_secs(), "the sink has become slow; its events wait");
            }
            Some(Notice::QuickAgain { after }) => {
                tracing::info!(sink = %self.name, seconds, after_seconds = after.as_secs(), "the sink is quick again");
            }
            None => {}
        }
        outcomes
    }
}
