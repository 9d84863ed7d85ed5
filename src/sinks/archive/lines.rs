//! An object of ndjson as its lines.

use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;

use super::{ArchiveError, Object, cannot_read};
use crate::sinks::s3_objects::Compression;

/// The longest line: a record's 1 MiB, what routes add to it, and room.
pub const MAX_LINE_BYTES: usize = 2 << 20;
/// What is read at once.
const BUFFER_BYTES: usize = 128 << 10;

/// What comes next in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its line feed.
    Whole(&'a [u8]),
    /// What follows the last line feed: after a crash half a line, which was not acknowledged.
    Tail(&'a [u8]),
    /// Longer than [`MAX_LINE_BYTES`]: the rest of the object is not looked at.
    TooLong,
    /// A row of Parquet whose column does not say what its event says: the event, and the column.
    Differs(&'a [u8], &'static str),
    /// The object is damaged here: the rest cannot be read.
    Damaged,
}

/// Cuts what `stored` holds into lines.
pub(super) fn each(
    stored: impl Read,
    object: &Object,
    compression: Compression,
    take: &mut dyn FnMut(Line<'_>),
) -> Result<(), ArchiveError> {
    let stored = BufReader::with_capacity(BUFFER_BYTES, stored);
    let error = cannot_read(&object.name);
    match compression {
        Compression::None => cut(stored, take).map_err(error),
        Compression::Gzip => decoded(MultiGzDecoder::new(stored), take).map_err(error),
        Compression::Zstd => {
            let decoder = zstd::Decoder::with_buffer(stored).map_err(&error)?;
            decoded(decoder, take).map_err(error)
        }
    }
}

fn decoded(decoder: impl Read, take: &mut dyn FnMut(Line<'_>)) -> io::Result<()> {
    match cut(BufReader::with_capacity(BUFFER_BYTES, decoder), take) {
        // what the network or the disk says has other kinds
        Err(error) if is_damage(&error) => {
            take(Line::Damaged);
            Ok(())
        }
        cut => cut,
    }
}

/// What the two decoders say of bytes that are not theirs.
fn is_damage(error: &io::Error) -> bool {
    let is_zstd = error.kind() == io::ErrorKind::Other && error.raw_os_error().is_none();
    is_zstd
        || matches!(
            error.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        )
}

fn cut(mut text: impl BufRead, take: &mut dyn FnMut(Line<'_>)) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MAX_LINE_BYTES as u64 + 1;
        Read::by_ref(&mut text).take(limit).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\n") {
            Some(line) => take(Line::Whole(line)),
            None if line.len() as u64 == limit => {
                take(Line::TooLong);
                return Ok(());
            }
            None if line.is_empty() => return Ok(()),
            None => {
                take(Line::Tail(&line));
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::s3_objects::ObjectFormat;

    fn read(compression: Compression, bytes: &[u8]) -> Vec<String> {
        let format = ObjectFormat::Ndjson(compression);
        let object = Object { name: "x".to_owned(), range: None, format };
        let mut lines = Vec::new();
        let mut take = |line: Line<'_>| {
            lines.push(match line {
                Line::Whole(text) => String::from_utf8_lossy(text).into_owned(),
                Line::Tail(text) => format!("tail {}", String::from_utf8_lossy(text)),
                other => format!("{other:?}"),
            });
        };
        each(bytes, &object, compression, &mut take).unwrap();
        lines
    }

    #[test]
    fn half_a_line_and_an_endless_one_are_told_apart() {
        assert_eq!(read(Compression::None, b"a\n\nb"), ["a", "", "tail b"]);
        assert!(read(Compression::None, b"").is_empty());
        assert_eq!(read(Compression::None, &vec![b'x'; MAX_LINE_BYTES + 1]), ["TooLong"]);
        assert_eq!(read(Compression::None, &[vec![b'x'; MAX_LINE_BYTES], vec![b'\n']].concat()).len(), 1);
    }

    #[test]
    fn damaged_compression_is_said_after_what_could_be_read() {
        let mut state = 1_u32;
        let lines: Vec<u8> = (0..200_000)
            .map(|index| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if index % 100 == 99 { b'\n' } else { b'a' + (state >> 24) as u8 % 26 }
            })
            .collect();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut bytes = compression.compress(lines.clone()).unwrap();
            assert_eq!(read(compression, &bytes).len(), 2_000);
            let cut = read(compression, &bytes[..bytes.len() / 2]);
            assert_eq!(cut.last().map(String::as_str), Some("Damaged"), "{compression:?}");
            bytes[0] ^= 1;
            assert_eq!(read(compression, &bytes), ["Damaged"], "{compression:?}");
        }
    }
}
