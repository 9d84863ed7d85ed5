//! `[auth]`: where device keys lie and who issues people's tokens.

use std::path::{Path, PathBuf};

use super::{limits::DEFAULT_DEVICES_FILE, reader::TableReader};

/// The validated section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// The file of device keys; `devices.toml` in the data dir unless it is given.
    pub devices: PathBuf,
    /// Who issues people's tokens; `None`: nobody, and the people's endpoints refuse everyone.
    pub jwt: Option<JwtConfig>,
}

/// Who issues people's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtConfig {
    /// This server itself, by `turnstiled token`.
    Local,
}

pub(super) fn read(mut table: TableReader<'_>, data_dir: &Path) -> Option<AuthConfig> {
    let devices = match table.optional("devices") {
        Some(value) => value.path(),
        None => Some(data_dir.join(DEFAULT_DEVICES_FILE)),
    };
    let jwt = table.optional("jwt").and_then(|value| value.table("auth.jwt")).and_then(read_jwt);
    table.finish();
    Some(AuthConfig { devices: devices?, jwt })
}

fn read_jwt(mut table: TableReader<'_>) -> Option<JwtConfig> {
    let local = table.optional("local").and_then(|value| value.boolean());
    table.finish();
    local.filter(|local| *local).map(|_| JwtConfig::Local)
}
