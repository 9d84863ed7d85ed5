//! Takes changes of cards that other servers made from a queue, and deletes what is durable here.
//!
//! A message whose change counts is deleted after its commit, one that changes nothing after everything it was held
//! against is durable. What cannot be committed now, and what cannot be read ever, stays in the queue.

mod course;

use std::collections::{HashSet, VecDeque};

use actix::Addr;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use self::course::{Course, Look, Next};
use super::{
    delivery::random,
    directory::{DirectoryActor, HearOfCard, Heard},
    places::NoPlace,
};
use crate::{
    clock,
    delivery::outcome::Trouble,
    domain::{
        card_sync::{Ignored, Message, Poison, read},
        trace::TraceContext,
    },
    metrics::Metrics,
    sinks::card_queue::{CardQueue, QueuedMessage},
};

/// Messages that cannot be read and have been logged, by their ids: each is logged once. Past it the oldest is forgotten.
const MAX_KNOWN_POISON: usize = 1_000;

/// What a card sync works with.
#[derive(Debug)]
pub struct CardSyncParts {
    /// Where changes come from.
    pub queue: CardQueue,
    /// The servers whose changes count, by id.
    pub accept_from: Vec<String>,
    /// This server's id.
    pub own: String,
    /// Who decides and records.
    pub directory: Addr<DirectoryActor>,
    /// Who wants to know.
    pub metrics: Metrics,
}

/// Follows one queue.
#[derive(Debug)]
pub struct CardSync {
    parts: CardSyncParts,
    known_poison: HashSet<String>,
    oldest_poison_first: VecDeque<String>,
    course: Course,
    has_looked_for_redrive_policy: bool,
}

/// What became of a message.
enum Fate {
    /// The log took its change, for which there has to be room.
    Taken,
    Delete,
    Stays,
    /// The log takes nothing now.
    NotNow(NoPlace),
}

impl CardSync {
    /// Begins with whatever the queue has.
    #[must_use]
    pub fn new(parts: CardSyncParts) -> Self {
        Self {
            parts,
            known_poison: HashSet::new(),
            oldest_poison_first: VecDeque::new(),
            course: Course::default(),
            has_looked_for_redrive_policy: false,
        }
    }

    /// Follows the queue for as long as its thread runs: what is not deleted by then comes again.
    pub async fn run(mut self) {
        loop {
            let next = match self.step().await {
                Ok((look, refused)) => self.looked(look, refused),
                Err(trouble) => self.failed(&trouble),
            };
            tokio::time::sleep(next.wait).await;
        }
    }

    /// Takes and settles what the queue gives; why the log did not take some of it.
    async fn step(&mut self) -> Result<(Look, Option<NoPlace>), Trouble> {
        let messages = self.parts.queue.receive().await?;
        if !self.has_looked_for_redrive_policy {
            self.look_for_redrive_policy().await;
        }
        self.parts.metrics.card_sync.received.inc_by(messages.len() as u64);
        let fates = join_all(messages.iter().map(|message| self.settle(&message.body))).await;
        let (mut done, mut look, mut refused) = (Vec::new(), Look::Quiet, None);
        for (message, fate) in messages.into_iter().zip(fates) {
            match fate {
                Ok(Fate::Taken) => {
                    look = Look::Took;
                    done.push(message.receipt);
                }
                Ok(Fate::Delete) => done.push(message.receipt),
                Ok(Fate::Stays) => {}
                Ok(Fate::NotNow(error)) => refused = Some(error),
                Err(poison) => self.note_poison(&message, &poison),
            }
        }
        let deleted = self.parts.queue.delete(done).await;
        match refused {
            // that counts, whatever became of the others: what is not deleted comes again
            Some(_) => Ok((Look::Refused, refused)),
            None => deleted.map(|()| (look, None)),
        }
    }

    async fn settle(&self, body: &str) -> Result<Fate, Poison> {
        let CardSyncParts { accept_from, own, directory, metrics, .. } = &self.parts;
        let ignored = |reason: &str| metrics.card_sync.ignored.with_label_values(&[reason]).inc();
        let foreign = match read(body, accept_from, own)? {
            Message::Change(foreign) => foreign,
            Message::Ignored(reason) => {
                tracing::debug!(reason = reason.as_str(), "a message of the queue of cards comes to nothing");
                ignored(reason.as_str());
                return Ok(Fate::Delete);
            }
        };
        // the other server's trace goes on here
        let (trace, (reply, answer)) = (TraceContext::of_event(body.as_bytes()), oneshot::channel());
        // a full mailbox waits here, and so do messages in their queue
        if directory.send(HearOfCard { foreign: *foreign, trace, reply }).await.is_err() {
            return Ok(Fate::NotNow(NoPlace::Stopping));
        }
        Ok(match answer.await {
            Ok(Ok(Heard::Applied { takes_away })) => {
                metrics.card_sync.applied.inc();
                if takes_away { Fate::Delete } else { Fate::Taken }
            }
            Ok(Ok(Heard::Outdated)) => {
                ignored(Ignored::Outdated.as_str());
                Fate::Delete
            }
            Ok(Err(error)) => Fate::NotNow(error),
            Err(_) => Fate::Stays,
        })
    }

    fn note_poison(&mut self, message: &QueuedMessage, poison: &Poison) {
        self.parts.metrics.card_sync.poison.inc();
        if !self.known_poison.insert(message.id.clone()) {
            return;
        }
        self.oldest_poison_first.push_back(message.id.clone());
        if self.oldest_poison_first.len() > MAX_KNOWN_POISON
            && let Some(oldest) = self.oldest_poison_first.pop_front()
        {
            self.known_poison.remove(&oldest);
        }
        tracing::error!(
            message_id = message.id,
            reason = poison.kind(),
            "a message of the queue of cards can never be read; it stays there until the queue's redrive policy moves it"
        );
    }

    /// Once, of a queue that answers: to be allowed to ask this is a help and no condition.
    async fn look_for_redrive_policy(&mut self) {
        self.has_looked_for_redrive_policy = true;
        match self.parts.queue.has_redrive_policy().await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                "the queue of [card_sync] has no redrive policy: a message that cannot be read comes again and again; give \
                 the queue a dead-letter queue"
            ),
            Err(trouble) => tracing::warn!(
                error = format!("{}: {}", trouble.code, trouble.text),
                "whether the queue of [card_sync] has a redrive policy is not known, and messages are taken all the same; \
                 allow sqs:GetQueueAttributes, or see to it that it has one"
            ),
        }
    }

    fn looked(&mut self, look: Look, refused: Option<NoPlace>) -> Next {
        let next = self.course.looked(look);
        if next.is_well {
            self.parts.metrics.card_sync.last_success.set(clock::wall().as_millis() / 1_000);
        }
        match refused {
            Some(error) if next.is_news => {
                say_that_they_wait(&format!("the log takes them not now: {error}"))
            }
            None if next.is_news => tracing::info!("changes of cards from other servers are taken again"),
            _ => {}
        }
        next
    }

    fn failed(&mut self, trouble: &Trouble) -> Next {
        let next = self.course.failed(random(), trouble.retry_after);
        if next.is_news {
            say_that_they_wait(&format!("{}: {}", trouble.code, trouble.text));
        }
        next
    }
}

fn say_that_they_wait(error: &str) {
    tracing::warn!(error, "changes of cards from other servers wait in their queue");
}
