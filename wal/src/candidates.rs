//! All whole frames of one damaged segment, by where they lie: payloads stay in the file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};

use crate::frame::{self, Hash};
use crate::raw_frames::{self, Found};
use crate::sled_store::{CHUNK_DATA_BYTES, CHUNK_HEADER_BYTES};
use crate::store_kind::StoreKind;

/// The most different frames kept for one sequence; more are counted and left out. Two is what a crash leaves, of
/// which sled has not yet written over the older one.
const MAX_VERSIONS: usize = 16;

/// The most ways to put a long frame together that are tried, when sled holds several versions of its pieces.
const MAX_ASSEMBLIES: usize = 64;

/// A whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) hash: Hash,
    pub(crate) previous_hash: Hash,
    pub(crate) ends_group: bool,
    place: Pieces,
}

/// Where the bytes of a frame are, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pieces {
    One(Piece),
    Many(Box<[Piece]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    offset: u64,
    bytes: u32,
}

impl Candidate {
    /// The length of the frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.place.list().iter().map(|piece| u64::from(piece.bytes)).sum()
    }

    /// Where it begins.
    pub(crate) fn offset(&self) -> u64 {
        self.place.list().first().map_or(0, |piece| piece.offset)
    }

    /// The frame, read again and compared.
    pub(crate) fn read(&self, file: &File) -> io::Result<Bytes> {
        let bytes = self.place.read(file)?;
        if frame::hash(&bytes) != self.hash {
            let what = format!("the frame at byte {} is not what it was a moment ago", self.offset());
            return Err(io::Error::other(what));
        }
        Ok(bytes)
    }
}

impl Pieces {
    fn list(&self) -> &[Piece] {
        match self {
            Pieces::One(piece) => std::slice::from_ref(piece),
            Pieces::Many(pieces) => pieces,
        }
    }

    fn read(&self, file: &File) -> io::Result<Bytes> {
        let total: usize = self.list().iter().map(|piece| piece.bytes as usize).sum();
        let mut bytes = BytesMut::zeroed(total);
        let mut rest = bytes.as_mut();
        for piece in self.list() {
            let (this, after) = rest.split_at_mut(piece.bytes as usize);
            file.read_exact_at(this, piece.offset)?;
            rest = after;
        }
        Ok(bytes.freeze())
    }
}

/// The whole frames of a segment.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    by_sequence: BTreeMap<u64, Vec<Candidate>>,
    /// Whole frames of sequences that the segment cannot hold: left over from before it was recovered.
    pub(crate) outside: u64,
    /// Frames past [`MAX_VERSIONS`].
    pub(crate) left_out: u64,
    /// The highest sequence of any whole frame.
    pub(crate) highest: u64,
}

impl Candidates {
    /// Finds what is in the file of a segment that by the names of the segments holds these sequences. Memory is a
    /// hundred bytes or so for each frame of one segment.
    /// `reader` reads the same file from its start.
    pub(crate) fn find(
        file: &File,
        reader: &mut impl io::Read,
        kind: StoreKind,
        range: &RangeInclusive<u64>,
    ) -> io::Result<Candidates> {
        let mut found = Candidates::default();
        let mut long = LongFrames::default();
        let (longest, window) = (raw_frames::longest_piece(kind), raw_frames::window_bytes(kind));
        raw_frames::walk(reader, longest, window, &mut |piece| match piece {
            Found::Frame { offset, bytes, record } => {
                let place = Pieces::One(Piece { offset, bytes: bytes.len() as u32 });
                found.insert(range, &record, frame::hash(bytes), place);
            }
            Found::Head { offset, sequence, frame_bytes, bytes } if kind == StoreKind::Sled => {
                long.heads.insert((sequence, frame_bytes, frame::hash(bytes)), offset);
            }
            Found::Head { .. } => {}
            Found::Chunk { offset, chunk } => {
                let (data_at, bytes) = (offset + CHUNK_HEADER_BYTES as u64, chunk.data.len() as u32);
                let versions = long.chunks.entry((chunk.sequence, chunk.number)).or_default();
                let hash = frame::hash(chunk.data);
                if versions.iter().all(|(other, _)| *other != hash) && versions.len() < MAX_VERSIONS {
                    versions.push((hash, Piece { offset: data_at, bytes }));
                }
            }
        })?;
        for (sequence, frame_bytes, offset) in long.heads() {
            if let Some((place, bytes)) = long.assemble(file, sequence, frame_bytes, offset, longest)?
                && let Ok(record) = frame::decode(&bytes)
            {
                found.insert(range, &record, frame::hash(&bytes), place);
            }
        }
        Ok(found)
    }

    fn insert(&mut self, range: &RangeInclusive<u64>, record: &frame::Record, hash: Hash, place: Pieces) {
        self.highest = self.highest.max(record.sequence);
        if !range.contains(&record.sequence) {
            self.outside += 1;
            return;
        }
        let versions = self.by_sequence.entry(record.sequence).or_default();
        if let Some(same) = versions.iter_mut().find(|version| version.hash == hash) {
            // the last copy: where the latest ones are
            same.place = place;
        } else if versions.len() < MAX_VERSIONS {
            let (previous_hash, ends_group) = (record.previous_hash, record.ends_group);
            versions.push(Candidate { hash, previous_hash, ends_group, place });
        } else {
            self.left_out += 1;
        }
    }

    /// The versions of one sequence.
    pub(crate) fn of(&self, sequence: u64) -> &[Candidate] {
        self.by_sequence.get(&sequence).map_or(&[], Vec::as_slice)
    }

    /// The sequences there are, from the last to the first.
    pub(crate) fn descending(&self) -> impl Iterator<Item = (u64, &[Candidate])> {
        self.by_sequence.iter().rev().map(|(sequence, versions)| (*sequence, versions.as_slice()))
    }
}

/// Pieces of frames that sled stores in several values.
#[derive(Debug, Default)]
struct LongFrames {
    /// By sequence, claimed length of the frame, and hash of the head.
    heads: HashMap<(u64, usize, Hash), u64>,
    chunks: HashMap<(u64, u16), Vec<(Hash, Piece)>>,
}

impl LongFrames {
    /// In an order that does not change from one call to the next.
    fn heads(&self) -> BTreeSet<(u64, usize, u64)> {
        self.heads
            .iter()
            .map(|((sequence, frame_bytes, _), offset)| (*sequence, *frame_bytes, *offset))
            .collect()
    }

    /// The whole frame that begins with this head, if its chunks are there.
    fn assemble(
        &self,
        file: &File,
        sequence: u64,
        frame_bytes: usize,
        offset: u64,
        head_bytes: usize,
    ) -> io::Result<Option<(Pieces, Bytes)>> {
        let chunks = frame_bytes.saturating_sub(head_bytes).div_ceil(CHUNK_DATA_BYTES);
        let mut versions = Vec::with_capacity(chunks);
        for number in 1..=chunks as u16 {
            let Some(of_number) = self.chunks.get(&(sequence, number)) else { return Ok(None) };
            versions.push(of_number);
        }
        let head = Piece { offset, bytes: head_bytes as u32 };
        for attempt in 0..MAX_ASSEMBLIES {
            let Some(tail) = combination(&versions, attempt) else { break };
            let place = Pieces::Many([head].into_iter().chain(tail).collect());
            let bytes = place.read(file)?;
            if frame::decode(&bytes).is_ok() {
                return Ok(Some((place, bytes)));
            }
        }
        Ok(None)
    }
}

/// One way to take a version of each chunk; `None` when all have been tried.
fn combination(versions: &[&Vec<(Hash, Piece)>], mut number: usize) -> Option<Vec<Piece>> {
    let mut pieces = Vec::with_capacity(versions.len());
    for of_chunk in versions {
        pieces.push(of_chunk.get(number % of_chunk.len())?.1);
        number /= of_chunk.len();
    }
    (number == 0).then_some(pieces)
}
