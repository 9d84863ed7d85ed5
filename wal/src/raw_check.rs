//! Whether all records of a segment are whole in its raw file, without opening it.
//!
//! sled, when it opens a damaged database, may panic, and it cuts off what lies behind the damage: a test with three
//! flipped bits lost 251 of 260 records to a start that was then refused. So nobody opens a database whose records
//! have not been found whole before. What this cannot see is damage between records, in what sled writes for itself.

use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;

use crate::candidates::Candidates;
use crate::frame::Hash;
use crate::high_water::Mark;
use crate::recovery::Damage;
use crate::salvage::{self, Known};
use crate::sequence_set::{first_gap, ranges};
use crate::store::StoreError;
use crate::store_kind::StoreKind;

/// A file read no faster than allowed.
pub(crate) struct Paced<'a> {
    pub(crate) file: &'a File,
    /// Hears of every read; an error ends the look.
    pub(crate) pace: &'a mut dyn FnMut(usize) -> io::Result<()>,
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut file = self.file;
        let read = file.read(buffer)?;
        (self.pace)(read)?;
        Ok(read)
    }
}

/// What a look at the raw file came to.
pub(crate) enum Checked {
    /// All records are whole, and each names the one before it.
    Whole { previous_hash: Hash, last_hash: Hash },
    /// Some are not.
    Damaged(Damage),
}

/// Checks these records of a segment.
pub(crate) fn check(
    path: &Path,
    kind: StoreKind,
    range: RangeInclusive<u64>,
    mark: Option<Mark>,
    pace: &mut dyn FnMut(usize) -> io::Result<()>,
) -> Result<Checked, StoreError> {
    let data_path = kind.data_path(path);
    let damage =
        |first, last, what: String| Checked::Damaged(Damage { path: path.to_owned(), first, last, what });
    let file = match File::open(&data_path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(damage(*range.start(), *range.end(), "its data file is missing".to_owned()));
        }
        file => file.map_err(StoreError::on("open", &data_path))?,
    };
    let held = *range.start()..=u64::MAX;
    let found = Candidates::find(&file, &mut Paced { file: &file, pace }, kind, &held)
        .map_err(StoreError::on("read", &data_path))?;
    let known = Known { mark, durable_to: u64::MAX };
    let salvaged = salvage::choose(&found, &known, None);
    let whole =
        salvaged.records.iter().map(|(sequence, _)| *sequence).filter(|sequence| range.contains(sequence));
    let whole_count = whole.clone().count() as u64;
    let expected = (range.end() - range.start()).saturating_add(1);
    if whole_count == expected {
        let mut records = salvaged.records.iter().filter(|(sequence, _)| range.contains(sequence));
        let first_and_last = records.clone().next().zip(records.next_back());
        if let Some(((_, first), (_, last))) = first_and_last {
            let (previous_hash, last_hash) = (first.previous_hash, last.hash);
            return Ok(Checked::Whole { previous_hash, last_hash });
        }
    }
    let (first, last) = first_gap(ranges(whole), &range);
    let what = format!("missing or damaged in its file, where {whole_count} of {expected} records are whole");
    Ok(damage(first, last, what))
}
