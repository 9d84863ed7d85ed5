//! What the name of an object tells.

use crate::{domain::ids::LogName, sinks::s3_objects::ObjectFormat};

/// Digits of a sequence in a name.
const SEQUENCE_DIGITS: usize = 20;

/// `<log>-<first>-<last>`, as the `s3` sink names its objects: whose events are in it, and no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// Whose sequences they are.
    pub log: LogName,
    /// The lowest one.
    pub first: u64,
    /// The highest one.
    pub last: u64,
}

/// What an object is, by its name; `None` if it holds no events.
pub(super) fn format_of(name: &str) -> Option<ObjectFormat> {
    ObjectFormat::ALL.into_iter().find(|format| name.ends_with(format.ending()))
}

impl KeyRange {
    /// What a key or path says; `None` if it is not in the form of the `s3` sink.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next()?;
        let stem = name.strip_suffix(format_of(name)?.ending())?;
        let (stem, last) = stem.rsplit_once('-')?;
        let (log, first) = stem.rsplit_once('-')?;
        let sequence = |text: &str| {
            let is_sequence = text.len() == SEQUENCE_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
            is_sequence.then(|| text.parse().ok()).flatten()
        };
        let (first, last) = (sequence(first)?, sequence(last)?);
        let log = log.parse().ok()?;
        (first <= last).then_some(Self { log, first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::s3_objects::Compression;

    #[test]
    fn only_a_name_of_the_s3_sink_tells_a_range() {
        let (one, two) = (format!("{:020}", 1), format!("{:020}", 2));
        let range = KeyRange::of(&format!("events/building=hq/hq-1.7-{one}-{two}.ndjson.gz")).unwrap();
        assert_eq!((range.log.to_string(), range.first, range.last), ("hq-1.7".to_owned(), 1, 2));
        for name in [
            format!("hq-1.7-{one}.ndjson"),
            format!("hq-1.7-{two}-{one}.ndjson"),
            format!("hq-1.7-1-{two}.ndjson"),
            format!("hq-1.7-{one}-{two}.json"),
            format!("hq-{one}-{two}.ndjson"),
            String::new(),
        ] {
            assert_eq!(KeyRange::of(&name), None, "{name}");
        }
        assert_eq!(KeyRange::of(&format!("hq-1.7-{one}-{two}.parquet")), Some(range));
        assert_eq!(format_of("x.ndjson.zst"), Some(ObjectFormat::Ndjson(Compression::Zstd)));
        assert_eq!(format_of("x.json"), None);
    }
}
