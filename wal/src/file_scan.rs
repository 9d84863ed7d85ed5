//! Finding the frames of a segment file: what an open reads once, from start to end.
//!
//! Nothing is believed that is not a whole frame with a right checksum. After the last one only zeros should
//! follow. Where something else follows, the scan looks for whole frames further on:
//!
//! - there is a later commit's mark: an acknowledged record is damaged. The frames behind it are in the index, the
//!   missing ones are not, so that whoever compares sequences sees what is lost.
//! - there is none: this was the last commit, and the crash tore it. What is whole before the tear stays, the
//!   rest is as if it had never been written. Whether it had been acknowledged, only the high-water file knows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::file_format::{self, HEADER_BLOCK_BYTES, Header, MARK_BYTES, MARK_MAGIC};
use crate::frame::{self, MAX_PAYLOAD_BYTES, OVERHEAD_BYTES};

/// Read at once. More than the longest frame.
const WINDOW_BYTES: usize = 2 * 1024 * 1024;
const _: () = assert!(WINDOW_BYTES > MAX_PAYLOAD_BYTES + OVERHEAD_BYTES);

/// Compared with zeros at once.
const ZEROS_BYTES: usize = 64 * 1024;
static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];

/// Where a frame is. No bytes: it is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

impl Place {
    pub(crate) fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.bytes)
    }

    pub(crate) fn is_missing(self) -> bool {
        self.bytes == 0
    }
}

/// The places of the frames from sequence `first` on, and where the next commit goes.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) first: u64,
    pub(crate) places: Vec<Place>,
    pub(crate) tail: u64,
}

impl Index {
    pub(crate) fn empty() -> Index {
        Index { first: 0, places: Vec::new(), tail: HEADER_BLOCK_BYTES }
    }

    /// The sequence after the last one, `None` if empty.
    pub(crate) fn next(&self) -> Option<u64> {
        (!self.places.is_empty()).then(|| self.first.saturating_add(self.places.len() as u64))
    }

    /// Notes a frame after all others; sequences between are missing.
    pub(crate) fn push(&mut self, sequence: u64, place: Place) {
        if self.places.is_empty() {
            self.first = sequence;
        }
        let index = usize::try_from(sequence.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.places.resize(index, Place::default());
        self.places.push(place);
        self.tail = place.end();
    }

    /// Forgets every sequence after this one.
    pub(crate) fn truncate(&mut self, after: u64) {
        let kept = after.saturating_add(1).saturating_sub(self.first);
        self.places.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        while self.places.last().is_some_and(|place| place.is_missing()) {
            self.places.pop();
        }
        self.tail = self.places.last().map_or(HEADER_BLOCK_BYTES, |place| place.end());
    }

    /// The first missing sequence of a segment that begins with `first`.
    fn first_missing(&self, first: u64) -> Option<u64> {
        if self.first > first && !self.places.is_empty() {
            return Some(first);
        }
        let index = self.places.iter().position(|place| place.is_missing())?;
        Some(self.first + index as u64)
    }
}

enum Item {
    Frame { sequence: u64, place: Place },
    Mark { offset: u64, first: u64 },
}

/// Scans a whole file.
pub(crate) fn scan(file: &File, header: &Header) -> io::Result<Index> {
    let mut window = Window::new(file)?;
    let mut index = Index::empty();
    let mut last_mark = 0;
    let mut offset = HEADER_BLOCK_BYTES;
    while let Some(item) = next_item(&mut window, offset, header, &index)? {
        match item {
            Item::Frame { sequence, place } => {
                index.push(sequence, place);
                offset = place.end();
            }
            Item::Mark { offset: at, first } => {
                last_mark = first;
                offset = at + MARK_BYTES as u64;
            }
        }
    }
    if let Some(missing) = index.first_missing(header.first)
        && last_mark <= missing
    {
        // torn: no commit was begun after this one
        index.truncate(missing.saturating_sub(1));
    }
    Ok(index)
}

/// Where the last byte that is not zero ends, at least `tail`.
pub(crate) fn end_of_data(file: &File, tail: u64) -> io::Result<u64> {
    let mut window = Window::new(file)?;
    let (mut offset, mut end) = (tail, tail);
    loop {
        let bytes = window.at(offset, ZEROS_BYTES)?;
        if bytes.is_empty() {
            return Ok(end);
        }
        if !is_zero(bytes) {
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            end = offset + last as u64 + 1;
        }
        offset += bytes.len() as u64;
    }
}

/// The next frame or mark at or after `offset` that may follow what was found so far.
fn next_item(
    window: &mut Window,
    mut offset: u64,
    header: &Header,
    index: &Index,
) -> io::Result<Option<Item>> {
    // without a limit one bad sequence would make an index of any size
    let expected = index.next().unwrap_or(header.first);
    let most = header.segment_bytes / OVERHEAD_BYTES as u64;
    let is_possible =
        |sequence: u64| sequence >= expected && (index.places.is_empty() || sequence - index.first <= most);
    loop {
        let bytes = window.at(offset, ZEROS_BYTES)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let Some(skipped) = first_candidate(bytes) else {
            offset += bytes.len() as u64;
            continue;
        };
        offset += skipped as u64;
        let mark = file_format::decode_mark(window.at(offset, MARK_BYTES)?);
        if let Some(first) = mark.filter(|first| is_possible(*first)) {
            return Ok(Some(Item::Mark { offset, first }));
        }
        if let Some((sequence, place)) = frame_at(window, offset)?.filter(|found| is_possible(found.0)) {
            return Ok(Some(Item::Frame { sequence, place }));
        }
        offset += 1;
    }
}

fn first_candidate(bytes: &[u8]) -> Option<usize> {
    if is_zero(bytes) {
        return None;
    }
    bytes.iter().position(|byte| *byte == MARK_MAGIC[0] || *byte == frame::MAGIC[0])
}

/// By comparison of slices, which is fast in any build.
fn is_zero(bytes: &[u8]) -> bool {
    ZEROS.get(..bytes.len()) == Some(bytes)
}

/// The whole frame that begins here, if one does.
fn frame_at(window: &mut Window, offset: u64) -> io::Result<Option<(u64, Place)>> {
    let Ok(claimed) = frame::claimed_bytes(window.at(offset, OVERHEAD_BYTES)?) else { return Ok(None) };
    let bytes = Bytes::copy_from_slice(window.at(offset, claimed)?);
    let (Ok(record), Ok(offset), Ok(bytes)) =
        (frame::decode(&bytes), u32::try_from(offset), u32::try_from(claimed))
    else {
        return Ok(None);
    };
    Ok(Some((record.sequence, Place { offset, bytes })))
}

/// A part of the file in memory.
struct Window<'a> {
    file: &'a File,
    file_bytes: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl Window<'_> {
    fn new(file: &File) -> io::Result<Window<'_>> {
        Ok(Window { file, file_bytes: file.metadata()?.len(), start: 0, buffer: Vec::new() })
    }

    /// So many bytes from here on; fewer only at the end of the file.
    fn at(&mut self, offset: u64, bytes: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.file_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.min(left);
        let end = offset + bytes as u64;
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            self.buffer.resize(WINDOW_BYTES.max(bytes).min(left), 0);
            self.file.read_exact_at(&mut self.buffer, offset)?;
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        Ok(self.buffer.get(from..from + bytes).unwrap_or_default())
    }
}
