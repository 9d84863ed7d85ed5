//! TLS: the server's certificate and key, and the authority of its clients. They are taken anew while the server runs;
//! what cannot be used changes nothing. Connections that are open stay as they began.

mod files;
mod not_after;
mod swap;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};
use thiserror::Error;

use self::{
    files::{Identities, Loaded},
    swap::Swap,
};

/// Where the certificate and its key lie, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates; without it none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// Why certificates cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The system says no.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{}: {detail}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The key is another certificate's, or of a kind that is not known.
    #[error("the key {} and the certificate {} cannot be used together: {source}", key.display(), cert.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// No TLS can be spoken at all.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What a look at the files came to.
#[derive(Debug)]
pub enum Looked {
    /// Nothing to do.
    Same,
    /// They were replaced and are used now.
    Taken,
    /// They were replaced by what cannot be used.
    Refused(TlsError),
}

/// The TLS of a running server.
#[derive(Debug)]
pub struct Tls {
    in_use: Arc<Swap>,
    watched: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    files: TlsFiles,
    /// The files as they were when they were last used, or refused.
    judged: Identities,
    /// As they were at the last look.
    seen: Identities,
}

/// Certificates that can be used, not used yet.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    seen: Identities,
    loaded: Loaded,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] with the file and what is wrong.
    pub fn read(files: TlsFiles) -> Result<Self, TlsError> {
        // First: if they change in between, the next look reads them again.
        let seen = Identities::of(&files);
        let loaded = Loaded::read(&files)?;
        Ok(Self { files, seen, loaded })
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] with the file and what is wrong.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let Certificates { files, seen, loaded } = Certificates::read(files)?;
        let in_use = Arc::new(Swap(RwLock::new(Arc::new(loaded))));
        Ok(Self { in_use, watched: Mutex::new(Watched { files, judged: seen.clone(), seen }) })
    }

    /// How connections are accepted: TLS 1.2 and 1.3, with whatever certificates are in use then.
    ///
    /// Nothing of a connection is kept for the next one: a resumed one would not show its client's certificate again.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let (clients, certificates) = (Arc::clone(&self.in_use), Arc::clone(&self.in_use));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(certificates);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Uses them from the next connection on.
    pub fn take(&self, certificates: Certificates) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Certificates { files, seen, loaded } = certificates;
        self.in_use.set(loaded);
        *watched = Watched { files, judged: seen.clone(), seen };
    }

    /// Uses what the files hold, if that has changed, and has not changed again since the last look: a certificate and
    /// its key are two files, which nobody replaces at once.
    #[must_use]
    pub fn look(&self) -> Looked {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Identities::of(&watched.files);
        let is_settled = now == watched.seen;
        watched.seen = now.clone();
        if now == watched.judged || !is_settled {
            return Looked::Same;
        }
        watched.judged = now;
        match Loaded::read(&watched.files) {
            Ok(loaded) => {
                self.in_use.set(loaded);
                Looked::Taken
            }
            Err(error) => Looked::Refused(error),
        }
    }

    /// When the server's certificate ends, in seconds since 1970, if it says so in a way that is understood.
    #[must_use]
    pub fn not_after_seconds(&self) -> Option<i64> {
        self.in_use.get().not_after_seconds
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[cfg(test)]
mod tests;
