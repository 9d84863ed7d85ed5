//! The segment contract in memory, with faults on demand: for simulation and for tests of what follows a fault.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::store::{SegmentStore, StoreError};

/// A segment in memory. Share it by `Arc`: the simulated disk outlives the log that used it.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What a read sees.
    current: BTreeMap<u64, Bytes>,
    /// What a crash leaves.
    durable: BTreeMap<u64, Bytes>,
    /// Appended since the last sync, in order.
    unsynced: Vec<u64>,
    /// Everything after this was removed since the last sync, before anything in `unsynced` was appended.
    unsynced_removal_after: Option<u64>,
    appends_until_failure: Option<u64>,
    syncs_until_failure: Option<u64>,
    /// None: as much as one likes.
    room_bytes: Option<u64>,
}

impl MemoryStore {
    /// An empty segment without faults.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// The append after `appends` more good ones fails, once, having written the first half of its frames.
    pub fn fail_append_after(&self, appends: u64) {
        self.state().appends_until_failure = Some(appends);
    }

    /// The sync after `syncs` more good ones fails, once: nothing of it is durable.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.state().syncs_until_failure = Some(syncs);
    }

    /// From now on there is room for so many bytes of frames; an append of more fails as on a full disk.
    pub fn limit_room(&self, bytes: u64) {
        self.state().room_bytes = Some(bytes);
    }

    /// Power loss: what was not synced is gone but for its first `surviving_frames` (a torn batch if that cuts
    /// one); a removal that was not synced is undone, unless something appended after it survives; pending faults
    /// are forgotten. Drop the log first and open another one on this store.
    pub fn crash(&self, surviving_frames: usize) {
        let mut state = self.state();
        state.unsynced.truncate(surviving_frames);
        if !state.unsynced.is_empty() {
            state.make_durable();
        }
        let durable = std::mem::take(&mut state.durable);
        let room_bytes = state.room_bytes;
        *state = State { current: durable.clone(), durable, room_bytes, ..State::default() };
    }

    /// Flips the lowest bit of one byte of a frame, on the simulated disk. False if there is no such byte.
    pub fn flip_bit(&self, sequence: u64, byte: usize) -> bool {
        let mut state = self.state();
        let Some(frame) = state.current.get(&sequence) else { return false };
        let mut bytes = frame.to_vec();
        let Some(target) = bytes.get_mut(byte) else { return false };
        *target ^= 1;
        state.replace(sequence, bytes.into());
        true
    }

    /// Loses one frame, as damage does.
    pub fn lose(&self, sequence: u64) {
        let mut state = self.state();
        state.current.remove(&sequence);
        state.durable.remove(&sequence);
    }

    /// Puts other bytes in a frame's place, on the simulated disk.
    pub fn replace(&self, sequence: u64, frame: Bytes) {
        self.state().replace(sequence, frame);
    }

    /// The last sequence that would survive a crash now; 0 if none.
    pub fn durable(&self) -> u64 {
        self.state().durable.last_key_value().map_or(0, |(sequence, _)| *sequence)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn make_durable(&mut self) {
        if let Some(after) = self.unsynced_removal_after.take() {
            remove_after(&mut self.durable, after);
        }
        for sequence in self.unsynced.drain(..) {
            if let Some(frame) = self.current.get(&sequence) {
                self.durable.insert(sequence, frame.clone());
            }
        }
    }

    fn replace(&mut self, sequence: u64, frame: Bytes) {
        self.current.insert(sequence, frame.clone());
        self.durable.insert(sequence, frame);
    }
}

impl SegmentStore for MemoryStore {
    fn path(&self) -> &Path {
        Path::new("(memory)")
    }

    fn append(&self, frames: &[(u64, Bytes)]) -> Result<(), StoreError> {
        let mut state = self.state();
        let bytes = frames.iter().map(|(_, frame)| frame.len() as u64).sum();
        if let Some(room) = &mut state.room_bytes {
            let full =
                || StoreError::on("append to", Path::new("(memory)"))(io::ErrorKind::StorageFull.into());
            *room = room.checked_sub(bytes).ok_or_else(full)?;
        }
        let fails = is_due(&mut state.appends_until_failure);
        let written = if fails { frames.len() / 2 } else { frames.len() };
        for (sequence, frame) in frames.iter().take(written) {
            state.current.insert(*sequence, frame.clone());
            state.unsynced.push(*sequence);
        }
        if fails { Err(injected("append to")) } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        if is_due(&mut state.syncs_until_failure) {
            return Err(injected("sync"));
        }
        state.make_durable();
        Ok(())
    }

    fn read(&self, from: u64, max_records: usize, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let state = self.state();
        let mut frames = Vec::new();
        let mut bytes = 0_usize;
        for (sequence, frame) in state.current.range(from..).take(max_records) {
            bytes = bytes.saturating_add(frame.len());
            if bytes > max_bytes && !frames.is_empty() {
                break;
            }
            frames.push((*sequence, frame.clone()));
        }
        Ok(frames)
    }

    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError> {
        let state = self.state();
        let first = state.current.first_key_value();
        let last = state.current.last_key_value();
        Ok(first.zip(last).map(|((first, _), (last, _))| (*first, *last)))
    }

    fn count(&self) -> Result<u64, StoreError> {
        Ok(self.state().current.len() as u64)
    }

    fn remaining_bytes(&self) -> u64 {
        self.state().room_bytes.unwrap_or(u64::MAX)
    }

    fn remove_tail(&self, after: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        remove_after(&mut state.current, after);
        state.unsynced.retain(|sequence| *sequence <= after);
        let earlier = state.unsynced_removal_after.unwrap_or(after);
        state.unsynced_removal_after = Some(earlier.min(after));
        Ok(())
    }
}

fn remove_after(frames: &mut BTreeMap<u64, Bytes>, after: u64) {
    if let Some(from) = after.checked_add(1) {
        frames.split_off(&from);
    }
}

/// Counts down to a fault; the fault disarms itself.
pub(crate) fn is_due(countdown: &mut Option<u64>) -> bool {
    match *countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *countdown = Some(left - 1);
            false
        }
        None => false,
    }
}

pub(crate) fn injected(action: &'static str) -> StoreError {
    StoreError::on(action, Path::new("(memory)"))(io::Error::other("injected fault"))
}
