//! The state store, on disk and in memory, against a sorted map.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use crate::{Change, MAX_STATE_KEY_BYTES, MAX_STATE_VALUE_BYTES, StateError, StateStore};

#[derive(Debug, Clone)]
enum Operation {
    /// A value's length, or none to delete.
    Write(Vec<(Bytes, Option<usize>)>),
    Scan {
        prefix: Bytes,
        after: Option<Bytes>,
        max: usize,
    },
    Reopen,
}

/// Few letters, so that keys meet, and the two that stored keys are made with.
fn keys() -> impl Strategy<Value = Bytes> {
    let letter = prop::sample::select(vec![0_u8, 1, 2, 0xFF, b'a']);
    prop::collection::vec(letter, 0..4).prop_map(Bytes::from)
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let length = prop_oneof![3 => 0..20_usize, 1 => 4_000..4_200_usize, 1 => 8_000..20_000_usize];
    let change = (keys(), prop::option::weighted(0.8, length));
    let operation = prop_oneof![
        4 => prop::collection::vec(change, 0..6).prop_map(Operation::Write),
        4 => (keys(), prop::option::of(keys()), 0..10_usize)
            .prop_map(|(prefix, after, max)| Operation::Scan { prefix, after, max }),
        1 => Just(Operation::Reopen),
    ];
    prop::collection::vec(operation, 1..40)
}

fn run(operations: Vec<Operation>, mut store: StateStore, reopen: impl Fn(StateStore) -> StateStore) {
    let mut model = BTreeMap::new();
    let mut writes = 0_u8;
    for operation in operations {
        match operation {
            Operation::Write(changes) => {
                writes = writes.wrapping_add(1);
                let changes = changes.into_iter().map(|(key, length)| match length {
                    Some(length) => Change::Put { key, value: vec![writes; length].into() },
                    None => Change::Delete { key },
                });
                let changes: Vec<_> = changes.collect();
                store.write(&changes).expect("written");
                for change in changes {
                    match change {
                        Change::Put { key, value } => model.insert(key, value),
                        Change::Delete { key } => model.remove(&key),
                    };
                }
            }
            Operation::Scan { prefix, after, max } => {
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(key, _)| key.starts_with(&prefix))
                    .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
                    .take(max)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                assert_eq!(store.scan_prefix(&prefix, after.as_deref(), max).expect("scanned"), expected);
                assert_eq!(store.get(&prefix).expect("read"), model.get(&prefix).cloned());
            }
            Operation::Reopen => store = reopen(store),
        }
    }
    let all: Vec<_> = model.into_iter().collect();
    assert_eq!(store.scan_prefix(b"", None, usize::MAX).expect("scanned"), all);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn in_memory_it_is_its_model(operations in operations()) {
        run(operations, StateStore::in_memory(), |store| store.reopen_in_memory().expect("in memory"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn on_disk_it_is_its_model(operations in operations()) {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || StateStore::open(dir.path()).expect("opened");
        run(operations, open(), |store| {
            drop(store);
            open()
        });
        let blobs = std::fs::read_dir(dir.path().join("blobs")).expect("listed").count();
        prop_assert_eq!(blobs, 0, "sled does not sync blob files, so there must be none");
    }
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Change {
    Change::Put { key: key.into(), value: value.into() }
}

#[test]
fn limits_are_refused_without_effect() {
    let dir = tempfile::tempdir().expect("a directory");
    for store in [StateStore::in_memory(), StateStore::open(dir.path()).expect("opened")] {
        let (longest_key, longest_value) = (vec![0; MAX_STATE_KEY_BYTES], vec![7; MAX_STATE_VALUE_BYTES]);
        let too_long_key = put(vec![0; MAX_STATE_KEY_BYTES + 1], "");
        let too_long_value = put("key", vec![0; MAX_STATE_VALUE_BYTES + 1]);
        for refused in [vec![put("a", "1"), too_long_key], vec![put("a", "1"), too_long_value]] {
            store.write(&refused).expect_err("too long");
        }
        let five: Vec<_> = (0..5_u8).map(|key| put(vec![key], longest_value.clone())).collect();
        store.write(&five).expect_err("too many bytes");
        assert_eq!(store.get(b"a").expect("read"), None);
        store.write(&[put(longest_key.clone(), longest_value.clone())]).expect("at the limits");
        assert_eq!(store.get(&longest_key).expect("read"), Some(longest_value.into()));
    }
}

#[test]
fn a_failed_write_poisons_all_clones() {
    let store = StateStore::in_memory();
    let clone = store.clone();
    store.write(&[put("a", "1")]).expect("written");
    store.fail_write_after(0);
    assert!(matches!(store.write(&[put("a", "2")]), Err(StateError::Store(_))));
    assert!(matches!(clone.write(&[put("a", "2")]), Err(StateError::Poisoned)));
    assert!(matches!(clone.get(b"a"), Err(StateError::Poisoned)));
    let reopened = store.reopen_in_memory().expect("in memory");
    assert_eq!(reopened.get(b"a").expect("read"), Some("1".into()));
}
