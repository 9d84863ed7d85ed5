//! Runs the server until a signal ends it.

use std::sync::Arc;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use super::{App, StartError, reload::Reloader, service_manager};
use crate::{clock, config::Config, config::ConfigErrors, domain::event::Reload};

/// Runs a future in an actix system of this thread's own, which [`App`] needs around it.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    actix::System::new().block_on(future)
}

/// Runs until SIGTERM or SIGINT. SIGHUP makes what `load` reads what runs, as far as a running server can change.
///
/// # Errors
/// [`StartError`] if it cannot start.
pub fn run(
    config: Config,
    load: impl Fn() -> Result<Config, ConfigErrors> + Clone + Send + 'static,
) -> Result<(), StartError> {
    block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
        let (app, reloader) = tokio::select! {
            started = App::start(config) => started?,
            _ = terminate.recv() => stop_while_starting(),
            _ = interrupt.recv() => stop_while_starting(),
        };
        let admin_address = app.admin_address().map(tracing::field::display);
        tracing::info!(address = %app.address(), admin_address, log = %app.data_dir.log_name, "listening");
        service_manager::ready();
        if let Some(building) = app.building() {
            actix::spawn(service_manager::stay_alive(building));
        }
        // Signals that come while one reload is under way are one more.
        let wanted = Arc::new(Notify::new());
        let reloading = actix::spawn(reload_when_wanted(reloader, Arc::clone(&wanted), load));
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => wanted.notify_one(),
            }
        }
        tracing::info!("stopping");
        service_manager::stopping();
        reloading.abort();
        // An error: it was under way. Its steps are durable, and the next start takes the whole file.
        let _ = reloading.await;
        app.stop().await;
        Ok(())
    })
}

async fn reload_when_wanted(
    mut reloader: Reloader,
    wanted: Arc<Notify>,
    load: impl Fn() -> Result<Config, ConfigErrors> + Clone + Send + 'static,
) {
    let metrics = reloader.metrics();
    loop {
        wanted.notified().await;
        tracing::info!("reloading the configuration");
        let is_taken = match tokio::task::spawn_blocking(load.clone()).await {
            Ok(Ok(config)) => take(&mut reloader, config).await,
            Ok(Err(errors)) => {
                for error in errors.0 {
                    tracing::error!(%error, "the configuration is refused, the old one stays");
                }
                false
            }
            Err(error) => {
                tracing::error!(%error, "the configuration cannot be read, the old one stays");
                false
            }
        };
        metrics.reloaded(is_taken, clock::wall().as_millis() / 1_000);
    }
}

async fn take(reloader: &mut Reloader, config: Config) -> bool {
    match reloader.reload(config).await {
        Ok(changes) => {
            let Reload { sinks_added, sinks_changed, sinks_removed, buildings_changed, .. } = &changes;
            let Reload { event_types_changed, routes_changed, server_changed, config_sha256, .. } = &changes;
            tracing::info!(
                ?sinks_added,
                ?sinks_changed,
                ?sinks_removed,
                ?buildings_changed,
                ?event_types_changed,
                ?routes_changed,
                ?server_changed,
                config_sha256,
                "the configuration is reloaded"
            );
            true
        }
        Err(error) => {
            tracing::error!(%error, "the configuration is refused, the old one stays");
            false
        }
    }
}

/// Safe at any time before the first answer: what was opened is opened again.
fn stop_while_starting() -> ! {
    tracing::info!("stopped while starting");
    std::process::exit(0)
}
