//! The bytes of one file: as they are seen, and as they are on the device.

use crate::random::Random;

/// What a device writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A file's bytes.
#[derive(Debug, Default)]
pub(super) struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// What was done to `live` since the last sync, in order.
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize { length: usize },
}

/// How much of the changes since the last sync a torn file keeps.
#[derive(Clone, Copy)]
enum Kept {
    All,
    None,
    /// Those before one of them, and a part of that one.
    Beginning {
        torn: usize,
    },
    /// Each or not, and of one of them a part.
    Any {
        torn: usize,
    },
}

impl Content {
    pub(super) fn length(&self) -> u64 {
        self.live.len() as u64
    }

    pub(super) fn read(&self, offset: u64, size: usize) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.live.len());
        &self.live[start..start.saturating_add(size).min(self.live.len())]
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.change(Change::Write { offset: offset as usize, bytes: bytes.to_vec() });
    }

    pub(super) fn resize(&mut self, length: u64) {
        self.change(Change::Resize { length: length as usize });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// The kernel takes for clean what it could not write.
    pub(super) fn fail_to_sync(&mut self) {
        self.unsynced.clear();
    }

    /// Only what was synced is left.
    pub(super) fn cut(&mut self) {
        self.unsynced.clear();
        // most of a large file is what it was, and equal lengths are copied in place
        self.live.clone_from(&self.durable);
    }

    /// What was synced is left, and a random part of what was not.
    pub(super) fn tear(&mut self, random: &mut Random) {
        if !self.unsynced.is_empty() {
            let kept = Kept::random(self.unsynced.len(), random);
            self.durable = self.torn(kept, random);
        }
        self.cut();
    }

    /// What reaches the device are sectors of the page cache, so a sector that has a change has every earlier one,
    /// too. Where the length grew and the bytes did not come, there are zeros.
    fn torn(&self, kept: Kept, random: &mut Random) -> Vec<u8> {
        let mut device = self.durable.clone();
        let mut cache = self.durable.clone();
        for (number, change) in self.unsynced.iter().enumerate() {
            change.apply(&mut cache);
            let (is_kept, torn) = match kept {
                Kept::All => (true, usize::MAX),
                Kept::None => (false, usize::MAX),
                Kept::Beginning { torn } => (number <= torn, torn),
                Kept::Any { torn } => (random.one_in(2), torn),
            };
            match change {
                Change::Resize { length } if is_kept => device.resize(*length, 0),
                Change::Write { offset, bytes } if is_kept || number == torn => {
                    let end = offset + bytes.len();
                    let first = offset / SECTOR_BYTES;
                    let sectors = end.div_ceil(SECTOR_BYTES) - first;
                    // of the torn one the first sectors, or any
                    let beginning = random.below(sectors as u64 + 1) as usize;
                    let is_any = random.one_in(2);
                    for sector in 0..sectors {
                        let is_whole = number != torn;
                        let comes = if is_any { random.one_in(2) } else { sector < beginning };
                        if is_whole || comes {
                            copy_sector(&cache, &mut device, first + sector);
                        }
                    }
                }
                Change::Write { .. } | Change::Resize { .. } => {}
            }
        }
        if device.len() < cache.len() && random.one_in(2) {
            device.resize(cache.len(), 0);
        }
        device
    }
}

impl Kept {
    fn random(changes: usize, random: &mut Random) -> Self {
        let torn = random.below(changes as u64) as usize;
        match random.below(6) {
            0 => Self::All,
            1 => Self::None,
            2 | 3 => Self::Beginning { torn },
            _ => Self::Any { torn },
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Resize { length } => bytes.resize(*length, 0),
            Self::Write { offset, bytes: written } => {
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
        }
    }
}

fn copy_sector(from: &[u8], to: &mut Vec<u8>, sector: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(from.len());
    if start >= end {
        return;
    }
    if to.len() < end {
        to.resize(end, 0);
    }
    to[start..end].copy_from_slice(&from[start..end]);
}
