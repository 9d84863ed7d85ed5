//! What the log says of a delivery, beside what is shown of it.

use super::DeliveryActor;
use crate::{
    delivery::{
        notices::{Notice, REPEAT_EVERY},
        outcome::Trouble,
        progress::{Detached, Settlement},
        status::Status,
    },
    domain::trace::TraceContext,
    sinks::advice::next_step,
    trace::current,
};

/// What codes of an answer begin with whose text is not the service's own: a receiver may repeat the event in it.
const FOREIGN_TEXT: &str = "Http";

impl DeliveryActor {
    /// Says which events are dead letters from now on.
    pub(super) fn report_dead(&self, settlement: &Settlement) {
        for dead in &settlement.dead {
            let (sequence, code) = (dead.outgoing.sequence, &dead.trouble.code);
            let _trace = current::enter(TraceContext::of_event(&dead.outgoing.body));
            tracing::error!(sink = %self.name, sequence, code, "the service calls this event invalid; it is a dead letter now");
        }
    }

    pub(super) fn report(&mut self, status: &Status) {
        if status.detached.last() != self.last_detached.as_ref() {
            self.last_detached = status.detached.last().copied();
            self.report_detached();
        }
        if status.letters_are_full != self.letters_were_full {
            self.letters_were_full = status.letters_are_full;
            self.report_letters(status);
        }
        match self.notices.look(status, self.started.elapsed()) {
            Some(Notice::Held { trouble, lasts }) => {
                let (text, next_step) = (text_for_log(&trouble), next_step(&trouble.code));
                tracing::error!(sink = %self.name, code = trouble.code, text, next_step, lasts_seconds = lasts.as_secs(), repeats_after_seconds = REPEAT_EVERY.as_secs(), "the sink is held until someone mends this; its events wait and are tried again");
            }
            Some(Notice::Away { trouble, lasts }) => {
                let text = text_for_log(&trouble);
                tracing::warn!(sink = %self.name, code = trouble.code, text, lasts_seconds = lasts.as_secs(), "the sink's service cannot be reached or does not take anything; events wait and it is tried again");
            }
            Some(Notice::Back { after }) => {
                tracing::info!(sink = %self.name, after_seconds = after.as_secs(), "the sink delivers again");
            }
            None => {}
        }
    }

    fn report_detached(&self) {
        if let Some(Detached { first, last, events, .. }) = self.last_detached {
            tracing::error!(sink = %self.name, first, last, events, "the disk is nearly full: the sink is behind and was let go of; these events count as dead, replay them from the archive");
        }
    }

    fn report_letters(&self, Status { letters, letters_are_full, .. }: &Status) {
        if *letters_are_full {
            tracing::error!(sink = %self.name, letters, "no more dead letters are kept: what the service refuses from here on waits and holds up this sink; redrive or discard some");
        } else {
            tracing::info!(sink = %self.name, letters, "there is place for dead letters again");
        }
    }
}

fn text_for_log(trouble: &Trouble) -> &str {
    if trouble.code.starts_with(FOREIGN_TEXT) { "see last_error in /v1/sinks" } else { &trouble.text }
}
