//! The names in the directories: as they are seen, and as they are on the device.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::{OsStr, OsString},
};

/// The root directory, by FUSE's rule.
pub(super) const ROOT: u64 = 1;

/// What a directory holds.
pub(super) type Entries = BTreeMap<OsString, u64>;

/// All directories.
#[derive(Debug)]
pub(super) struct Names {
    live: HashMap<u64, Entries>,
    durable: HashMap<u64, Entries>,
    /// What was done to `live` and is not durable, in order.
    unsynced: Vec<Rename>,
}

/// One change, which happens as a whole: names that mean something else from then on, or nothing.
#[derive(Clone, Debug)]
pub(super) struct Rename(pub(super) Vec<(u64, OsString, Option<u64>)>);

impl Names {
    pub(super) fn new() -> Self {
        let root = || HashMap::from([(ROOT, Entries::new())]);
        Self { live: root(), durable: root(), unsynced: Vec::new() }
    }

    pub(super) fn find(&self, directory: u64, name: &OsStr) -> Option<u64> {
        self.live.get(&directory)?.get(name).copied()
    }

    pub(super) fn entries(&self, directory: u64) -> Option<&Entries> {
        self.live.get(&directory)
    }

    /// An empty directory, which has no name yet.
    pub(super) fn add_directory(&mut self, inode: u64) {
        self.live.insert(inode, Entries::new());
        self.durable.insert(inode, Entries::new());
    }

    pub(super) fn change(&mut self, change: Rename) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    /// Makes the names in one directory durable, with what they depend on.
    pub(super) fn sync(&mut self, directory: u64) {
        let mut directories = HashSet::from([directory]);
        let mut is_synced = vec![false; self.unsynced.len()];
        for (number, change) in self.unsynced.iter().enumerate().rev() {
            if change.0.iter().any(|(of, _, _)| directories.contains(of)) {
                directories.extend(change.0.iter().map(|(of, _, _)| *of));
                is_synced[number] = true;
            }
        }
        let mut is_synced = is_synced.into_iter();
        let durable = &mut self.durable;
        self.unsynced.retain(|change| {
            let is_synced = is_synced.next().unwrap_or_default();
            if is_synced {
                change.apply(durable);
            }
            !is_synced
        });
    }

    /// How many changes are not durable.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// What is durable is left, and so many of the changes after it.
    pub(super) fn cut(&mut self, kept: usize) {
        for change in self.unsynced.drain(..).take(kept) {
            change.apply(&mut self.durable);
        }
        self.live.clone_from(&self.durable);
    }

    /// Every inode that has a name, or had one on the device.
    pub(super) fn named(&self) -> HashSet<u64> {
        let everywhere = self.live.values().chain(self.durable.values());
        let mut named: HashSet<u64> = everywhere.flat_map(|entries| entries.values().copied()).collect();
        named.extend(self.unsynced.iter().flat_map(|change| change.0.iter().filter_map(|(_, _, to)| *to)));
        named.insert(ROOT);
        named
    }

    /// How many names an inode has.
    pub(super) fn links(&self, inode: u64) -> usize {
        self.live.values().flat_map(BTreeMap::values).filter(|named| **named == inode).count()
    }

    /// The first path that leads to an inode.
    pub(super) fn path(&self, inode: u64) -> Option<String> {
        if inode == ROOT {
            return Some(String::new());
        }
        let (parent, name) = self.live.iter().find_map(|(directory, entries)| {
            let (name, _) = entries.iter().find(|(_, named)| **named == inode)?;
            Some((*directory, name))
        })?;
        Some(format!("{}/{}", self.path(parent)?, name.to_string_lossy()))
    }

    pub(super) fn forget(&mut self, inode: u64) {
        self.live.remove(&inode);
        self.durable.remove(&inode);
    }
}

impl Rename {
    fn apply(&self, directories: &mut HashMap<u64, Entries>) {
        for (directory, name, to) in &self.0 {
            let Some(entries) = directories.get_mut(directory) else { continue };
            match to {
                Some(inode) => drop(entries.insert(name.clone(), *inode)),
                None => drop(entries.remove(name)),
            }
        }
    }
}
