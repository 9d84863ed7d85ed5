//! Who begins and ends replays, and lets those go on that a stop or a crash has interrupted.

use std::collections::{BTreeSet, HashMap};

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use thiserror::Error;
use tokio::sync::oneshot;

use super::{
    CancelReplay, ReplayActor, Shared, StopReplay,
    board::{ReplayBoard, ReplayReport},
    prepare::{RefusedOrder, ReplayPlaces},
    record::{MAX_KEPT_REPLAYS, RECORD_BYTES, ReplayRecord, ReplayState},
    state_check::{self, Cancel, LiveState, StateCheck},
};
use crate::{
    actors::{
        deliveries::Deliveries,
        disk::DiskBoard,
        sink_state::{SinkStateError, SinkStates},
    },
    clock,
    domain::{
        ids::ReplayName,
        replay::{ReplayOrder, STATE},
    },
    metrics::Metrics,
};

/// Requests that may wait; at the limit they are answered 503.
pub const MAILBOX_MESSAGES: usize = 64;
/// Replays that go on at once. Each holds a window of events in memory.
pub const MAX_RUNNING_REPLAYS: usize = 4;

/// Begins and ends replays.
pub struct ReplaysActor {
    places: ReplayPlaces,
    sinks: Deliveries,
    pub(super) shared: Shared,
    live: LiveState,
    pub(super) running: HashMap<ReplayName, Running>,
    /// Sinks whose deliveries are being replaced, and the replays that rest until they are.
    pub(super) held: BTreeSet<String>,
    pub(super) resting: BTreeSet<ReplayName>,
    /// Those that a start has found.
    found: Vec<ReplayRecord>,
}

pub(super) enum Running {
    Sends(Addr<ReplayActor>),
    Checks(Cancel),
}

/// What it works with.
#[derive(Debug)]
pub struct ReplaysParts {
    /// Where replays may lead.
    pub places: ReplayPlaces,
    /// The sinks of the configuration.
    pub sinks: Deliveries,
    /// What may be compared with.
    pub live: LiveState,
    /// Where cursors go.
    pub states: SinkStates,
    /// Who wants to know.
    pub board: ReplayBoard,
    /// How full the disk is.
    pub disk: DiskBoard,
    /// Where events are counted.
    pub metrics: Metrics,
    /// What is kept of earlier ones.
    pub found: Vec<ReplayRecord>,
}

/// Why nothing was done.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReplaysError {
    /// Another replay has the name.
    #[error(
        "there is a replay {0} already, with another order: give this one another name, or delete that one"
    )]
    NameIsTaken(ReplayName),
    /// It was allowed when it was asked for.
    #[error("the configuration has changed meanwhile: the target or source {0}")]
    Refused(String),
    /// At the limit.
    #[error("{MAX_RUNNING_REPLAYS} replays are running, the most at once: wait for one, or delete one")]
    TooMany,
    /// There is none of this name.
    #[error("there is no replay {0}")]
    NotThere(ReplayName),
    /// A write that fails would cost the server.
    #[error("the server's disk is full: nothing is done; free some space where data_dir is, then try again")]
    DiskFull,
}

/// Begin a replay. Of one that is there already with the same order nothing changes. The reply comes when the replay is
/// durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct BeginReplay {
    /// From [`ReplayPlaces::prepare`].
    pub record: ReplayRecord,
    /// How it stands.
    pub reply: oneshot::Sender<Result<ReplayReport, ReplaysError>>,
}

/// End a replay, or forget one that is over. The reply comes when that is durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DeleteReplay {
    /// Which.
    pub name: ReplayName,
    /// How it stood.
    pub reply: oneshot::Sender<Result<(), ReplaysError>>,
}

/// Send nothing more; a reply from each replay comes when what it sent is answered and written down.
#[derive(Debug, Message)]
#[rtype(result = "Vec<oneshot::Receiver<()>>")]
pub struct StopReplays;

impl ReplaysActor {
    /// Lets those of `parts.found` go on that are not over.
    #[must_use]
    pub fn new(parts: ReplaysParts) -> Self {
        let ReplaysParts { places, sinks, live, states, board, disk, metrics, found } = parts;
        let shared = Shared { states, board, disk, metrics };
        Self {
            places,
            sinks,
            shared,
            live,
            running: HashMap::new(),
            held: BTreeSet::new(),
            resting: BTreeSet::new(),
            found,
        }
    }

    pub(super) fn go_on(&mut self, mut record: ReplayRecord) {
        let mut shows = ReplayReport::of(&record, None, None);
        if record.state == ReplayState::Running {
            match self.places.check(&record.order).and_then(|()| self.run(record.clone())) {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(replay = %record.name, %error, "the configuration has changed, this replay cannot go on");
                    record.state = ReplayState::Failed;
                    record.finished_at = Some(clock::wall());
                    record.error = Some(no_longer(&record.order, &error));
                    shows = ReplayReport::of(&record, None, None);
                    if self.shared.disk.has_room_for_state(RECORD_BYTES) {
                        self.put(&record);
                    }
                }
            }
        }
        self.shared.board.set(shows);
    }

    fn run(&mut self, record: ReplayRecord) -> Result<(), RefusedOrder> {
        self.running.retain(|_, running| match running {
            Running::Sends(replay) => replay.connected(),
            Running::Checks(cancel) => !cancel.is_over(),
        });
        let name = record.name.clone();
        if self.held.contains(&record.order.to) {
            self.shared.board.set(ReplayReport::of(&record, None, None));
            self.resting.insert(name);
            return Ok(());
        }
        self.shared.board.set(ReplayReport::of(&record, None, None));
        let running = if record.order.to == STATE {
            let (source, cancel) = (self.places.state_source(&record.order)?, Cancel::default());
            let ((log, log_name), live, shared) = (self.places.log(), self.live.clone(), self.shared.clone());
            let cancel_check = cancel.clone();
            state_check::start(StateCheck {
                record,
                source,
                log,
                log_name,
                live,
                shared,
                cancel: cancel_check,
            });
            Running::Checks(cancel)
        } else {
            let target = self.sinks.get(&record.order.to).filter(|_| !record.order.dry_run);
            let source = self.places.source(&record)?;
            Running::Sends(ReplayActor::new(record, source, target, self.shared.clone()).start())
        };
        self.running.insert(name, running);
        Ok(())
    }

    fn begin(&mut self, record: ReplayRecord) -> Result<ReplayReport, ReplaysError> {
        if let Some(before) = self.shared.board.get(record.name.as_str()) {
            return if before.order == record.order {
                Ok(before)
            } else {
                Err(ReplaysError::NameIsTaken(record.name))
            };
        }
        if self.shared.board.running() >= MAX_RUNNING_REPLAYS {
            return Err(ReplaysError::TooMany);
        }
        if !self.shared.disk.has_room_for_state(RECORD_BYTES) {
            return Err(ReplaysError::DiskFull);
        }
        // again: the configuration may have changed since it was prepared
        self.places.check(&record.order).map_err(|error| ReplaysError::Refused(error.to_string()))?;
        self.forget_the_oldest();
        self.put(&record);
        let report = ReplayReport::of(&record, None, None);
        self.run(record).map_err(|error| ReplaysError::Refused(error.to_string()))?;
        Ok(report)
    }

    fn forget_the_oldest(&self) {
        let reports = self.shared.board.reports();
        if reports.len() < MAX_KEPT_REPLAYS {
            return;
        }
        let over = reports.into_iter().filter(|report| report.state != ReplayState::Running);
        if let Some(oldest) = over.min_by_key(|report| report.finished_at) {
            self.forget(&oldest.name);
        }
    }

    fn put(&self, record: &ReplayRecord) {
        if let Err(error) = self.shared.states.put_replay(record) {
            unwritten(&error);
        }
    }

    fn forget(&self, name: &ReplayName) {
        if let Err(error) = self.shared.states.forget_replay(name) {
            unwritten(&error);
        }
        self.shared.board.remove(name);
    }
}

/// Why a replay that was allowed cannot go on, and what to do.
fn no_longer(order: &ReplayOrder, error: &RefusedOrder) -> String {
    let ReplayOrder { from, to, .. } = order;
    match error {
        RefusedOrder::NoSuchSink => format!(
            "the configuration no longer has its sink {to:?}: put the sink back and begin the replay anew (it sends \
             everything once more), or delete the replay"
        ),
        RefusedOrder::IntoItself => {
            format!(
                "the configuration has changed, and its target {to:?} {error}: begin one with another target"
            )
        }
        error => format!("the configuration has changed, and its source {from:?} or target {to:?} {error}"),
    }
}

/// The store takes nothing more.
fn unwritten(error: &SinkStateError) -> ! {
    tracing::error!(%error, "a replay cannot be written down; the server stops and goes on from disk at its next start");
    std::process::exit(1)
}

impl Actor for ReplaysActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MESSAGES);
        for record in std::mem::take(&mut self.found) {
            self.go_on(record);
        }
    }
}

impl Handler<BeginReplay> for ReplaysActor {
    type Result = ();

    fn handle(&mut self, BeginReplay { record, reply }: BeginReplay, _: &mut Self::Context) {
        let _ = reply.send(self.begin(record));
    }
}

impl Handler<DeleteReplay> for ReplaysActor {
    type Result = ();

    fn handle(&mut self, DeleteReplay { name, reply }: DeleteReplay, ctx: &mut Self::Context) {
        if self.shared.board.get(name.as_str()).is_none() {
            let _ = reply.send(Err(ReplaysError::NotThere(name)));
            return;
        }
        if !self.shared.disk.has_room_for_state(RECORD_BYTES) {
            let _ = reply.send(Err(ReplaysError::DiskFull));
            return;
        }
        let replay = self.running.remove(&name);
        // after it has ended: it writes its record, too
        let ended = async move {
            match replay {
                Some(Running::Sends(replay)) => drop(replay.send(CancelReplay).await),
                Some(Running::Checks(cancel)) => cancel.cancel(),
                None => {}
            }
        };
        ctx.spawn(ended.into_actor(self).map(move |(), actor, _| {
            actor.forget(&name);
            let _ = reply.send(Ok(()));
        }));
    }
}

impl Handler<StopReplays> for ReplaysActor {
    type Result = Vec<oneshot::Receiver<()>>;

    fn handle(&mut self, _: StopReplays, _: &mut Self::Context) -> Self::Result {
        let stop = |running| {
            let (reply, stopped) = oneshot::channel();
            match running {
                // a full mailbox: what it has sent is sent again after the start
                Running::Sends(replay) => {
                    replay.try_send(StopReplay { reply, is_patient: false }).ok().map(|()| stopped)
                }
                Running::Checks(cancel) => {
                    cancel.cancel();
                    None
                }
            }
        };
        self.running.drain().filter_map(|(_, replay)| stop(replay)).collect()
    }
}
