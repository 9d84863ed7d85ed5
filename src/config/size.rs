//! Sizes: a whole number and its unit, `"512B"`, `"1MiB"`, `"20GiB"`.

use thiserror::Error;

const UNITS_BYTES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Why a text is no size.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SizeError {
    /// Not a whole number followed by a unit.
    #[error("is not a size")]
    Form,
    /// A number without a unit could be anything.
    #[error("is a size without its unit")]
    NoUnit,
    /// More bytes than 64 bits count.
    #[error("is too large a size")]
    TooLarge,
}

/// Reads a size in bytes. Units are binary; `MB` is refused, because people mean two things by it.
///
/// # Errors
/// [`SizeError`] if the text is not one whole number and one unit.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(SizeError::Form)?;
    if number.is_empty() {
        return Err(SizeError::Form);
    }
    if unit.is_empty() {
        return Err(SizeError::NoUnit);
    }
    let (_, unit_bytes) = UNITS_BYTES.iter().find(|(name, _)| *name == unit).ok_or(SizeError::Form)?;
    let number: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
    number.checked_mul(*unit_bytes).ok_or(SizeError::TooLarge)
}

/// The shortest text that [`parse_size`] reads back, for messages.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let found = UNITS_BYTES.iter().rev().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    found.map_or_else(|| "0B".to_owned(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read_and_others_refused() {
        assert_eq!(parse_size("0B"), Ok(0));
        assert_eq!(parse_size("1MiB"), Ok(1_048_576));
        assert_eq!(parse_size("20GiB"), Ok(21_474_836_480));
        for bad in ["", "MiB", "1MB", "1 MiB", "1.5GiB", "-1B", "1mib", "1k"] {
            assert_eq!(parse_size(bad), Err(SizeError::Form), "{bad:?}");
        }
        assert_eq!(parse_size("1024"), Err(SizeError::NoUnit));
        assert_eq!(parse_size("18446744073709551615TiB"), Err(SizeError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_formatted_is_read_back(bytes in any::<u64>()) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,24}") {
            let _ = parse_size(&text);
        }
    }
}
