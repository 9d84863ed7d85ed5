//! Opening the state store, and what is checked before it is believed.
//!
//! A store appears under its name only when it is whole: database, seal and high-water file are made in
//! `<dir>.unfinished`, synced, and renamed. So a directory with anything in it is a store that once was whole, and
//! whatever is missing there is damage. An interrupted creation leaves at most `<dir>.unfinished`, in which nothing
//! was ever written; it is made anew.
//!
//! Every entry is read at every open: state is small, and sled notices some damage only then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable_fs;
use crate::high_water::{self, Found, HighWater, Mark};
use crate::opening::Opening;
use crate::sled_db::{self, SledDb, SledOpenError};
use crate::state_seal::{FIRST_ENTRY_KEY, SEAL_KEY, Seal};
use crate::state_sled::StateSled;
use crate::store::StoreError;

/// State is small and read at start; this holds most of it.
pub(crate) const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// A state store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StateOpenError {
    /// Something that was written is missing or altered. Nothing of it is touched.
    #[error("the state store is damaged: {}: {what}; {}", .path.display(), move_away(.path.parent().unwrap_or(.path)))]
    Damaged {
        /// The database's file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It is in use, or the disk is full.
    #[error(transparent)]
    Database(SledOpenError),
    /// A file could not be read, written, moved or synced.
    #[error(transparent)]
    Store(StoreError),
}

impl StateOpenError {
    fn damaged(dir: &Path, what: impl Into<String>) -> StateOpenError {
        StateOpenError::Damaged { path: dir.join("db"), what: what.into() }
    }

    fn of_database(dir: &Path, error: SledOpenError) -> StateOpenError {
        match error {
            SledOpenError::Refused { reason, .. } => StateOpenError::damaged(dir, reason),
            SledOpenError::File(error) => StateOpenError::of_store(dir, error),
            other @ (SledOpenError::Locked { .. } | SledOpenError::DiskFull { .. }) => {
                StateOpenError::Database(other)
            }
        }
    }

    fn of_store(dir: &Path, error: StoreError) -> StateOpenError {
        if error.is_damage() {
            StateOpenError::damaged(dir, error.to_string())
        } else {
            StateOpenError::Store(error)
        }
    }
}

/// How every message about a damaged state store ends.
pub(crate) fn move_away(dir: &Path) -> String {
    format!(
        "move {} away: every sink then begins again with the oldest event in the log, which repeats events \
         (consumers deduplicate by id), and dead letters kept there are lost; but if the disk is full, free some \
         space first: to sled that looks the same, and then nothing is lost",
        dir.display()
    )
}

/// Opens the store in `dir`, or creates it if there is nothing.
pub(crate) fn open(dir: &Path) -> Result<StateSled, StateOpenError> {
    let of_store = |error| StateOpenError::of_store(dir, error);
    let _opening = Opening::of(dir, &move_away(dir));
    if is_absent_or_empty(dir).map_err(of_store)? {
        create(dir)?;
    }
    let mark = match high_water::read(dir).map_err(of_store)? {
        Found::Mark(mark) => mark,
        Found::Missing => return Err(StateOpenError::damaged(dir, HIGH_WATER_MISSING)),
        Found::Damaged => return Err(StateOpenError::damaged(dir, HIGH_WATER_DAMAGED)),
    };
    if is_without_data(dir) {
        return Err(StateOpenError::damaged(dir, WITHOUT_DATA));
    }
    let db = SledDb::open(dir, CACHE_BYTES).map_err(|error| StateOpenError::of_database(dir, error))?;
    let contents = Contents::read(&db).map_err(of_store)?;
    let seal = contents.check(Some(&mark)).map_err(|what| StateOpenError::damaged(dir, what))?;
    let mut high_water = HighWater::open(dir).map_err(of_store)?;
    if seal.generation > mark.sequence {
        high_water.write(&seal.mark()).map_err(of_store)?;
    }
    Ok(StateSled::new(db, seal, high_water))
}

pub(crate) const HIGH_WATER_MISSING: &str =
    "the high-water file beside it is missing, so lost entries would not show";
pub(crate) const HIGH_WATER_DAMAGED: &str =
    "neither slot of the high-water file beside it is whole, so lost entries would not show";
pub(crate) const WITHOUT_DATA: &str = "the file is missing or empty";

/// Whether the database's file is gone. Asked before sled is, because sled creates what is missing, and so hides it.
pub(crate) fn is_without_data(dir: &Path) -> bool {
    fs::metadata(dir.join("db")).map_or(0, |metadata| metadata.len()) == 0
}

pub(crate) fn is_absent_or_empty(dir: &Path) -> Result<bool, StoreError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(StoreError::on("list", dir)(error)),
    }
}

fn create(dir: &Path) -> Result<(), StateOpenError> {
    let of_store = |error| StateOpenError::of_store(dir, error);
    let of_database = |error| StateOpenError::of_database(dir, error);
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let unfinished = dir.with_file_name(name);
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(of_store(StoreError::on("remove", &unfinished)(error)));
        }
        _ => {}
    }
    let db = SledDb::open(&unfinished, CACHE_BYTES).map_err(of_database)?;
    let mut batch = sled::Batch::default();
    batch.insert(&SEAL_KEY, Seal::FIRST.encode());
    db.apply(batch).and_then(|()| db.sync()).map_err(of_store)?;
    drop(db);
    // sled is done with the directory only when its lock is free
    sled_db::await_lock(&unfinished).map_err(of_database)?;
    high_water::create(&unfinished, &Seal::FIRST.mark()).map_err(of_store)?;
    durable_fs::sync_tree(&unfinished).map_err(of_store)?;
    // an empty directory of that name gives way
    fs::rename(&unfinished, dir).map_err(StoreError::on("rename", &unfinished)).map_err(of_store)?;
    durable_fs::sync_dir(dir.parent().unwrap_or(Path::new(""))).map_err(of_store)
}

/// What a database shows.
#[derive(Debug)]
pub(crate) struct Contents {
    /// The seal as it is kept, if it is there.
    pub(crate) seal: Option<Seal>,
    /// What the entries add up to; its generation says nothing.
    pub(crate) found: Seal,
}

impl Contents {
    pub(crate) fn read(db: &SledDb) -> Result<Contents, StoreError> {
        let kept = db.tree.get(SEAL_KEY).map_err(|error| db.error("read", error))?;
        let mut found = Seal::FIRST;
        for entry in db.tree.range(FIRST_ENTRY_KEY..) {
            let (key, value) = entry.map_err(|error| db.error("read", error))?;
            found.add(&key, &value);
        }
        Ok(Contents { seal: kept.and_then(|bytes| Seal::decode(&bytes)), found })
    }

    /// The seal, if everything fits: or what does not.
    pub(crate) fn check(&self, mark: Option<&Mark>) -> Result<Seal, String> {
        let Some(seal) = self.seal else {
            return Err("the record of how much it holds is missing".to_owned());
        };
        if seal.entries != self.found.entries {
            return Err(format!("{} of {} entries are there", self.found.entries, seal.entries));
        }
        if seal.sum != self.found.sum {
            return Err(format!("its {} entries are not those that were written last", seal.entries));
        }
        let Some(mark) = mark else { return Ok(seal) };
        if seal.generation < mark.sequence {
            return Err(format!(
                "the last writes are missing: write {} was durable, the last one there is {}",
                mark.sequence, seal.generation
            ));
        }
        if seal.generation == mark.sequence && seal.mark() != *mark {
            return Err("the high-water file beside it is that of another store".to_owned());
        }
        Ok(seal)
    }
}
