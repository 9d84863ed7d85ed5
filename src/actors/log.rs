//! Group commit: what the mailbox gathered during the last sync becomes one batch, one write, one sync;
//! then the answers leave, in order.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, WrapFuture as _};
use turnstiled_wal::Log;

use super::{
    busy_poll::BusyPoll,
    disk::{DiskParts, DiskWatch},
    places::{MAX_IN_FLIGHT_RECORDS, Places, log_bytes, places_of},
    recorder::OnCommit,
};
use crate::{
    clock,
    domain::{record::EventRecord, time::Timestamp},
    metrics::Metrics,
};

/// The most records of one commit: what is over waits for the next one, so that a flood of exits never
/// keeps an entry waiting for much longer than one sync.
pub const MAX_COMMIT_RECORDS: usize = 512;

/// The most bytes of one commit; reached only by events near their own limit.
pub const MAX_COMMIT_BYTES: usize = 1 << 20;

/// How long the router hears nothing after it was told: deliveries take what came meanwhile together, and a
/// decision is not kept from the processor by deliveries that it has only just woken.
pub const TELL_ROUTER_AFTER: Duration = Duration::from_millis(5);

/// How often to look at the disk while nothing is committed: space that was freed is seen so soon.
const LOOK_AT_DISK_EVERY: Duration = Duration::from_secs(1);

/// Some events of one command, and what leaves when they are durable. Without events it waits for
/// everything before it: so reads show committed state only.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Append {
    /// The sequence that the first of them was stamped with.
    pub first_sequence: u64,
    /// The events, as one group: all or none of them are in the log after a crash.
    pub records: Vec<EventRecord>,
    /// Runs after the commit.
    pub on_commit: OnCommit,
}

/// Tells the router that there is more to read.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct LogGrew;

/// Owns the log.
pub struct LogActor {
    log: Log,
    batch: Batch,
    places: Rc<Places>,
    disk: DiskWatch,
    router: Recipient<LogGrew>,
    router_is_due: bool,
    busy_poll: BusyPoll,
    metrics: Metrics,
    /// Of the last event, see [`Timestamp::utc_day`].
    day: i64,
}

#[derive(Default)]
struct Batch {
    appends: Vec<turnstiled_wal::Append>,
    on_commit: Vec<OnCommit>,
    places: usize,
    bytes: usize,
    log_bytes: u64,
    commit_is_due: bool,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Commit;

impl LogActor {
    /// The one writer of `log`, which ends with an event of the time `last`; `router` hears of every commit.
    #[must_use]
    pub fn new(
        log: Log,
        places: Rc<Places>,
        disk: DiskParts,
        router: Recipient<LogGrew>,
        last: Timestamp,
        busy_poll: BusyPoll,
    ) -> Self {
        let (metrics, day) = (disk.metrics.clone(), last.utc_day());
        let mut disk = DiskWatch::new(disk);
        disk.look(&log, &places);
        Self {
            log,
            batch: Batch::default(),
            places,
            disk,
            router,
            router_is_due: false,
            busy_poll,
            metrics,
            day,
        }
    }

    /// A segment ends with its day, so that retention, which goes by whole segments, is kept to the day.
    fn rotate_on_a_new_day(&mut self) {
        let today = clock::wall().utc_day();
        if today > self.day {
            self.day = today;
            self.log.rotate();
        }
    }

    fn commit(&mut self, ctx: &mut Context<Self>) {
        let Batch { appends, on_commit, places, log_bytes, .. } = std::mem::take(&mut self.batch);
        if self.places.are_stopped() {
            return; // memory is ahead of the disk: what waits may not be answered from it
        }
        let leave = |places_of_log: &Places| {
            places_of_log.release(places, log_bytes);
            on_commit.into_iter().for_each(|leave| leave());
        };
        if appends.is_empty() {
            return leave(&self.places);
        }
        self.rotate_on_a_new_day();
        let (started, metrics, places_of_log) = (Instant::now(), &self.metrics, &self.places);
        let end = self.log.next_sequence().saturating_add(appends.len() as u64).saturating_sub(1);
        let committed = self.log.commit_then(&appends, || {
            metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
            // before the answers leave: whoever has one finds it counted
            metrics.log_sequence.set(i64::try_from(end).unwrap_or(i64::MAX));
            leave(places_of_log);
        });
        match committed {
            Err(error) => self.stop(&error.to_string()),
            Ok(_) => {
                self.metrics.commit_records.observe(appends.len() as f64);
                self.disk.committed(log_bytes, &self.log, &self.places);
                self.tell_router_soon(ctx);
                self.busy_poll.committed(appends.len());
                if self.busy_poll.is_worth_it() {
                    let busy_poll = self.busy_poll.clone();
                    ctx.spawn(async move { busy_poll.stay_awake().await }.into_actor(self));
                }
            }
        }
    }

    fn tell_router_soon(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.router_is_due, true) {
            return;
        }
        ctx.run_later(TELL_ROUTER_AFTER, |actor, _| {
            actor.router_is_due = false;
            // A full mailbox already holds such a message, and one is enough: the router reads up to the end.
            let _ = actor.router.try_send(LogGrew);
        });
    }

    /// Memory is ahead of the disk: nothing is granted any more. Dropping the batch answers its requests
    /// with 503; the process ends once those are out, and recovers from what the disk has.
    fn stop(&mut self, error: &str) {
        tracing::error!(
            error,
            "the log could not commit; the server stops and recovers from disk at its next start"
        );
        self.places.stop();
        std::thread::spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(200));
            std::process::exit(1);
        });
    }
}

impl Actor for LogActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // One for every place, so that a sender that holds a place is never refused.
        ctx.set_mailbox_capacity(MAX_IN_FLIGHT_RECORDS + 1);
        ctx.run_interval(LOOK_AT_DISK_EVERY, |actor, _| actor.disk.look(&actor.log, &actor.places));
    }
}

impl Handler<Append> for LogActor {
    type Result = ();

    fn handle(&mut self, append: Append, ctx: &mut Self::Context) {
        let expected = self.log.next_sequence().saturating_add(self.batch.appends.len() as u64);
        if !append.records.is_empty() && append.first_sequence != expected && !self.places.are_stopped() {
            self.stop(&format!("event {} came where {expected} was due", append.first_sequence));
        }
        let more_bytes: usize = append.records.iter().map(|record| record.payload().len()).sum();
        let batch = &self.batch;
        let is_full = batch.appends.len() + append.records.len() > MAX_COMMIT_RECORDS
            || batch.bytes + more_bytes > MAX_COMMIT_BYTES;
        if is_full {
            self.commit(ctx);
        }
        self.batch.places += places_of(append.records.len());
        self.batch.log_bytes += log_bytes(&append.records);
        let last = append.records.len().saturating_sub(1);
        self.batch.appends.extend(append.records.into_iter().enumerate().map(|(index, record)| {
            turnstiled_wal::Append { payload: record.payload().clone(), ends_group: index == last }
        }));
        self.batch.bytes += more_bytes;
        self.batch.on_commit.push(append.on_commit);
        if !self.batch.commit_is_due {
            // Runs once the mailbox is empty: by then everything that waited has been gathered.
            self.batch.commit_is_due = true;
            ctx.notify(Commit);
        }
    }
}

impl Handler<Commit> for LogActor {
    type Result = ();

    fn handle(&mut self, _: Commit, ctx: &mut Self::Context) {
        self.commit(ctx);
    }
}
