//! Who may call: the devices' keys, and whoever issues people's tokens.

use std::path::PathBuf;

use super::StartError;
use crate::{
    config::{Config, auth::JwtConfig},
    http::auth::{
        Auth, Issuer,
        attempts::Attempts,
        key_use,
        known_devices::KnownDevices,
        local_issuer::LocalIssuer,
        open_id::{OpenId, Refresh},
    },
    metrics::Metrics,
};

/// What credentials are checked against, and what keeps it current.
#[derive(Debug)]
pub(super) struct Opened {
    auth: Auth,
    refresh: Option<Refresh>,
}

/// Reads what lies on this machine. A provider is not waited for.
pub(super) fn open(config: &Config) -> Result<Opened, StartError> {
    let devices =
        KnownDevices::open(&config.auth.devices, &key_use::read(&key_use::path(&config.server.data_dir)))?;
    let (people, refresh) = match &config.auth.jwt {
        Some(JwtConfig::Local) => {
            let issuer = LocalIssuer::open(&config.server.data_dir, &config.server.id)?;
            (Some(Issuer::Local(issuer)), None)
        }
        Some(JwtConfig::OpenId(provider)) => {
            let (provider, refresh) = OpenId::new(provider.clone());
            (Some(Issuer::OpenId(provider)), Some(refresh))
        }
        None => (None, None),
    };
    Ok(Opened { auth: Auth { devices, people, attempts: Attempts::default() }, refresh })
}

impl Opened {
    /// Begins to look at the provider's keys; it ends with the process.
    pub(super) fn start(self, data_dir: PathBuf, metrics: Metrics) -> Auth {
        if let Some(refresh) = self.refresh {
            actix::spawn(refresh.run(data_dir, metrics));
        }
        self.auth
    }
}
