//! What goes wrong, and when.

use fuser::Errno;

/// What a process may ask of the disk that changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Bytes or the length of a file.
    Write,
    /// `fsync` or `fdatasync` of a file.
    Sync,
    /// A name.
    Name,
    /// `fsync` of a directory.
    SyncDirectory,
}

/// A failure to come.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// What fails.
    pub(crate) operation: Operation,
    /// What the file's path has in it.
    pub(crate) path: &'static str,
    /// So many go well before the one that fails, counted from the order on.
    pub(crate) after: u64,
    /// With this.
    pub(crate) errno: Errno,
}

/// Failures that were ordered, and the end of the power.
#[derive(Debug, Default)]
pub(super) struct Faults {
    ordered: Vec<Fault>,
    /// What the path has in it of the operation at which the power fails, and how many of these come before it.
    power: Option<(&'static str, u64)>,
    is_off: bool,
    /// A sync says that it is done, and does nothing.
    pub(super) are_syncs_left_out: bool,
    happened: u64,
}

impl Faults {
    pub(super) fn order(&mut self, fault: Fault) {
        self.ordered.push(fault);
    }

    /// The power fails at the operation after so many more on paths that have this in them.
    pub(super) fn order_power_cut(&mut self, path: &'static str, after: u64) {
        self.power = Some((path, after));
    }

    pub(super) fn power_on(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_off(&self) -> bool {
        self.is_off
    }

    /// How many of the ordered ones have happened.
    pub(super) fn happened(&self) -> u64 {
        self.happened
    }

    /// Whether this operation fails. Without power every one does.
    pub(super) fn check(&mut self, operation: Operation, path: &str) -> Result<(), Errno> {
        match &mut self.power {
            Some((cut_at, 0)) if path.contains(*cut_at) => self.is_off = true,
            Some((cut_at, left)) if path.contains(*cut_at) => *left -= 1,
            _ => {}
        }
        if self.is_off {
            return Err(Errno::EIO);
        }
        for number in 0..self.ordered.len() {
            let fault = &mut self.ordered[number];
            if fault.operation != operation || !path.contains(fault.path) {
                continue;
            }
            if fault.after == 0 {
                self.happened += 1;
                return Err(self.ordered.remove(number).errno);
            }
            fault.after -= 1;
        }
        Ok(())
    }
}
