//! Which objects of an archive can hold which sequences.

use std::ops::RangeInclusive;

use crate::sinks::{
    archive::{Archive, ArchiveError, Line, Listing, Object},
    envelope::Envelope,
};

/// An object that may hold events of this server.
#[derive(Debug)]
pub(super) struct Indexed {
    pub(super) object: Object,
    /// The sequences in it.
    pub(super) range: RangeInclusive<u64>,
    /// Whether what is wrong with it has been said.
    pub(super) is_checked: bool,
}

/// All of them, by their first sequence.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) objects: Vec<Indexed>,
    /// Objects that by their names are of other servers. They are not read.
    pub(super) of_others: u64,
}

impl Index {
    /// Believes a name that tells a range: an event outside it is a finding later. Other objects are read for theirs.
    pub(super) fn make(archive: &Archive, listing: Listing, server: &str) -> Result<Self, ArchiveError> {
        let mut index = Self::default();
        for object in listing.objects {
            let range = match &object.range {
                Some(named) if named.log.server != server => {
                    index.of_others += 1;
                    continue;
                }
                Some(named) => named.first..=named.last,
                None => range_in(archive, &object, server)?,
            };
            index.objects.push(Indexed { object, range, is_checked: false });
        }
        index.objects.sort_by_key(|indexed| *indexed.range.start());
        Ok(index)
    }
}

/// From the lowest to the highest sequence of this server in it; only 0 if there is none, so that what else is in it is
/// looked at all the same.
fn range_in(archive: &Archive, object: &Object, server: &str) -> Result<RangeInclusive<u64>, ArchiveError> {
    let mut range: Option<(u64, u64)> = None;
    archive.read(object, &mut |line| {
        let (Line::Whole(text) | Line::Tail(text) | Line::Differs(text, _)) = line else { return };
        if let Ok(envelope) = Envelope::parse(text)
            && envelope.log.server == server
        {
            let (first, last) = range.unwrap_or((u64::MAX, 0));
            range = Some((first.min(envelope.sequence), last.max(envelope.sequence)));
        }
    })?;
    let (first, last) = range.unwrap_or((0, 0));
    Ok(first..=last)
}
