//! What the name of an object tells.

use crate::{domain::ids::LogName, sinks::s3_objects::Compression};

/// Digits of a sequence in a name.
const SEQUENCE_DIGITS: usize = 20;

/// How an object's lines are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoding(pub(super) Compression);

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

impl Encoding {
    /// `None` if it holds no events.
    pub(super) fn of(name: &str) -> Option<Self> {
        let all = [Compression::None, Compression::Gzip, Compression::Zstd];
        all.into_iter().find(|compression| name.ends_with(compression.ending())).map(Self)
    }
}

impl KeyRange {
    /// What a key or path says; `None` if it is not in the form of the `s3` sink.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next()?;
        let (stem, _) = name.split_once(".ndjson")?;
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

    #[test]
    fn only_a_name_of_the_s3_sink_tells_a_range() {
        let (one, two) = (format!("{:020}", 1), format!("{:020}", 2));
        let range = KeyRange::of(&format!("events/building=hq/hq-1.7-{one}-{two}.ndjson.gz")).unwrap();
        assert_eq!((range.log.to_string(), range.first, range.last), ("hq-1.7".to_owned(), 1, 2));
        for name in [
            format!("hq-1.7-{one}.ndjson"),
            format!("hq-1.7-{two}-{one}.ndjson"),
            format!("hq-1.7-1-{two}.ndjson"),
            format!("hq-1.7-{one}-{two}.parquet"),
            format!("hq-{one}-{two}.ndjson"),
            String::new(),
        ] {
            assert_eq!(KeyRange::of(&name), None, "{name}");
        }
        assert_eq!(Encoding::of("x.ndjson.zst"), Some(Encoding(Compression::Zstd)));
        assert_eq!(Encoding::of("x.json"), None);
    }
}
