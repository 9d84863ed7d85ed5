//! Which shard of a stream a key leads to. Pure.

use std::sync::Arc;

use aws_sdk_kinesis::types;
use md5::{Digest, Md5};

/// A shard that takes records, and the hash keys it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    /// Its id, such as `shardId-000000000001`.
    pub(super) id: Arc<str>,
    /// The lowest hash key that leads to it.
    pub(super) first: u128,
    last: u128,
}

/// The open shards of a stream, by hash key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShardMap(Vec<Shard>);

/// Where Kinesis itself puts a partition key: its MD5 as a number.
#[must_use]
pub(super) fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key).into())
}

impl ShardMap {
    /// A map of those that are open; `None` if there is none, or one that cannot be read.
    #[must_use]
    pub(super) fn of(listed: &[types::Shard]) -> Option<Self> {
        let mut shards =
            listed.iter().filter(|shard| is_open(shard)).map(read).collect::<Option<Vec<_>>>()?;
        shards.sort_by_key(|shard| shard.first);
        (!shards.is_empty()).then_some(Self(shards))
    }

    /// The shard that takes a hash key.
    #[must_use]
    pub(super) fn of_hash(&self, hash: u128) -> Option<&Shard> {
        let after = self.0.partition_point(|shard| shard.first <= hash);
        self.0.get(after.checked_sub(1)?).filter(|shard| hash <= shard.last)
    }
}

fn is_open(shard: &types::Shard) -> bool {
    shard.sequence_number_range().is_none_or(|range| range.ending_sequence_number().is_none())
}

fn read(shard: &types::Shard) -> Option<Shard> {
    let range = shard.hash_key_range()?;
    let (first, last) = (range.starting_hash_key().parse().ok()?, range.ending_hash_key().parse().ok()?);
    Some(Shard { id: shard.shard_id().into(), first, last })
}

#[cfg(test)]
pub(super) mod tests {
    use aws_sdk_kinesis::types::{HashKeyRange, SequenceNumberRange};

    use super::*;

    pub(in crate::sinks::kinesis) fn listed(
        id: &str,
        first: u128,
        last: u128,
        closed: Option<&str>,
    ) -> types::Shard {
        let keys = HashKeyRange::builder().starting_hash_key(first.to_string());
        let sequences = SequenceNumberRange::builder().starting_sequence_number("1");
        types::Shard::builder()
            .shard_id(id)
            .hash_key_range(keys.ending_hash_key(last.to_string()).build().unwrap())
            .sequence_number_range(
                sequences.set_ending_sequence_number(closed.map(str::to_owned)).build().unwrap(),
            )
            .build()
            .unwrap()
    }

    #[test]
    fn a_hash_leads_to_the_open_shard_around_it() {
        let middle = u128::MAX / 2;
        let map = ShardMap::of(&[
            listed("c", middle + 1, u128::MAX, None),
            listed("a", 0, u128::MAX, Some("9")),
            listed("b", 0, middle, None),
        ])
        .unwrap();
        let id = |hash| map.of_hash(hash).map(|shard| &*shard.id);
        assert_eq!([id(0), id(middle)], [Some("b"); 2]);
        assert_eq!([id(middle + 1), id(u128::MAX)], [Some("c"); 2]);
    }

    #[test]
    fn a_gap_and_a_stream_without_shards_lead_nowhere() {
        let map = ShardMap::of(&[listed("b", 10, 20, None)]).unwrap();
        assert!([9, 21].into_iter().all(|hash| map.of_hash(hash).is_none()));
        assert_eq!(ShardMap::of(&[]), None);
    }

    /// RFC 1321: MD5("abc") = 900150983cd24fb0d6963f7d28e17f72.
    #[test]
    fn the_hash_key_is_the_md5_as_a_number() {
        assert_eq!(hash_key("abc"), 0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72);
    }
}
