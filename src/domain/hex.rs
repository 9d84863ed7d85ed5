//! Bytes as lower-case hex digits.

const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];

/// Adds two digits for each byte. Once an event and sink, and once a request: not by `format!`, which took longer
/// than hashing.
pub fn push_hex(to: &mut String, bytes: &[u8]) {
    to.extend(
        bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|half| DIGITS.get(usize::from(half))),
    );
}

/// Two digits for each byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_two_digits() {
        let all: Vec<u8> = (0..=255).collect();
        let expected: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex(&all), expected);
        assert_eq!(hex(&[]), "");
    }
}
