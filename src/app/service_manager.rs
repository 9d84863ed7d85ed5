//! What the service manager hears, which is systemd with `Type=notify` and `WatchdogSec=`: that the server is ready, that
//! it stops, and that it is alive. Without `NOTIFY_SOCKET` in the environment nobody hears anything.

use std::time::Duration;

use actix::Addr;
use sd_notify::NotifyState;
use tokio::{sync::oneshot, time::MissedTickBehavior};

use crate::actors::building::{BuildingActor, modes::LookAtBuilding};

/// How often within the watchdog's limit it is told that the server is alive. sd_watchdog_enabled(3) asks for two at least.
const SIGNS_A_LIMIT: u32 = 3;

/// It listens.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// It has heard a signal to stop.
pub(super) fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells the watchdog, if there is one, that the server is alive, as long as this building answers. The answer waits for
/// the log to commit what it rests on, so that a thread or a disk that hangs is seen; a full disk or a busy server is
/// alive. Never ends with a watchdog.
pub(super) async fn stay_alive(building: Addr<BuildingActor>) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut ticks = tokio::time::interval((limit / SIGNS_A_LIMIT).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if answers(&building).await {
            tell(NotifyState::Watchdog);
        }
    }
}

async fn answers(building: &Addr<BuildingActor>) -> bool {
    let (reply, answer) = oneshot::channel();
    // a refusal is an answer, too
    building.send(LookAtBuilding { reply }).await.is_ok() && answer.await.is_ok()
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told how the server is; look at NOTIFY_SOCKET");
    }
}
