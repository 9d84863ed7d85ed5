//! One checksum over a whole Parquet file, in its own footer: the format has none, and `parquet` 60 panics on some
//! damage instead of reporting it. Nothing is decoded before the seal was found whole.
//!
//! The seal is an entry of the footer's key-value metadata, so every reader passes over it: the SHA-256 of the file as
//! it is with zeros in the place of the digits. Only where the digits stand is looked for, nothing is parsed.

use std::io::{self, Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};

use crate::domain::hex::hex;

/// The entry's key.
pub(super) const SEAL_KEY: &str = "turnstiled.sha256";
/// What the value begins with. Events may have the same text, but they stand before the footer's metadata.
const MARK: &[u8] = b"turnstiled-seal-1 ";
/// SHA-256 in hex.
const DIGITS: usize = 64;
/// How far from the file's end the seal may begin: what a writer puts after its metadata is far less.
const MAX_TAIL_BYTES: u64 = 16 << 10;
/// What is hashed at once.
const BUFFER_BYTES: usize = 128 << 10;

/// The value to write, which [`seal`] completes.
pub(super) fn open_seal() -> String {
    format!("{}{}", String::from_utf8_lossy(MARK), "0".repeat(DIGITS))
}

/// Completes the seal of a file that was written with [`open_seal`].
///
/// # Errors
/// `InvalidData` if it has none.
pub(super) fn seal(file: &mut [u8]) -> io::Result<()> {
    let tail_at = file.len().saturating_sub(usize::try_from(MAX_TAIL_BYTES).unwrap_or(usize::MAX));
    let digits = hex(&Sha256::digest(&*file));
    let place = file.get_mut(tail_at..).and_then(|tail| {
        let at = digits_at(tail)?;
        tail.get_mut(at..at.saturating_add(DIGITS))
    });
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "the footer has no place for its checksum");
    place.ok_or_else(missing)?.copy_from_slice(digits.as_bytes());
    Ok(())
}

/// Whether the file is, to the last bit, one that was sealed. It is at its beginning then.
///
/// # Errors
/// What the system says.
pub(super) fn is_whole(file: &mut (impl Read + Seek)) -> io::Result<bool> {
    let bytes = file.seek(SeekFrom::End(0))?;
    let tail_at = file.seek(SeekFrom::Start(bytes.saturating_sub(MAX_TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(MAX_TAIL_BYTES).read_to_end(&mut tail)?;
    file.rewind()?;
    let Some(at) = digits_at(&tail) else { return Ok(false) };
    let end = at.saturating_add(DIGITS);
    let Some(digits) = tail.get(at..end) else { return Ok(false) };
    let mut hash = Sha256::new();
    hash_from(&mut file.take(tail_at), &mut hash)?;
    hash.update(tail.get(..at).unwrap_or_default());
    hash.update([b'0'; DIGITS]);
    hash.update(tail.get(end..).unwrap_or_default());
    file.rewind()?;
    Ok(hex(&hash.finalize()).as_bytes() == digits)
}

/// The last mark's digits; `None` if there is no mark, or less than all digits after it.
fn digits_at(tail: &[u8]) -> Option<usize> {
    let mark = tail.windows(MARK.len()).rposition(|window| window == MARK)?;
    let at = mark.saturating_add(MARK.len());
    (at.saturating_add(DIGITS) <= tail.len()).then_some(at)
}

fn hash_from(file: &mut impl Read, hash: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(bytes) => hash.update(buffer.get(..bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn sealed(before: usize) -> Vec<u8> {
        let mut file = [vec![7; before], open_seal().into_bytes(), b"PAR1".to_vec()].concat();
        seal(&mut file).unwrap();
        file
    }

    fn whole(file: &[u8]) -> bool {
        is_whole(&mut Cursor::new(file)).unwrap()
    }

    #[test]
    fn every_flipped_bit_and_every_cut_shows() {
        let file = sealed(100);
        assert!(whole(&file));
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(!whole(&damaged), "byte {at}");
            assert!(!whole(&file[..at]), "cut at {at}");
        }
        assert!(!whole(&[&file[..], b"x"].concat()));
    }

    #[test]
    fn a_long_file_is_hashed_as_a_whole_and_the_last_mark_counts() {
        let mut file = sealed(3 * BUFFER_BYTES);
        assert!(whole(&file));
        file[1] ^= 1;
        assert!(!whole(&file));
        let mut file = [open_seal(), "x".to_owned(), open_seal()].concat().into_bytes();
        seal(&mut file).unwrap();
        assert!(whole(&file));
    }

    #[test]
    fn a_file_without_a_seal_is_not_whole() {
        assert!(!whole(b"") && !whole(b"PAR1") && !whole(MARK));
        assert!(seal(&mut b"PAR1".to_vec()).is_err());
    }
}
