//! Why the server does not start.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

use crate::{
    actors::sink_state::SinkStateError,
    data_dir::DataDirError,
    domain::{event_json::EventJsonError, record::RecordError},
    http::{
        auth::{device_keys::DeviceKeysError, local_issuer::IssuerError},
        tls::TlsError,
    },
    projections::store::SnapshotError,
    sinks::{OpenSinkError, letter_queue::NoRegion},
};

/// Why the server does not start. No event was recorded; the process is to end.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {listen}: {source}; set another address, or stop what uses it")]
    Listen {
        /// `[server] listen` or `admin_listen`.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The devices file.
    #[error(transparent)]
    DeviceKeys(#[from] DeviceKeysError),
    /// Certificates.
    #[error("[server] tls: {0}")]
    Tls(#[from] TlsError),
    /// The local issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The disk cannot be asked, or the ballast not be removed.
    #[error(transparent)]
    Disk(#[from] turnstiled_wal::StoreError),
    /// The log is damaged or cannot be opened.
    #[error(transparent)]
    Log(#[from] turnstiled_wal::OpenError),
    /// The state beside the log.
    #[error("the state beside the log cannot be opened: {0}")]
    State(#[from] turnstiled_wal::StateOpenError),
    /// A damaged record.
    #[error("the log cannot be read: {0}")]
    Read(#[from] turnstiled_wal::ReadError),
    /// A record that is whole, and not an event.
    #[error("sequence {sequence} of the log is not an event: {source}; run `turnstiled wal verify`")]
    Record {
        /// Which one.
        sequence: u64,
        /// Why.
        source: RecordError,
    },
    /// An event that this version cannot read.
    #[error("sequence {sequence} of the log cannot be read: {source}; run `turnstiled wal verify`")]
    Event {
        /// Which one.
        sequence: u64,
        /// Why.
        source: EventJsonError,
    },
    /// An event that says that it belongs elsewhere.
    #[error("sequence {sequence} of the log holds event {says}; run `turnstiled wal verify`")]
    Misplaced {
        /// Where it lies.
        sequence: u64,
        /// Where it says it belongs.
        says: u64,
    },
    /// A snapshot that this program cannot read, or its directory.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The log was trimmed, and no snapshot stands for what is gone.
    #[error(
        "the log was trimmed and begins with event {first}, and no whole snapshot in {} has the cards and the \
         presence up to there; damaged ones are kept there as *.damaged: restore a snapshot from a backup of the \
         data directory, then run `turnstiled wal verify` and start again", dir.display()
    )]
    NoSnapshot {
        /// The first event that is there.
        first: u64,
        /// Where snapshots are.
        dir: PathBuf,
    },
    /// Cursors or dead letters.
    #[error(transparent)]
    SinkState(#[from] SinkStateError),
    /// The queue of dead letters could never work.
    #[error(transparent)]
    LetterQueue(#[from] NoRegion),
    /// A sink that could never work.
    #[error(transparent)]
    Sink(#[from] OpenSinkError),
    /// A sink's cursor is ahead of the log.
    #[error(
        "sink {sink:?} has delivered up to sequence {cursor}, but the log ends at {committed}: the log has lost \
         its end or is another one; run `turnstiled wal verify`"
    )]
    CursorAhead {
        /// The sink.
        sink: String,
        /// Its cursor.
        cursor: u64,
        /// The log's end.
        committed: u64,
    },
    /// The thread that opens the log ended.
    #[error("opening the log ended early: {0}; the lines above say why")]
    Opening(#[from] tokio::task::JoinError),
    /// No thread for scrubbing.
    #[error("the thread that looks for damage cannot be started: {0}")]
    Scrub(io::Error),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    /// The kernel has no random bytes to give.
    #[error("the kernel gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// A thread.
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    /// A thread of actors ended while it was starting.
    #[error("the {0} thread ended while starting; the lines above say why")]
    Arbiter(&'static str),
}
