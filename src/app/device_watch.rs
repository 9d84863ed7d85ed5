//! What is done about devices' keys beside requests: keys that came or went are recorded (`admin.keys`), and when keys
//! were last used is written down.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::web::Data;
use thiserror::Error;
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinHandle, spawn_blocking},
};

use crate::{
    actors::{admin::RecordAdmin, places::NoPlace, recorder::Origin},
    data_dir,
    domain::{
        device::{Keys, changes},
        event::Body,
    },
    http::{
        Services,
        auth::key_use::{self, LastUsed},
    },
};

/// How often to look whether keys came or went. What came and went in between is not seen.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often to write down when keys were last used, if any was.
const WRITE_USE_EVERY: Duration = Duration::from_secs(60);
/// Which keys the last `admin.keys` left. Without it all keys are recorded as added.
const RECORDED_FILE: &str = "keys-recorded.json";

/// Watches keys until it is stopped.
#[derive(Debug)]
pub(super) struct DeviceWatch {
    /// Dropped to stop it.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Watcher {
    services: Data<Services>,
    recorded_file: PathBuf,
    /// The keys that the log tells of.
    recorded: Arc<Keys>,
    used_file: PathBuf,
    written: LastUsed,
    written_at: Option<Instant>,
    /// Whether the last look failed, and that was said.
    has_failed: bool,
}

#[derive(Debug, Error)]
enum WatchError {
    #[error("that keys came or went cannot be recorded: {0}")]
    NotRecorded(#[from] NoPlace),
    #[error("what was recorded of keys cannot be written down: {0}")]
    Recorded(io::Error),
    #[error("when keys were last used cannot be written down: {0}")]
    Used(io::Error),
    #[error("there is no thread to look at keys on: {0}")]
    Thread(#[from] JoinError),
    #[error("the server stops")]
    Stopping,
}

impl DeviceWatch {
    /// Records what changed since the server last ran, then watches.
    pub(super) async fn start(data_dir: &Path, services: Data<Services>) -> Self {
        let recorded_file = data_dir.join(RECORDED_FILE);
        let mut watcher = Watcher {
            recorded: Arc::new(read_recorded(&recorded_file)),
            recorded_file,
            used_file: key_use::path(data_dir),
            written: services.auth.devices.last_used(),
            written_at: None,
            has_failed: false,
            services,
        };
        watcher.look().await;
        let (stop, mut stopped) = oneshot::channel();
        let task = actix::spawn(async move {
            while tokio::time::timeout(LOOK_EVERY, &mut stopped).await.is_err() {
                watcher.look().await;
            }
            watcher.written_at = None;
            watcher.look().await;
        });
        Self { stop, task }
    }

    /// Looks once more, and ends.
    pub(super) async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the watch over keys did not end as it should");
        }
    }
}

impl Watcher {
    async fn look(&mut self) {
        let looked = match self.record_changes().await {
            Ok(()) => self.write_use().await,
            failed => failed,
        };
        match looked {
            Ok(()) => self.has_failed = false,
            Err(error) if !self.has_failed => {
                tracing::warn!(%error, "keys are looked at again in a moment");
                self.has_failed = true;
            }
            Err(_) => {}
        }
    }

    async fn record_changes(&mut self) -> Result<(), WatchError> {
        let services = self.services.clone();
        // apart, as everything that waits for a disk
        let now = spawn_blocking(move || services.auth.devices.facts()).await?;
        if Arc::ptr_eq(&now, &self.recorded) || now == self.recorded {
            return Ok(());
        }
        for changed in changes(&self.recorded, &now) {
            let (added, removed) = (changed.added.len(), changed.removed.len());
            let (reply, recorded) = oneshot::channel();
            let (body, origin) = (Body::Keys(Box::new(changed)), Origin::server());
            let asked = self.services.admin.send(RecordAdmin { body, origin, reply }).await;
            asked.map_err(|_| WatchError::Stopping)?;
            recorded.await.map_err(|_| WatchError::Stopping)??;
            tracing::info!(added, removed, "devices' keys came or went");
        }
        self.recorded = Arc::clone(&now);
        let file = self.recorded_file.clone();
        let write = move || data_dir::replace_private(&file, &serde_json::to_vec(&*now)?);
        spawn_blocking(write).await?.map_err(WatchError::Recorded)
    }

    async fn write_use(&mut self) -> Result<(), WatchError> {
        if self.written_at.is_some_and(|at| at.elapsed() < WRITE_USE_EVERY) {
            return Ok(());
        }
        let used = self.services.auth.devices.last_used();
        if used == self.written {
            return Ok(());
        }
        self.written_at = Some(Instant::now());
        let (file, written) = (self.used_file.clone(), used.clone());
        spawn_blocking(move || key_use::write(&file, &written)).await?.map_err(WatchError::Used)?;
        self.written = used;
        Ok(())
    }
}

fn read_recorded(file: &Path) -> Keys {
    let read = fs::read(file).and_then(|json| serde_json::from_slice(&json).map_err(io::Error::from));
    match read {
        Ok(keys) => keys,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Keys::new(),
        Err(error) => {
            tracing::warn!(path = %file.display(), %error, "which keys were recorded cannot be read: all are recorded anew");
            Keys::new()
        }
    }
}
