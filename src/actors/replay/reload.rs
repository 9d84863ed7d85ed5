//! Replays rest while the deliveries that they send through are replaced.

use std::collections::BTreeSet;

use actix::{AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::oneshot;

use super::{
    StopReplay,
    manager::{ReplaysActor, Running},
    record::ReplayState,
};

/// Let the replays into these sinks rest; those that begin meanwhile, too. From each that runs a reply comes when what it
/// sent is answered and written down.
#[derive(Debug, Message)]
#[rtype(result = "Vec<oneshot::Receiver<()>>")]
pub struct HoldReplays(pub BTreeSet<String>);

/// Let them go on, with what the configuration says now.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct GoOnReplays;

impl Handler<HoldReplays> for ReplaysActor {
    type Result = Vec<oneshot::Receiver<()>>;

    fn handle(&mut self, HoldReplays(sinks): HoldReplays, ctx: &mut Self::Context) -> Self::Result {
        self.held = sinks;
        let mut resting = Vec::new();
        // they stay in `running`, so that one that is deleted meanwhile writes nothing more
        for (name, running) in &self.running {
            let Running::Sends(replay) = running else { continue };
            let into = self.shared.board.get(name.as_str()).map(|report| report.order.to);
            if !into.is_some_and(|into| self.held.contains(&into)) {
                continue;
            }
            let (reply, rests) = oneshot::channel();
            let replay = replay.clone();
            let stop = async move {
                // An error: it has ended by itself.
                let _ = replay.send(StopReplay { is_patient: true, reply }).await;
            };
            ctx.spawn(stop.into_actor(self));
            self.resting.insert(name.clone());
            resting.push(rests);
        }
        resting
    }
}

impl Handler<GoOnReplays> for ReplaysActor {
    type Result = ();

    fn handle(&mut self, _: GoOnReplays, _: &mut Context<Self>) {
        self.held.clear();
        let resting = std::mem::take(&mut self.resting);
        let found = self.shared.states.replays().unwrap_or_else(|error| {
            tracing::error!(%error, "replays cannot be read; they go on at the next start");
            Vec::new()
        });
        for record in found {
            if record.state == ReplayState::Running && resting.contains(&record.name) {
                self.running.remove(&record.name);
                self.go_on(record);
            }
        }
    }
}
