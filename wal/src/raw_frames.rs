//! Frames in the raw bytes of a segment's file, whatever the store thinks of them.
//!
//! A frame says all about itself, and so does a continuation chunk of sled's (see `sled_store.rs`), so both are found
//! without the store that wrote them.

use std::io::{self, Read};

use bytes::Bytes;

use crate::frame::{self, MAX_PAYLOAD_BYTES, OVERHEAD_BYTES, Record};
use crate::sled_db::MAX_VALUE_BYTES;
use crate::sled_store::{self, Chunk};
use crate::store_kind::StoreKind;

/// Passed over at once when they are all zero: a file of ours is made of zeros, and comparing is fast in any build.
const ZEROS_BYTES: usize = 4096;
static ZEROS: [u8; ZEROS_BYTES] = [0; ZEROS_BYTES];

/// Something whole at an offset of the file.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A frame, checksum included.
    Frame { offset: u64, bytes: &'a [u8], record: Record },
    /// The beginning of a frame that is stored in pieces. Nothing has checked it.
    Head { offset: u64, sequence: u64, frame_bytes: usize, bytes: &'a [u8] },
    /// A later piece of such a frame, checksum included.
    Chunk { offset: u64, chunk: Chunk<'a> },
}

/// The longest piece in which this store keeps a frame.
pub(crate) fn longest_piece(kind: StoreKind) -> usize {
    match kind {
        StoreKind::Sled => MAX_VALUE_BYTES,
        StoreKind::Files => MAX_PAYLOAD_BYTES + OVERHEAD_BYTES,
    }
}

/// How much of a file is in memory at a time.
pub(crate) fn window_bytes(kind: StoreKind) -> usize {
    (4 * longest_piece(kind)).max(1024 * 1024)
}

/// Reads a file from start to end, in windows that overlap by what may be one piece, and shows what is found. Returns
/// how many bytes there were.
pub(crate) fn walk(
    file: &mut impl Read,
    longest_piece: usize,
    window_bytes: usize,
    visit: &mut dyn FnMut(Found<'_>),
) -> io::Result<u64> {
    let mut window = Vec::with_capacity(window_bytes);
    let mut start = 0_u64;
    let mut bytes = 0_u64;
    loop {
        let room = window_bytes.saturating_sub(window.len()) as u64;
        let read = file.by_ref().take(room).read_to_end(&mut window)?;
        bytes += read as u64;
        let is_last = read == 0;
        // what begins later may be cut by the window's end
        let end = if is_last { window.len() } else { window.len().saturating_sub(longest_piece - 1) };
        let done = walk_window(&window, start, end, longest_piece, visit);
        if is_last {
            return Ok(bytes);
        }
        start += done as u64;
        window.drain(..done);
    }
}

/// Returns how many bytes it is done with.
fn walk_window(
    window: &[u8],
    start: u64,
    end: usize,
    longest_piece: usize,
    visit: &mut dyn FnMut(Found<'_>),
) -> usize {
    let mut at = 0;
    while at < end {
        let rest = window.get(at..).unwrap_or_default();
        if rest.starts_with(&ZEROS) {
            at += ZEROS_BYTES;
            continue;
        }
        let near = rest.get(..ZEROS_BYTES).unwrap_or(rest);
        at += match near.iter().position(|byte| is_magic(*byte)) {
            Some(0) => take(rest, start + at as u64, longest_piece, visit).unwrap_or(1),
            Some(skipped) => skipped,
            None => near.len(),
        };
    }
    at
}

fn is_magic(byte: u8) -> bool {
    byte == frame::MAGIC[0] || byte == sled_store::CHUNK_MAGIC[0]
}

/// The length of the whole frame or chunk that begins here, if one does.
fn take(bytes: &[u8], offset: u64, longest_piece: usize, visit: &mut dyn FnMut(Found<'_>)) -> Option<usize> {
    if let Some((chunk, length)) = sled_store::decode_chunk(bytes) {
        visit(Found::Chunk { offset, chunk });
        return Some(length);
    }
    let frame_bytes = frame::claimed_bytes(bytes).ok()?;
    if frame_bytes > longest_piece {
        // what follows may be anything: nothing has checked the length
        let (sequence, bytes) = (frame::claimed_sequence(bytes)?, bytes.get(..longest_piece)?);
        visit(Found::Head { offset, sequence, frame_bytes, bytes });
        return None;
    }
    let bytes = bytes.get(..frame_bytes)?;
    let record = frame::decode(&Bytes::copy_from_slice(bytes)).ok()?;
    visit(Found::Frame { offset, bytes, record });
    Some(frame_bytes)
}
