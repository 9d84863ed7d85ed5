//! The file of the devices' API keys. It holds hashes only; the command line writes it, and has waited until every
//! running daemon ([`super::known_devices`]) goes by the change when it returns.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    data_dir,
    domain::{
        device::KeyFact,
        hex::hex,
        ids::{BuildingId, GateId},
        time::Timestamp,
    },
    http::error::ApiError,
};

/// 256 random bits.
const SECRET_BYTES: usize = 32;

/// More than a key has: it is not even looked at.
pub(super) const MAX_KEY_BYTES: usize = 128;

/// The most keys of one file; `keys add` refuses more.
pub const MAX_KEYS: usize = 10_000;

/// How long what was found in the file is believed: a look at it for each request took a twentieth of a busy
/// processor. Whoever changes the file waits for as long before saying that it is done.
pub(super) const BELIEVE_FOR: Duration = Duration::from_millis(10);

/// What a device may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A turnstile: entries and exits.
    #[default]
    Gate,
    /// A fire or security panel: modes.
    Panel,
    /// A person's, sealed in an envelope at the security desk for the day on which nobody gets a token.
    BreakGlass,
}

impl DeviceKind {
    /// Its name, for people and in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Panel => "panel",
            Self::BreakGlass => "break-glass",
        }
    }
}

/// A key as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Names the key in events and logs: `k_` and 8 hex digits. Not secret.
    pub id: String,
    /// The building it is for.
    pub building: BuildingId,
    /// The gate it is for; absent: every gate of the building.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateId>,
    /// What it may do.
    #[serde(default)]
    pub kind: DeviceKind,
    /// For people, such as `north entrance, left`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// SHA-256 of the whole key, in hex.
    pub(super) sha256: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Device {
    /// Insists that the key is a turnstile's of this building.
    ///
    /// # Errors
    /// 403.
    pub fn must_be_gate_of(&self, building: &BuildingId) -> Result<(), ApiError> {
        self.must_be_of(building)?;
        match self.kind {
            DeviceKind::Gate => Ok(()),
            DeviceKind::Panel => {
                Err(ApiError::Forbidden("this key is a panel's; gates need a key of kind gate".to_owned()))
            }
            DeviceKind::BreakGlass => {
                Err(ApiError::Forbidden("this key is a person's; gates need a key of kind gate".to_owned()))
            }
        }
    }

    /// Insists that the key is a panel's of this building.
    ///
    /// # Errors
    /// 403.
    pub fn must_be_panel_of(&self, building: &BuildingId) -> Result<(), ApiError> {
        self.must_be_of(building)?;
        match self.kind {
            DeviceKind::Panel => Ok(()),
            DeviceKind::Gate => {
                Err(ApiError::Forbidden("this key is a gate's; modes need a key of kind panel".to_owned()))
            }
            DeviceKind::BreakGlass => Err(ApiError::Forbidden(
                "this key is a person's: show it in Authorization: Bearer".to_owned(),
            )),
        }
    }

    fn must_be_of(&self, building: &BuildingId) -> Result<(), ApiError> {
        if self.building == *building {
            return Ok(());
        }
        Err(ApiError::Forbidden(format!("this key is for building {}, not {building}", self.building)))
    }

    /// Insists that the key may speak for a gate.
    ///
    /// # Errors
    /// 403.
    pub fn must_serve(&self, gate: &GateId) -> Result<(), ApiError> {
        match &self.gate {
            Some(only) if only != gate => {
                Err(ApiError::Forbidden(format!("this key is for gate {only}, not {gate}")))
            }
            _ => Ok(()),
        }
    }

    /// What the log tells of it.
    #[must_use]
    pub fn fact(&self) -> KeyFact {
        let (building, gate) = (self.building.clone(), self.gate.clone());
        KeyFact { id: self.id.clone(), building, gate, kind: self.kind.as_str().to_owned() }
    }

    /// As an event's `by`.
    #[must_use]
    pub fn as_actor(&self) -> String {
        format!("device/{}", self.id)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DevicesFile {
    #[serde(default)]
    keys: Vec<Device>,
}

/// Why the devices file could not be read or changed.
#[derive(Debug, Error)]
pub enum DeviceKeysError {
    /// The system says no.
    #[error("the devices file {} cannot be used: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("the devices file {} cannot be read: {detail}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What and where.
        detail: String,
    },
    /// No such key.
    #[error("no key {0}; `turnstiled keys list` shows all")]
    Unknown(String),
    /// Too many.
    #[error("there are {MAX_KEYS} keys already; revoke some")]
    TooMany,
}

/// The keys of a file, without their secrets, which nobody has.
///
/// # Errors
/// [`DeviceKeysError`] if the file is there and cannot be read.
pub fn list(path: &Path) -> Result<Vec<Device>, DeviceKeysError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(source) => return Err(DeviceKeysError::File { path: path.to_owned(), source }),
    };
    let file: DevicesFile = toml::from_str(&text)
        .map_err(|error| DeviceKeysError::Content { path: path.to_owned(), detail: error.to_string() })?;
    Ok(file.keys)
}

/// A new key. The returned text is the only copy of the secret.
///
/// # Errors
/// [`DeviceKeysError`] if the file cannot be changed durably; then the key does not exist.
pub fn add(
    path: &Path,
    building: BuildingId,
    gate: Option<GateId>,
    kind: DeviceKind,
    name: Option<String>,
    now: Timestamp,
) -> Result<String, DeviceKeysError> {
    let failed = |source| DeviceKeysError::File { path: path.to_owned(), source };
    let (mut id, mut secret) = ([0_u8; 4], [0_u8; SECRET_BYTES]);
    getrandom::fill(&mut secret).map_err(|error| failed(io::Error::other(error)))?;
    change(path, |keys| {
        if keys.len() >= MAX_KEYS {
            return Err(DeviceKeysError::TooMany);
        }
        let id = loop {
            getrandom::fill(&mut id).map_err(|error| failed(io::Error::other(error)))?;
            let id = format!("k_{:08x}", u32::from_be_bytes(id));
            if keys.iter().all(|device| device.id != id) {
                break id;
            }
        };
        let key = format!("{id}.{}", URL_SAFE_NO_PAD.encode(secret));
        keys.push(Device { id, building, gate, kind, name, sha256: hash_of(&key), created_at: now });
        Ok(key)
    })
}

/// Ends a key: no request with it is accepted any more once this has returned.
///
/// # Errors
/// [`DeviceKeysError::Unknown`] if there is no such key.
pub fn revoke(path: &Path, id: &str) -> Result<(), DeviceKeysError> {
    change(path, |keys| {
        let before = keys.len();
        keys.retain(|device| device.id != id);
        if keys.len() < before { Ok(()) } else { Err(DeviceKeysError::Unknown(id.to_owned())) }
    })
}

/// Reads, changes and replaces the file, durably, one process at a time.
fn change<T>(
    path: &Path,
    edit: impl FnOnce(&mut Vec<Device>) -> Result<T, DeviceKeysError>,
) -> Result<T, DeviceKeysError> {
    let failed = |source| DeviceKeysError::File { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        data_dir::create_private_dir(parent).map_err(failed)?;
    }
    let lock = File::create(path.with_extension("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let mut keys = list(path)?;
    let done = edit(&mut keys)?;
    let text = toml::to_string(&DevicesFile { keys })
        .map_err(|error| DeviceKeysError::Content { path: path.to_owned(), detail: error.to_string() })?;
    data_dir::replace_private(path, text.as_bytes()).map_err(failed)?;
    thread::sleep(BELIEVE_FOR);
    Ok(done)
}

pub(super) fn hash_of(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::{
        super::{key_use::LastUsed, known_devices::KnownDevices},
        *,
    };

    fn add_for(path: &Path, building: &str) -> String {
        let building = BuildingId::parse(building).unwrap();
        add(path, building, None, DeviceKind::Gate, None, Timestamp::from_millis(0)).unwrap()
    }

    #[test]
    fn a_key_counts_from_its_making_to_its_revocation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.toml");
        let keys = KnownDevices::open(&path, &LastUsed::new()).unwrap();
        assert!(keys.find("k_00000000.x").is_none());
        let (one, two) = (add_for(&path, "hq"), add_for(&path, "annex"));
        let device = keys.find(&one).unwrap();
        assert_eq!(device.building.as_str(), "hq");
        assert_eq!(keys.find(&two).unwrap().building.as_str(), "annex");
        assert!(keys.find(&format!("{one}x")).is_none());
        assert!(keys.find(&one.replace(&device.id, "k_00000000")).is_none());
        revoke(&path, &device.id).unwrap();
        assert!(keys.find(&one).is_none());
        assert!(keys.find(&two).is_some());
        assert!(matches!(revoke(&path, &device.id), Err(DeviceKeysError::Unknown(_))));
    }

    #[test]
    fn the_file_never_holds_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.toml");
        let key = add_for(&path, "hq");
        let secret = key.split_once('.').unwrap().1;
        assert!(!fs::read_to_string(&path).unwrap().contains(secret));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_is_for_its_building_its_gate_and_its_kind() {
        let (hq, annex) = (BuildingId::parse("hq").unwrap(), BuildingId::parse("annex").unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.toml");
        let north = GateId::parse("north").unwrap();
        let gate =
            add(&path, hq.clone(), Some(north.clone()), DeviceKind::Gate, None, Timestamp::from_millis(0))
                .unwrap();
        let panel = add(&path, hq.clone(), None, DeviceKind::Panel, None, Timestamp::from_millis(0)).unwrap();
        let keys = KnownDevices::open(&path, &LastUsed::new()).unwrap();
        let gate = keys.find(&gate).unwrap();
        assert!(gate.must_be_gate_of(&hq).is_ok() && gate.must_be_gate_of(&annex).is_err());
        assert!(
            gate.must_serve(&north).is_ok() && gate.must_serve(&GateId::parse("south").unwrap()).is_err()
        );
        assert!(keys.find(&panel).unwrap().must_be_gate_of(&hq).is_err());
    }
}
