//! The devices of a running daemon: what their file says, looked at again and again, and how each key is used.

use std::{
    collections::HashMap,
    fs,
    num::NonZeroU32,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{
            AtomicI64, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use subtle::ConstantTimeEq;

use super::{
    device_keys::{BELIEVE_FOR, Device, DeviceKeysError, MAX_KEY_BYTES, hash_of, list},
    key_use::LastUsed,
};
use crate::{
    domain::{device::Keys, time::Timestamp},
    rate::RateCap,
};

/// How much of its unused rate a device may save up and then use at once: five times `[server] rate_limit`, so that
/// a turnstile may hand in what it kept while the server was away.
pub const RATE_BURST: Duration = Duration::from_secs(5);

/// The keys of a running daemon.
#[derive(Debug)]
pub struct KnownDevices {
    path: PathBuf,
    read: RwLock<Arc<Snapshot>>,
    begun: Instant,
    /// When the file was last looked at, in microseconds after `begun`.
    looked_micros: AtomicU64,
}

/// A device that showed its key.
#[derive(Clone, Debug)]
pub struct KnownDevice {
    device: Arc<Device>,
    usage: Arc<Usage>,
}

/// How a key is used. Stays while the key does, however often its file changes.
#[derive(Debug)]
struct Usage {
    /// In milliseconds since 1970; 0: not since the daemon knows it.
    last_used_millis: AtomicI64,
    rate: Mutex<RateCap>,
}

/// The file as it was when it had this identity.
#[derive(Debug)]
struct Snapshot {
    identity: Option<FileIdentity>,
    keys: HashMap<String, KnownDevice>,
    /// What the log is to tell of them.
    facts: Arc<Keys>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl KnownDevices {
    /// Reads the file; a missing one has no keys. `used` is what is known of their use.
    ///
    /// # Errors
    /// [`DeviceKeysError`] if it is there and cannot be read.
    pub fn open(path: &Path, used: &LastUsed) -> Result<Self, DeviceKeysError> {
        let begun = Instant::now();
        let snapshot = Snapshot::read(path, &HashMap::new())?;
        for (id, last) in used {
            if let Some(device) = snapshot.keys.get(id) {
                device.note_use(*last);
            }
        }
        let read = RwLock::new(Arc::new(snapshot));
        Ok(Self { path: path.to_owned(), read, begun, looked_micros: AtomicU64::new(0) })
    }

    /// The device that a key belongs to, by what the file says or said [`BELIEVE_FOR`] ago. One that has become
    /// unreadable keeps the keys it had, and the log says so.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<KnownDevice> {
        if key.len() > MAX_KEY_BYTES {
            return None;
        }
        let snapshot = self.current();
        let (id, _) = key.split_once('.')?;
        let hash = hash_of(key);
        let known = snapshot.keys.get(id)?;
        bool::from(known.device.sha256.as_bytes().ct_eq(hash.as_bytes())).then(|| known.clone())
    }

    /// Whether there is a key with this id: it has not been revoked.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.current().keys.contains_key(id)
    }

    /// The keys there are, as the log tells of them.
    #[must_use]
    pub fn facts(&self) -> Arc<Keys> {
        Arc::clone(&self.current().facts)
    }

    /// When each key was last shown, of those that ever were.
    #[must_use]
    pub fn last_used(&self) -> LastUsed {
        let snapshot = self.current();
        let used = snapshot.keys.iter().map(|(id, known)| {
            (id.clone(), Timestamp::from_millis(known.usage.last_used_millis.load(Relaxed)))
        });
        used.filter(|(_, last)| last.as_millis() > 0).collect()
    }

    /// Counts a request of a device that may do so many a second.
    ///
    /// # Errors
    /// How long to wait if they were too many.
    pub fn take_turn(&self, device: &KnownDevice, per_second: Option<NonZeroU32>) -> Result<(), Duration> {
        device.take_turn(per_second, self.begun.elapsed())
    }

    fn current(&self) -> Arc<Snapshot> {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let now = micros(self.begun.elapsed());
        // Before what was read: that is then at least as new.
        let is_believed = now.saturating_sub(self.looked_micros.load(Acquire)) < micros(BELIEVE_FOR);
        let read = Arc::clone(&self.read.read().unwrap_or_else(PoisonError::into_inner));
        if is_believed {
            return read;
        }
        let current = self.look(read);
        // After what was read, and as of before it: what is believed has been looked at.
        self.looked_micros.store(now, Release);
        current
    }

    fn look(&self, read: Arc<Snapshot>) -> Arc<Snapshot> {
        let identity = FileIdentity::of(&self.path);
        if identity == read.identity {
            return read;
        }
        let fresh = match Snapshot::read(&self.path, &read.keys) {
            Ok(fresh) => {
                tracing::info!(keys = fresh.keys.len(), "the devices file has changed and was read again");
                fresh
            }
            Err(error) => {
                tracing::error!(%error, "the devices file has changed and cannot be read; the keys stay as they were");
                // Not to be read again before it changes again.
                Snapshot { identity, keys: read.keys.clone(), facts: Arc::clone(&read.facts) }
            }
        };
        let fresh = Arc::new(fresh);
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        fresh
    }
}

impl KnownDevice {
    fn take_turn(&self, per_second: Option<NonZeroU32>, now: Duration) -> Result<(), Duration> {
        if per_second.is_none() {
            return Ok(());
        }
        let mut rate = self.usage.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.set(per_second);
        let from = rate.admits_from();
        if now < from {
            return Err(from.saturating_sub(now));
        }
        rate.take(now, 1);
        Ok(())
    }

    /// Notes that the key was shown. When it was before, in milliseconds since 1970; 0: never.
    pub fn note_use(&self, now: Timestamp) -> i64 {
        self.usage.last_used_millis.swap(now.as_millis(), Relaxed)
    }
}

impl std::ops::Deref for KnownDevice {
    type Target = Device;
    fn deref(&self) -> &Device {
        &self.device
    }
}

impl FileIdentity {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self { inode: found.ino(), length: found.len(), changed: (found.ctime(), found.ctime_nsec()) })
    }
}

impl Snapshot {
    /// Keys that were known `before` are used on as they were.
    fn read(path: &Path, before: &HashMap<String, KnownDevice>) -> Result<Self, DeviceKeysError> {
        // The identity first: if the file changes in between, the next look reads it again.
        let identity = FileIdentity::of(path);
        let known = |device: Device| {
            let usage = before.get(&device.id).map(|known| Arc::clone(&known.usage)).unwrap_or_default();
            (device.id.clone(), KnownDevice { device: Arc::new(device), usage })
        };
        let devices = list(path)?;
        let facts = devices.iter().map(|device| (device.id.clone(), device.fact())).collect();
        Ok(Self { identity, keys: devices.into_iter().map(known).collect(), facts: Arc::new(facts) })
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self { last_used_millis: AtomicI64::new(0), rate: Mutex::new(RateCap::new(None, RATE_BURST)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::ids::BuildingId,
        http::auth::{
            device_keys::{DeviceKind, add, revoke},
            key_use,
        },
    };

    #[test]
    fn a_device_has_its_rate_and_a_burst_whatever_becomes_of_other_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.toml");
        let hq = BuildingId::parse("hq").unwrap();
        let add = || add(&path, hq.clone(), None, DeviceKind::Gate, None, Timestamp::from_millis(0)).unwrap();
        let (one, two) = (add(), add());
        let keys = &KnownDevices::open(&path, &LastUsed::new()).unwrap();
        let (rate, now) = (NonZeroU32::new(2), Duration::from_secs(100));
        let turns = |key: &str, now| {
            (0..50).take_while(|_| keys.find(key).unwrap().take_turn(rate, now).is_ok()).count()
        };
        assert_eq!(turns(&one, now), 11, "five seconds' worth, and one");
        assert_eq!(keys.find(&one).unwrap().take_turn(rate, now), Err(Duration::from_millis(500)));
        revoke(&path, &keys.find(&two).unwrap().id).unwrap();
        assert_eq!(turns(&one, now), 0, "the debt outlives a change of the file");
        assert_eq!(turns(&one, now + Duration::from_secs(1)), 2);
        assert!(keys.find(&one).unwrap().take_turn(None, now).is_ok());
    }

    #[test]
    fn use_is_known_over_a_restart_and_forgotten_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.toml");
        let hq = BuildingId::parse("hq").unwrap();
        let add = || add(&path, hq.clone(), None, DeviceKind::Gate, None, Timestamp::from_millis(0)).unwrap();
        let (one, two) = (add(), add());
        let keys = KnownDevices::open(&path, &LastUsed::new()).unwrap();
        assert_eq!(keys.last_used(), LastUsed::new());
        keys.find(&one).unwrap().note_use(Timestamp::from_millis(7));
        let used = keys.last_used();
        assert_eq!(used.into_values().collect::<Vec<_>>(), [Timestamp::from_millis(7)]);
        let file = key_use::path(dir.path());
        key_use::write(&file, &keys.last_used()).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let keys = KnownDevices::open(&path, &key_use::read(&file)).unwrap();
        keys.find(&two).unwrap().note_use(Timestamp::from_millis(9));
        assert_eq!((keys.last_used().len(), keys.facts().len()), (2, 2));
        revoke(&path, one.split_once('.').unwrap().0).unwrap();
        assert_eq!((keys.last_used().len(), keys.facts().len()), (1, 1));
        fs::write(&file, "{").unwrap();
        assert_eq!(key_use::read(&file), LastUsed::new());
    }

    #[test]
    fn what_is_too_long_is_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys = KnownDevices::open(&dir.path().join("devices.toml"), &LastUsed::new()).unwrap();
        assert!(keys.find(&format!("k_00000000.{}", "x".repeat(100_000))).is_none());
    }
}
