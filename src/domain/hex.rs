//! Bytes as lower-case hex digits.

/// Bytes whose digits are made at once.
const CHUNK_BYTES: usize = 32;

/// Adds two digits for each byte. Once an event and sink, and several times a request: not by `format!`, which took longer
/// than hashing, and not by `char`s, each of which is encoded.
pub fn push_hex(to: &mut String, bytes: &[u8]) {
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let mut digits = [[0; 2]; CHUNK_BYTES];
        write_hex(digits.as_flattened_mut(), chunk);
        let text =
            digits.as_flattened().get(..chunk.len() * 2).and_then(|text| std::str::from_utf8(text).ok());
        to.push_str(text.unwrap_or_default());
    }
}

/// Writes two digits for each byte, as far as there is room.
pub fn write_hex(to: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in to.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

/// Of a number below 16.
fn digit(number: u8) -> u8 {
    if number < 10 { b'0' + number } else { b'a' - 10 + number }
}

/// Two digits for each byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

/// The 32 bytes of 64 lower-case digits; `None` for any other text.
#[must_use]
pub fn read_hash(text: &str) -> Option<[u8; 32]> {
    read_hex(text)
}

/// As many bytes, each of two lower-case digits; `None` for any other text.
#[must_use]
pub fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_back_and_nothing_else_is() {
        let bytes: [u8; 32] = std::array::from_fn(|at| (at * 8) as u8);
        assert_eq!(read_hash(&hex(&bytes)), Some(bytes));
        for wrong in ["", "ab", &"A".repeat(64), &"a".repeat(63), &"a".repeat(66), &"é".repeat(32)] {
            assert_eq!(read_hash(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_byte_is_two_digits() {
        let all: Vec<u8> = (0..=255).collect();
        let expected: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex(&all), expected);
        assert_eq!(hex(&[]), "");
    }
}
