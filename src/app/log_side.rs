//! The log arbiter: one thread for the log, the buildings and the cards. It may block in `fdatasync`.

use std::{rc::Rc, sync::Arc};

use actix::{Actor, Addr, Arbiter, Recipient};
use tokio::sync::oneshot;
use turnstiled_wal::Log;

use super::{StartError, recover::Recovered};
use crate::{
    actors::{
        admin::AdminActor,
        building::BuildingActor,
        busy_poll::BusyPoll,
        device_events::DeviceEventsActor,
        directory::DirectoryActor,
        disk::DiskParts,
        log::{Append, LogActor, LogGrew},
        places::Places,
        recorder::{LogEnd, Recorder},
    },
    trace::Tracer,
};

/// The addresses of everything on the log arbiter.
#[derive(Debug)]
pub(super) struct LogSide {
    arbiter: Arbiter,
    log: Addr<LogActor>,
    pub(super) directory: Addr<DirectoryActor>,
    pub(super) admin: Addr<AdminActor>,
    pub(super) device_events: Addr<DeviceEventsActor>,
    /// In the order of the configuration.
    pub(super) buildings: Vec<Addr<BuildingActor>>,
}

impl LogSide {
    pub(super) async fn start(
        log: Log,
        state: Recovered,
        end: LogEnd,
        router: Recipient<LogGrew>,
        disk: DiskParts,
        busy_poll: BusyPoll,
        tracer: Tracer,
    ) -> Result<Self, StartError> {
        let arbiter = Arbiter::new();
        let (started, addresses) = oneshot::channel();
        arbiter.spawn_fn(move || {
            let metrics = disk.metrics.clone();
            let waiting = metrics.queues.log_records.clone();
            let places = Rc::new(Places::new(Arc::clone(&end.is_stopped), waiting));
            let log =
                LogActor::new(log, Rc::clone(&places), disk, router, state.last_time, busy_poll).start();
            let recorder = Recorder::new(log.clone(), places, end, tracer);
            let (directory, cards) = DirectoryActor::new(state.directory, recorder.clone());
            let directory = directory.start();
            let admin = AdminActor::new(recorder.clone()).start();
            let device_events = DeviceEventsActor::new(
                state.device_answers,
                cards.clone(),
                recorder.clone(),
                metrics.clone(),
            )
            .start();
            let buildings: Vec<_> = (state.buildings.into_iter())
                .map(|building| {
                    BuildingActor::new(building, cards.clone(), recorder.clone(), metrics.clone()).start()
                })
                .collect();
            // Nobody to tell: the start was given up.
            let _ = started.send((log, directory, admin, device_events, buildings));
        });
        let (log, directory, admin, device_events, buildings) =
            addresses.await.map_err(|_| StartError::Arbiter("log"))?;
        Ok(Self { arbiter, log, directory, admin, device_events, buildings })
    }

    /// Waits until everything that is on its way into the log is durable, then ends the thread.
    pub(super) async fn stop(self) {
        let (reply, durable) = oneshot::channel();
        let last = Append {
            first_sequence: 0,
            records: vec![],
            on_commit: Box::new(move || {
                let _ = reply.send(());
            }),
        };
        if self.log.send(last).await.is_ok() {
            // An error means that the last commit failed; the log actor has said so.
            let _ = durable.await;
        }
        super::end(self.arbiter).await;
    }
}
