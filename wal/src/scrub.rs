//! Looking through sealed segments for damage while the log is in use.
//!
//! A database is never opened for this: sled may panic over a damaged one. The raw files are read instead (see
//! `raw_check.rs`), as slowly as the caller likes.

use std::io;
use std::sync::Arc;

use crate::frame::Hash;
use crate::raw_check::{self, Checked};
use crate::recovery::Damage;
use crate::segments::Segments;
use crate::store::StoreError;
use crate::store_kind::StoreKind;

/// Looks through the sealed segments of a log, on a thread of the caller's, while its [`crate::Log`] goes on.
///
/// A segment that is found damaged is noted until it is found whole again: when it is trimmed it goes into the log's
/// `set-aside/` instead of being deleted. That is forgotten when the log is closed.
#[derive(Debug, Clone)]
pub struct Scrubber {
    segments: Arc<Segments>,
}

impl Scrubber {
    pub(crate) fn new(segments: Arc<Segments>) -> Scrubber {
        Scrubber { segments }
    }

    /// How many sealed segments were found damaged, and are still there.
    pub fn damaged(&self) -> usize {
        self.segments.damaged()
    }

    /// Looks through every sealed segment once, from the oldest on. `pace` hears of the bytes of each read and may
    /// sleep, or end the look with an error. `found` hears of damage, once for each segment with any.
    ///
    /// # Errors
    /// A file cannot be read, or `pace` ended it. Damage is no error.
    pub fn pass(
        &self,
        pace: &mut dyn FnMut(usize) -> io::Result<()>,
        found: &mut dyn FnMut(&Damage),
    ) -> Result<(), StoreError> {
        let (mut after, mut previous) = (0, None);
        while let Some((kind, sealed, last)) = self.segments.sealed_after(after) {
            after = sealed.first;
            let previous_hash = self.segments.gaps().hash_before(sealed.first).or(previous);
            let check = |pace: &mut dyn FnMut(usize) -> io::Result<()>| {
                raw_check::check(&sealed.path, kind, sealed.first..=last, None, pace).map(|checked| {
                    follows(checked, previous_hash, || Damage::of_first(&sealed.path, sealed.first))
                })
            };
            let mut checked = check(pace)?;
            if matches!(checked, Checked::Damaged(_)) && kind == StoreKind::Sled {
                // one that is just being closed may be written to while it is read
                checked = check(pace)?;
            }
            let damage = match checked {
                Checked::Whole { last_hash, .. } => {
                    previous = Some(last_hash);
                    None
                }
                Checked::Damaged(damage) => {
                    previous = None;
                    Some(damage)
                }
            };
            // no damage, if it was trimmed meanwhile
            if self.segments.note_damage(sealed.first, damage.is_some())
                && let Some(damage) = damage
            {
                found(&damage);
            }
        }
        Ok(())
    }
}

/// Damage, too, if the first record does not go on from the segment before.
fn follows(checked: Checked, expected: Option<Hash>, damage: impl FnOnce() -> Damage) -> Checked {
    match checked {
        Checked::Whole { previous_hash, .. } if expected.is_some_and(|hash| hash != previous_hash) => {
            Checked::Damaged(damage())
        }
        checked => checked,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::{Append, Log, LogOptions, segment_paths};

    fn log(dir: &Path, store: StoreKind) -> Log {
        let options =
            LogOptions { store, segment_bytes: 16 * 1024, cache_bytes: 1 << 20, ..LogOptions::default() };
        Log::open(dir, options).expect("opened")
    }

    fn pass(scrubber: &Scrubber) -> Vec<Damage> {
        let mut damages = Vec::new();
        scrubber.pass(&mut |_| Ok(()), &mut |damage| damages.push(damage.clone())).expect("read");
        damages
    }

    fn damage_is_found_and_set_aside(store: StoreKind) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = log(dir.path(), store);
        for number in 0..60_u8 {
            log.commit(&[Append { payload: vec![number; 1_000].into(), ends_group: true }])
                .expect("committed");
        }
        let scrubber = log.scrubber();
        assert_eq!((pass(&scrubber), scrubber.damaged()), (vec![], 0));
        let paths = segment_paths(dir.path()).expect("listed");
        assert!(paths.len() > 3, "{paths:?}");
        let data = store.data_path(&paths[1]);
        let whole = fs::read(&data).expect("read");
        let first = crate::segment_names::first_sequence(&paths[1]).expect("a segment");
        let mut bytes = whole.clone();
        // every copy of the second record
        let record = vec![first as u8; 999];
        let hits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&record)).collect();
        hits.iter().for_each(|at| bytes[*at] ^= 1);
        assert!(!hits.is_empty());
        fs::write(&data, &bytes).expect("damaged");
        let damages = pass(&scrubber);
        assert_eq!(damages.len(), 1, "{damages:?}");
        assert_eq!((&damages[0].path, damages[0].first, damages[0].last), (&paths[1], first + 1, first + 1));
        assert_eq!(scrubber.damaged(), 1);
        // whole again, as a disk's cache may be after a restart
        fs::write(&data, &whole).expect("restored");
        assert_eq!((pass(&scrubber), scrubber.damaged()), (vec![], 0));
        fs::write(&data, &bytes).expect("damaged");
        assert_eq!(pass(&scrubber).len(), 1);
        let cancelled = scrubber.pass(&mut |_| Err(io::Error::other("stop")), &mut |_| {});
        assert!(cancelled.expect_err("ended").to_string().contains("stop"));
        log.trimmer().trim(50).expect("trimmed");
        let aside: Vec<_> = fs::read_dir(dir.path().join("set-aside")).expect("there").collect();
        assert_eq!(aside.len(), 1);
        let space = log.space();
        assert!(space.set_aside_bytes > 0 && space.allocated_bytes > space.set_aside_bytes, "{space:?}");
        let kept = aside.into_iter().next().expect("one").expect("listed").path();
        assert_eq!(kept.file_name(), paths[1].file_name());
        assert_eq!(fs::read(store.data_path(&kept)).expect("kept"), bytes, "as evidence");
        assert_eq!((pass(&scrubber), scrubber.damaged()), (vec![], 0));
    }

    /// Something is in the way of setting aside, in this run and the next.
    fn damage_that_cannot_be_set_aside_is_not_deleted(store: StoreKind) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut opened = log(dir.path(), store);
        for number in 0..60_u8 {
            opened
                .commit(&[Append { payload: vec![number; 1_000].into(), ends_group: true }])
                .expect("committed");
        }
        let paths = segment_paths(dir.path()).expect("listed");
        drop(opened);
        let data = store.data_path(&paths[1]);
        let mut bytes = fs::read(&data).expect("read");
        let first = crate::segment_names::first_sequence(&paths[1]).expect("a segment");
        let record = vec![first as u8; 999];
        let hits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&record)).collect();
        hits.iter().for_each(|at| bytes[*at] ^= 1);
        fs::write(&data, &bytes).expect("damaged");
        let in_the_way = dir.path().join("set-aside");
        fs::write(&in_the_way, "no directory").expect("written");
        let opened = log(dir.path(), store);
        assert_eq!(pass(&opened.scrubber()).len(), 1);
        opened.trimmer().trim(40).expect_err("it cannot be set aside");
        assert!(opened.reader().first() > first, "trimmed all the same");
        drop(opened);
        let mut opened = log(dir.path(), store);
        assert!(!paths[0].exists() && fs::read(&data).expect("still there") == bytes);
        for number in 60..120_u8 {
            opened
                .commit(&[Append { payload: vec![number; 1_000].into(), ends_group: true }])
                .expect("committed");
        }
        opened.trimmer().trim(80).expect_err("it is said why it is still there");
        drop(opened);
        fs::remove_file(&in_the_way).expect("removed");
        drop(log(dir.path(), store));
        let kept = in_the_way.join(paths[1].file_name().expect("a name"));
        assert_eq!(fs::read(store.data_path(&kept)).expect("set aside"), bytes);
        assert!(!paths[1].exists());
    }

    #[test]
    fn damage_in_files_that_cannot_be_set_aside_is_not_deleted() {
        damage_that_cannot_be_set_aside_is_not_deleted(StoreKind::Files);
    }

    #[test]
    fn damage_in_sled_that_cannot_be_set_aside_is_not_deleted() {
        damage_that_cannot_be_set_aside_is_not_deleted(StoreKind::Sled);
    }

    #[test]
    fn damage_in_files_is_found_and_set_aside() {
        damage_is_found_and_set_aside(StoreKind::Files);
    }

    #[test]
    fn damage_in_sled_is_found_and_set_aside() {
        damage_is_found_and_set_aside(StoreKind::Sled);
    }
}
