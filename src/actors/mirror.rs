//! Mirrors dead letters to a queue, at least once each time one is refused. A queue that is away delays nothing else: the
//! letters are kept here, and [marked](super::mirror_marks) until the queue has them.

use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::{
    dead_letters::{DeadLetter, MARK_BYTES},
    delivery::random,
    disk::DiskBoard,
    mirror_marks::ToMirror,
    sink_state::{SinkStateError, SinkStates},
};
use crate::{
    delivery::{
        outcome::{Outcome, Trouble},
        retry::Backoff,
    },
    metrics::Metrics,
    sinks::letter_queue::{LetterMessage, LetterQueue, MAX_BATCH_BYTES, MAX_BATCH_LETTERS},
};

/// How often to look for new dead letters.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When to look again after dead letters could not be read, or while the disk is full.
const STALLED_RETRY: Duration = Duration::from_secs(30);
/// What a batch's marks take when they go, generously.
const BATCH_BYTES: u64 = MARK_BYTES * MAX_BATCH_LETTERS as u64;

/// What a mirror works with.
#[derive(Debug)]
pub struct MirrorParts {
    /// Where to.
    pub queue: LetterQueue,
    /// Where the letters are.
    pub states: SinkStates,
    /// How the disk is.
    pub disk: DiskBoard,
    /// Who wants to know.
    pub metrics: Metrics,
}

/// Sends what is marked to the queue. It shares a thread with the deliveries, which set the marks: so nobody sets one
/// again between the look at it and its removal.
#[derive(Debug)]
pub struct MirrorActor {
    queue: LetterQueue,
    states: SinkStates,
    disk: DiskBoard,
    metrics: Metrics,
    /// In a row.
    failures: u32,
    /// The queue refused a batch without saying which letter it means: they go one by one.
    one_by_one: bool,
}

impl MirrorActor {
    /// Begins with what is marked still.
    #[must_use]
    pub fn new(parts: MirrorParts) -> Self {
        let MirrorParts { queue, states, disk, metrics } = parts;
        Self { queue, states, disk, metrics, failures: 0, one_by_one: false }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        match self.next_batch() {
            Ok((batch, _)) if batch.is_empty() => {
                // whatever was counted before
                self.metrics.dead_letters_to_mirror.set(0);
                Self::look_in(LOOK_EVERY, ctx);
            }
            Ok(_) if !self.disk.has_room_for_state(BATCH_BYTES) => Self::look_in(STALLED_RETRY, ctx),
            Ok((batch, messages)) => {
                let sent = self.queue.send(messages).into_actor(self);
                ctx.spawn(sent.map(move |outcomes, actor, ctx| actor.sent(batch, outcomes, ctx)));
            }
            Err(error) => {
                tracing::error!(%error, "dead letters cannot be read, so they are not mirrored");
                Self::look_in(STALLED_RETRY, ctx);
            }
        }
    }

    fn look_in(wait: Duration, ctx: &mut Context<Self>) {
        ctx.run_later(wait, Self::look);
    }

    /// Letters and their messages. The marks of letters that are gone are removed.
    fn next_batch(&self) -> Result<(Vec<ToMirror>, Vec<LetterMessage>), SinkStateError> {
        let max = if self.one_by_one { 1 } else { MAX_BATCH_LETTERS };
        let (mut batch, mut messages, mut gone, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0_usize);
        for found in self.states.to_mirror(MAX_BATCH_LETTERS)? {
            let Some(message) = found.letter.as_ref().map(message).transpose()? else {
                gone.push(found);
                continue;
            };
            bytes = bytes.saturating_add(message.json.len());
            if batch.len() == max || (bytes > MAX_BATCH_BYTES && !batch.is_empty()) {
                break;
            }
            messages.push(message);
            batch.push(found);
        }
        if self.disk.has_room_for_state(BATCH_BYTES) {
            self.done(&gone);
        }
        Ok((batch, messages))
    }

    fn sent(&mut self, batch: Vec<ToMirror>, outcomes: Vec<Outcome>, ctx: &mut Context<Self>) {
        let (mut done, mut failed, mut next_look, size) = (Vec::new(), None, None, batch.len());
        self.one_by_one = false;
        for (found, outcome) in batch.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered => done.push(found),
                Outcome::Later(wait) => next_look = Some(wait.max(LOOK_EVERY)),
                Outcome::Retry(trouble) => failed = Some(trouble),
                Outcome::BatchRefused(_) if size > 1 => self.one_by_one = true,
                Outcome::BatchRefused(trouble) | Outcome::Rejected(trouble) => {
                    self.refused(&found, &trouble);
                    done.push(found);
                }
            }
        }
        self.done(&done);
        match failed {
            Some(trouble) => self.failed(&trouble, ctx),
            None => {
                if self.failures > 0 {
                    tracing::info!("the queue of dead letters takes them again");
                }
                self.failures = 0;
                match next_look {
                    Some(wait) => Self::look_in(wait, ctx),
                    None => self.look(ctx),
                }
            }
        }
    }

    /// A write that fails costs the process, as with progress.
    fn done(&self, letters: &[ToMirror]) {
        if let Err(error) = self.states.mirrored(letters) {
            tracing::error!(%error, "it cannot be written that dead letters are mirrored; the server stops and goes on from disk at its next start");
            std::process::exit(1);
        }
        // those that came since the last count are not in it
        let counted = self.metrics.dead_letters_to_mirror.get();
        let left = counted.saturating_sub(i64::try_from(letters.len()).unwrap_or(i64::MAX)).max(0);
        self.metrics.dead_letters_to_mirror.set(left);
    }

    /// It is still here, and the queue would refuse it for ever.
    fn refused(&self, found: &ToMirror, trouble: &Trouble) {
        let id = found.letter.as_ref().map_or("", |letter| letter.id.as_str());
        let (code, text) = (&trouble.code, &trouble.text);
        tracing::error!(
            dead_letter = id,
            code,
            text,
            "the queue of dead letters refuses this one; it stays here"
        );
        self.metrics.dead_letters_not_mirrored.inc();
    }

    fn failed(&mut self, trouble: &Trouble, ctx: &mut Context<Self>) {
        if self.failures == 0 {
            let (code, text) = (&trouble.code, &trouble.text);
            tracing::warn!(
                code,
                text,
                "dead letters cannot be mirrored now; they stay here and are sent later"
            );
        }
        self.failures = self.failures.saturating_add(1);
        self.count();
        Self::look_in(Backoff::RECORD.delay_after(self.failures, random(), trouble.retry_after), ctx);
    }

    fn count(&self) {
        if let Ok(count) = self.states.count_to_mirror() {
            self.metrics.dead_letters_to_mirror.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

fn message(letter: &DeadLetter) -> Result<LetterMessage, SinkStateError> {
    let json = serde_json::to_string(letter)
        .map_err(|source| SinkStateError::Content { what: format!("dead letter {}", letter.id), source })?;
    let DeadLetter { id, sink, code, attempts, .. } = letter.clone();
    Ok(LetterMessage { id, sink, code, attempts, json })
}

impl Actor for MirrorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.count();
        self.look(ctx);
    }
}
