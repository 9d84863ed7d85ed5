//! Making a log of what is left of a damaged one. The damaged one is only read.
//!
//! Two passes over its files, one segment in memory at a time: [`RepairPlan::make`] finds out what is there and how
//! much room it takes, [`RepairPlan::write`] writes it. Frames are written unaltered, so sequences, hashes and bytes
//! stay. Each run of records without a gap begins a segment of its own, and a last, empty segment begins above the
//! highest sequence ever used, so that none is used twice.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::candidates::Candidates;
use crate::durable_fs;
use crate::frame::{self, NO_HASH};
use crate::gaps::{Gap, Gaps, MAX_GAPS};
use crate::high_water::{self, Found, Mark};
use crate::low_water;
use crate::salvage::{self, Kept, Known, Salvaged};
use crate::segment_names::{self, segment_paths};
use crate::store::StoreError;
use crate::store_kind::StoreKind;

/// The most guessed sequences listed; more are counted.
pub const MAX_GUESSES: usize = 1_000;

/// A log could not be repaired. The damaged one is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The directory has neither a segment nor a high-water file.
    #[error("there is no log in {}; is this the data directory?", .dir.display())]
    NoLog { dir: PathBuf },
    /// Segments of two stores.
    #[error("{} is not in the store {store}, which the others are in; move it away", .path.display())]
    OtherStore { path: PathBuf, store: StoreKind },
    /// More than [`MAX_GAPS`].
    #[error(
        "the log has more than {MAX_GAPS} gaps, which is the most that a repaired log can have: restore the data \
         directory from a backup, or begin with an empty one and replay from the archive"
    )]
    TooManyGaps,
    /// Something else changed the files between the two passes.
    #[error("{} changed while it was repaired; stop whatever writes to it, and try again", .path.display())]
    Changed { path: PathBuf },
    /// 2^64 records.
    #[error("no sequence is left above {highest}")]
    SequencesExhausted { highest: u64 },
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairFacts {
    /// The store the log was created with.
    pub store: StoreKind,
    /// The highest sequence that anything but the log knows to have been durable, a sink's cursor or a snapshot, say;
    /// 0: none.
    pub durable_to: u64,
}

/// What a repair will do, and what will be missing.
#[derive(Debug)]
pub struct RepairPlan {
    facts: RepairFacts,
    known: Known,
    /// The last record that was trimmed.
    low: Mark,
    segments: Vec<Source>,
    gaps: Vec<Gap>,
    /// Records that will be in the new log.
    pub salvaged: u64,
    /// The bytes of their frames.
    pub frame_bytes: u64,
    /// The highest sequence ever used, as far as anything shows: the next one is the first of the new log's own.
    pub highest: u64,
    /// Records of an unfinished group at the end: never answered, and dropped.
    pub unfinished: u64,
    /// Sequences of several different frames, of which the hash chain or the high-water mark named one.
    pub decided: u64,
    /// Sequences of several different frames, of which one had to be guessed; at most [`MAX_GUESSES`].
    pub guessed: Vec<u64>,
    /// Guesses past that.
    pub guessed_left_off: u64,
    /// Sequences of which there are whole frames, none of which is the one that the hash chain or the high-water mark
    /// names: missing.
    pub contradicted: u64,
    /// Whole frames left over from before: of sequences that their segment cannot hold.
    pub outside: u64,
}

/// A segment of the damaged log.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    range: RangeInclusive<u64>,
    above: Option<Kept>,
    pub(crate) runs: Vec<Run>,
}

/// Records without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Of the record before the first.
    pub(crate) previous: Mark,
    pub(crate) frame_bytes: u64,
    pub(crate) last_hash: frame::Hash,
}

impl RepairPlan {
    /// Looks at all that is there. `progress` hears of each segment before it is read, with how many there are.
    ///
    /// # Errors
    /// See [`RepairError`].
    pub fn make(
        dir: &Path,
        facts: &RepairFacts,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<RepairPlan, RepairError> {
        let paths = segment_paths(dir)?;
        let mark = match high_water::read(dir)? {
            Found::Mark(mark) => Some(mark),
            Found::Missing if paths.is_empty() => return Err(RepairError::NoLog { dir: dir.to_owned() }),
            Found::Missing | Found::Damaged => None,
        };
        if let Some(path) = paths.iter().find(|path| segment_names::kind(path) != Some(facts.store)) {
            return Err(RepairError::OtherStore { path: path.clone(), store: facts.store });
        }
        // without it nobody knows whether the beginning was trimmed: then it is missing
        let low = low_water::read(dir)?.unwrap_or(Mark::NONE);
        let paths = paths.get(low_water::leftovers(&paths, &low)..).unwrap_or_default();
        let durable_to = facts.durable_to.max(low.sequence).max(mark.map_or(0, |mark| mark.sequence));
        let mut plan = RepairPlan::empty(*facts, Known { mark, durable_to }, low);
        let mut above = None;
        let mut range_end = u64::MAX;
        for (index, path) in paths.iter().enumerate().rev() {
            progress(paths.len() - index, paths.len());
            let first = segment_names::first_sequence(path).unwrap_or(1);
            plan.highest = plan.highest.max(first.saturating_sub(1));
            // nothing is before the first one there is: whatever it holds is its own, also under a wrong name
            let range_start = if index == 0 { low.sequence.saturating_add(1) } else { first };
            let source = plan.look(path, range_start..=range_end, above)?;
            above = source.runs.first().map(|run| (run.first, run.previous.hash)).or(above);
            plan.segments.push(source);
            range_end = first.saturating_sub(1);
        }
        plan.segments.reverse();
        plan.guessed.sort_unstable();
        plan.find_gaps()?;
        Ok(plan)
    }

    fn empty(facts: RepairFacts, known: Known, low: Mark) -> RepairPlan {
        RepairPlan {
            facts,
            known,
            low,
            segments: Vec::new(),
            gaps: Vec::new(),
            salvaged: 0,
            frame_bytes: 0,
            highest: known.durable_to,
            unfinished: 0,
            decided: 0,
            guessed: Vec::new(),
            guessed_left_off: 0,
            contradicted: 0,
            outside: 0,
        }
    }

    fn look(
        &mut self,
        path: &Path,
        range: RangeInclusive<u64>,
        above: Option<Kept>,
    ) -> Result<Source, RepairError> {
        let mut source = Source { path: path.to_owned(), range, above, runs: Vec::new() };
        let Some(opened) = OpenSource::open(&source, self.facts.store)? else { return Ok(source) };
        let salvaged = opened.choose(&source, &self.known);
        self.highest = self.highest.max(opened.found.highest);
        self.outside += opened.found.outside + opened.found.left_out;
        self.unfinished += salvaged.unfinished;
        self.decided += salvaged.decided;
        self.contradicted += salvaged.contradicted;
        for guess in &salvaged.guessed {
            if self.guessed.len() < MAX_GUESSES {
                self.guessed.push(*guess);
            } else {
                self.guessed_left_off += 1;
            }
        }
        source.runs = runs(&salvaged);
        if source.runs.len() > MAX_GAPS + 1 {
            return Err(RepairError::TooManyGaps);
        }
        self.salvaged += salvaged.records.len() as u64;
        self.frame_bytes += source.runs.iter().map(|run| run.frame_bytes).sum::<u64>();
        Ok(source)
    }

    fn find_gaps(&mut self) -> Result<(), RepairError> {
        if self.highest == u64::MAX {
            return Err(RepairError::SequencesExhausted { highest: self.highest });
        }
        let mut expected = self.low.sequence.saturating_add(1);
        let mut gaps = Vec::new();
        for run in self.segments.iter().flat_map(|source| &source.runs) {
            if run.last < expected {
                continue;
            }
            if run.first > expected {
                gaps.push(Gap { first: expected, last: run.first - 1, hash: run.previous.hash });
            }
            expected = run.last.saturating_add(1);
        }
        if expected <= self.highest {
            let mark = self.known.mark.filter(|mark| mark.sequence == self.highest);
            let hash = mark.map_or(NO_HASH, |mark| mark.hash);
            gaps.push(Gap { first: expected, last: self.highest, hash });
        }
        if gaps.len() > MAX_GAPS {
            return Err(RepairError::TooManyGaps);
        }
        self.gaps = gaps;
        Ok(())
    }

    /// What will be missing, ascending.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// How many records will be missing.
    pub fn missing(&self) -> u64 {
        self.gaps.iter().map(|gap| (gap.last - gap.first).saturating_add(1)).fold(0, u64::saturating_add)
    }

    /// The segments that will be written, the last, empty one left out.
    pub fn new_segments(&self) -> usize {
        self.segments.iter().map(|source| source.runs.len()).sum()
    }

    pub(crate) fn store(&self) -> StoreKind {
        self.facts.store
    }

    pub(crate) fn sources(&self) -> &[Source] {
        &self.segments
    }

    /// The last record of the new log, or the last that is missing from it: what its next record goes on from.
    pub(crate) fn end(&self) -> Mark {
        let after_gap = self.gaps.last().filter(|gap| gap.last == self.highest).map(|gap| gap.hash);
        let last_run = self.segments.iter().flat_map(|source| &source.runs).last();
        let hash = after_gap.or(last_run.map(|run| run.last_hash)).unwrap_or(self.low.hash);
        Mark { sequence: self.highest, hash }
    }

    /// Chooses again what was planned, and reads it. `write` gets each run with its records.
    pub(crate) fn replay(
        &self,
        source: &Source,
        write: &mut dyn FnMut(&Run, &File, &Salvaged<'_>) -> Result<(), RepairError>,
    ) -> Result<(), RepairError> {
        if source.runs.is_empty() {
            return Ok(());
        }
        let changed = || RepairError::Changed { path: source.path.clone() };
        let opened = OpenSource::open(source, self.facts.store)?.ok_or_else(changed)?;
        let salvaged = opened.choose(source, &self.known);
        if runs(&salvaged) != source.runs {
            return Err(changed());
        }
        source.runs.iter().try_for_each(|run| write(run, &opened.file, &salvaged))
    }

    pub(crate) fn low(&self) -> &Mark {
        &self.low
    }

    pub(crate) fn gaps_file(&self) -> Gaps {
        Gaps::new(self.gaps.clone())
    }
}

impl Source {
    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A damaged segment being read.
struct OpenSource {
    file: File,
    found: Candidates,
}

impl OpenSource {
    /// `None`: its file is missing.
    fn open(source: &Source, kind: StoreKind) -> Result<Option<OpenSource>, StoreError> {
        let data_path = kind.data_path(&source.path);
        let file = match File::open(&data_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(StoreError::on("open", &data_path))?,
        };
        let found = Candidates::find(&file, &mut &file, kind, &source.range);
        Ok(Some(OpenSource { found: found.map_err(StoreError::on("read", &data_path))?, file }))
    }

    fn choose(&self, source: &Source, known: &Known) -> Salvaged<'_> {
        salvage::choose(&self.found, known, source.above)
    }
}

fn runs(salvaged: &Salvaged<'_>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (sequence, record) in &salvaged.records {
        let bytes = record.frame_bytes();
        match runs.last_mut() {
            Some(run) if run.last.checked_add(1) == Some(*sequence) => {
                run.last = *sequence;
                run.frame_bytes += bytes;
                run.last_hash = record.hash;
            }
            _ => {
                let previous = Mark { sequence: sequence.saturating_sub(1), hash: record.previous_hash };
                let (first, last, last_hash) = (*sequence, *sequence, record.hash);
                runs.push(Run { first, last, previous, frame_bytes: bytes, last_hash });
            }
        }
    }
    runs
}

/// Removes half a new log.
pub(crate) fn give_up(dir: &Path) {
    // what cannot be removed is in the way of the next attempt, which says so
    drop(durable_fs::remove(dir));
}
