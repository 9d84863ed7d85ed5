//! A directory of objects that are on their way: each is durable here, with its key and checksum, before it is
//! uploaded, and goes when the sink's cursor has durably passed its events (promise 4).
//!
//! Which events an object holds is part of it, so after a crash nothing is formed again: an event that a spooled
//! object holds is delivered by that object, however batches are cut then. [`manifest`] has the decisions.
//!
//! What can happen, and why no event is in two objects:
//! - Killed before the file has its name: nothing was uploaded; the events are formed anew.
//! - Killed before, during or after the upload, or before the cursor is durable: the file is found at the start. It
//!   is uploaded when one of its events is due again; if it is there already, S3 says so.
//! - Killed after the cursor is durable and before the file is gone: it is removed at the start.
//!
//! It holds the batch under way, and what was uploaded since the cursor was last written, 200 ms ago: how much of that
//! is limited by `max_uploaded_bytes`. What is damaged is set aside, and stays until an operator removes it.

pub mod manifest;

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use self::manifest::{ENDING, Leftover, MAX_HEAD_BYTES, Manifest, Target, checksum};

/// What a file is called while it is written.
const UNFINISHED_ENDING: &str = ".tmp";
/// What is added to the name of a file whose first line is damaged.
const DAMAGED_ENDING: &str = ".damaged";

type HasRoomFor = dyn Fn(u64) -> io::Result<bool> + Send + Sync;

/// What is left of the disk of one or more spools. Of those that share it one file at a time is written, so that what
/// was asked is still so.
#[derive(Clone)]
pub struct Room {
    has_room_for: Arc<HasRoomFor>,
    writing: Arc<Mutex<()>>,
}

impl Room {
    /// Asks this whether a file of so many bytes has room now.
    pub fn asking(has_room_for: impl Fn(u64) -> io::Result<bool> + Send + Sync + 'static) -> Self {
        Self { has_room_for: Arc::new(has_room_for), writing: Arc::default() }
    }

    /// Writes a file of so many bytes if it has room.
    fn write(&self, bytes: u64, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if (self.has_room_for)(bytes)? {
            return write();
        }
        let text = format!("no room for {bytes} bytes: free some space");
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

/// Where a sink spools.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// The directory, of this sink alone. It is made if it is not there.
    pub dir: PathBuf,
    /// What is left of its disk.
    pub room: Room,
}

/// An object that is durable in the spool.
#[derive(Debug)]
pub struct Spooled {
    /// What it says of itself.
    pub manifest: Manifest,
    /// This process knows that the service has it.
    is_uploaded: AtomicBool,
}

/// The spool of one sink.
#[derive(Debug)]
pub struct Spool {
    settings: SpoolSettings,
    target: Target,
    max_uploaded_bytes: u64,
    /// What is in the directory; `None` until it could be read.
    objects: Mutex<Option<Vec<Arc<Spooled>>>>,
}

impl Spooled {
    /// Whether nothing is left to do for its events.
    #[must_use]
    pub fn is_uploaded(&self) -> bool {
        self.is_uploaded.load(Relaxed)
    }

    /// The service has it.
    pub fn set_uploaded(&self) {
        self.is_uploaded.store(true, Relaxed);
    }
}

impl Spool {
    /// The spool of a sink that writes to `target`. It is opened by the first call that needs it. Nothing is added while
    /// `max_uploaded_bytes` only wait to be removed; a batch must fit into them.
    #[must_use]
    pub fn new(settings: SpoolSettings, target: Target, max_uploaded_bytes: u64) -> Self {
        Self { settings, target, max_uploaded_bytes, objects: Mutex::new(None) }
    }

    /// The object that holds each of these events, if there is one.
    ///
    /// # Errors
    /// The directory cannot be read: nothing may be formed before it is known what is in it.
    pub fn holding(&self, sequences: &[u64]) -> io::Result<Vec<Option<Arc<Spooled>>>> {
        self.with_objects(0, |objects| {
            let holder = |sequence: &u64| objects.iter().find(|object| object.manifest.holds(*sequence));
            sequences.iter().map(|sequence| holder(sequence).cloned()).collect()
        })
    }

    /// Makes an object durable.
    ///
    /// # Errors
    /// `StorageFull` if there is no room, `ResourceBusy` if too much waits to be removed; else what the system says.
    /// Nothing of it is left then.
    pub fn add(&self, manifest: Manifest, bytes: &[u8]) -> io::Result<Arc<Spooled>> {
        let head = manifest.head().map_err(io::Error::other)?;
        let needed_bytes = (head.len() as u64).saturating_add(bytes.len() as u64);
        let uploaded_bytes = self.with_objects(0, |objects| uploaded_bytes(objects))?;
        if uploaded_bytes >= self.max_uploaded_bytes {
            let text = format!("{uploaded_bytes} bytes are uploaded and wait for the sink's progress");
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        // it may have been removed while this process runs
        create_private_dir(&self.settings.dir)?;
        let path = self.path(&manifest);
        let write = || write_durably(&path, &[&head, bytes]);
        self.settings.room.write(needed_bytes, write).inspect_err(|_| {
            // what is left of it would otherwise be taken for an object at the next start
            let _ = fs::remove_file(&path);
        })?;
        let spooled = Arc::new(Spooled { manifest, is_uploaded: AtomicBool::new(false) });
        self.with_objects(0, |objects| objects.push(Arc::clone(&spooled)))?;
        Ok(spooled)
    }

    /// The very bytes that were spooled; `None` if they are no longer there, or others.
    ///
    /// # Errors
    /// What the system says, unless the file is gone.
    pub fn read(&self, object: &Spooled) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(&object.manifest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut file = BufReader::new(file);
        read_head(&mut file)?;
        let mut bytes = Vec::with_capacity(usize::try_from(object.manifest.bytes).unwrap_or(0));
        file.take(object.manifest.bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok((checksum(&bytes) == object.manifest.sha256).then_some(bytes))
    }

    /// Forgets an object that the service surely does not have: its events are formed anew.
    ///
    /// # Errors
    /// The file cannot be removed; then it still counts.
    pub fn forget(&self, object: &Spooled) -> io::Result<()> {
        let path = self.path(&object.manifest);
        remove_if_there(&path)?;
        sync_dir(&self.settings.dir)?;
        self.with_objects(0, |objects| {
            objects.retain(|other| other.manifest.key != object.manifest.key);
        })
    }

    /// Everything up to `cursor` is durably settled: what holds only such events goes.
    ///
    /// # Errors
    /// What the system says. What could not be removed goes at the next start.
    pub fn settled(&self, cursor: u64) -> io::Result<()> {
        let settled: Vec<Arc<Spooled>> = self.with_objects(cursor, |objects| {
            objects.extract_if(.., |object| object.manifest.is_settled(cursor)).collect()
        })?;
        settled.iter().try_for_each(|object| remove_if_there(&self.path(&object.manifest)))
    }

    /// Where an object lies.
    #[must_use]
    pub fn path(&self, manifest: &Manifest) -> PathBuf {
        self.settings.dir.join(manifest.file_name())
    }

    fn with_objects<T>(&self, cursor: u64, work: impl FnOnce(&mut Vec<Arc<Spooled>>) -> T) -> io::Result<T> {
        // a poisoned list is a list: each change of it is one step
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match objects.take() {
            Some(found) => found,
            None => self.open(cursor)?,
        };
        Ok(work(objects.insert(found)))
    }

    fn open(&self, cursor: u64) -> io::Result<Vec<Arc<Spooled>>> {
        let dir = &self.settings.dir;
        create_private_dir(dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(UNFINISHED_ENDING) {
                remove_if_there(&path)?;
            } else if name.ends_with(ENDING)
                && let Some(manifest) = read_manifest(&path)?
                && self.is_kept(&manifest, &path, cursor)?
            {
                found.push(Arc::new(Spooled { manifest, is_uploaded: AtomicBool::new(false) }));
            }
        }
        sync_dir(dir)?;
        found.sort_by_key(|object| object.manifest.first);
        Ok(found)
    }

    fn is_kept(&self, manifest: &Manifest, path: &Path, cursor: u64) -> io::Result<bool> {
        let (bucket, key, count) = (&manifest.target.bucket, &manifest.key, manifest.count);
        match manifest.leftover(&self.target, cursor) {
            Leftover::Keep => {
                tracing::info!(key, count, "an object that an earlier process spooled goes out as it is");
                return Ok(true);
            }
            Leftover::Settled => {}
            Leftover::Elsewhere => {
                tracing::warn!(
                    bucket,
                    key,
                    count,
                    "this sink now writes to another place: an object that was spooled for the place before is \
                     dropped, its events go to the new place"
                );
            }
        }
        remove_if_there(path)?;
        Ok(false)
    }
}

fn uploaded_bytes(objects: &[Arc<Spooled>]) -> u64 {
    objects.iter().filter(|object| object.is_uploaded()).map(|object| object.manifest.bytes).sum()
}

/// The manifest of a file; one that is damaged is set aside.
fn read_manifest(path: &Path) -> io::Result<Option<Manifest>> {
    let head = read_head(&mut BufReader::new(File::open(path)?))?;
    match Manifest::of_head(&head) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(error) => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(DAMAGED_ENDING);
            tracing::error!(
                path = %path.display(), %error,
                "a spooled file is damaged and set aside; its events go out again, and should it have been uploaded \
                 they are in the bucket twice"
            );
            fs::rename(path, aside)?;
            Ok(None)
        }
    }
}

fn read_head(file: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    Read::by_ref(file).take(MAX_HEAD_BYTES as u64).read_until(b'\n', &mut head)?;
    Ok(head)
}

/// The name appears when the content is durable, and is durable itself when this returns.
fn write_durably(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED_ENDING);
    let unfinished = PathBuf::from(unfinished);
    let written = write_synced(&unfinished, parts).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // its space is wanted; at the latest the next start removes it
        let _ = fs::remove_file(&unfinished);
    }
    written.and_then(|()| path.parent().map_or(Ok(()), sync_dir))
}

fn write_synced(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

fn create_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // the spool's own name, and that of the directory of all spools
    path.ancestors().skip(1).take(2).try_for_each(sync_dir)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
