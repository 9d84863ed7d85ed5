//! Which events of a batch go together in one record of a stream: those of one shard, in their order. Pure.

use std::{collections::HashMap, sync::Arc};

use super::{
    kpl::{RECORD_OVERHEAD_BYTES, event_bytes},
    shards::{Shard, ShardMap, hash_key},
};
use crate::{delivery::Outgoing, sinks::envelope::key_or_server};

/// Bytes of an aggregated record, as in AWS' own producer: small enough that a shard's second holds many, so that one
/// that throttled repeats little. A larger event goes alone.
const MAX_AGGREGATE_BYTES: usize = 50 * 1024;

/// The events of one record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The shard they are all for; `None` for one of which the stream's list says nothing, which goes alone.
    pub(super) shard: Option<Shard>,
    /// Their places in the batch.
    pub(super) places: Vec<usize>,
}

/// The groups of the events at `places` of a batch.
#[must_use]
pub(super) fn groups(
    batch: &[Outgoing],
    places: impl IntoIterator<Item = usize>,
    map: &ShardMap,
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut open: HashMap<Arc<str>, (usize, usize)> = HashMap::new();
    for place in places {
        let Some(event) = batch.get(place) else { continue };
        let key = key_or_server(event);
        let Some(shard) = map.of_hash(hash_key(key)) else {
            groups.push(Group { shard: None, places: vec![place] });
            continue;
        };
        let event_bytes = event_bytes(key, &event.body);
        if let Some((index, bytes)) = open.get_mut(&shard.id)
            && *bytes + event_bytes <= MAX_AGGREGATE_BYTES
            && let Some(group) = groups.get_mut(*index)
        {
            *bytes += event_bytes;
            group.places.push(place);
        } else {
            open.insert(Arc::clone(&shard.id), (groups.len(), RECORD_OVERHEAD_BYTES + event_bytes));
            groups.push(Group { shard: Some(shard.clone()), places: vec![place] });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::shards::tests::listed, *};
    use crate::sinks::test_events::event;

    fn map() -> ShardMap {
        let (quarter, half) = (u128::MAX / 4, u128::MAX / 2);
        // nothing is known of the second quarter
        ShardMap::of(&[listed("low", 0, quarter, None), listed("high", half, u128::MAX, None)]).unwrap()
    }

    proptest! {
        #[test]
        fn each_event_is_in_one_group_of_its_shard(sizes in proptest::collection::vec(0_usize..30_000, 0..60)) {
            let batch: Vec<_> = (1..).zip(&sizes).map(|(sequence, size)| {
                let mut event = event("access.exit.recorded", "hq", &format!("E{sequence}"), sequence);
                event.body = vec![b' '; *size].into();
                event
            }).collect();
            let map = map();
            let groups = groups(&batch, 0..batch.len(), &map);
            for group in &groups {
                let keys = group.places.iter().map(|place| batch[*place].record.partition_key());
                for key in keys {
                    prop_assert_eq!(map.of_hash(hash_key(key)), group.shard.as_ref());
                }
                let bytes: usize = group.places.iter().map(|place| batch[*place].body.len()).sum();
                prop_assert!(group.places.len() == 1 || bytes <= MAX_AGGREGATE_BYTES);
                prop_assert!(group.shard.is_some() || group.places.len() == 1);
                prop_assert!(group.places.is_sorted());
            }
            let mut places: Vec<_> = groups.iter().flat_map(|group| group.places.clone()).collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..batch.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn small_events_of_a_shard_go_together() {
        let batch: Vec<_> =
            (1..=100).map(|sequence| event("card.lost", "hq", &format!("E{sequence}"), sequence)).collect();
        let groups = groups(&batch, 0..100, &map());
        assert_eq!(groups.iter().filter(|group| group.shard.is_some()).count(), 2);
    }
}
