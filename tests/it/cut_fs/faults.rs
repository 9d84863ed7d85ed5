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
    /// Operations until the power fails.
    power: Option<u64>,
    is_off: bool,
    /// A sync says that it is done, and does nothing.
    pub(super) are_syncs_left_out: bool,
    happened: u64,
}

impl Faults {
    pub(super) fn order(&mut self, fault: Fault) {
        self.ordered.push(fault);
    }

    /// The power fails at the operation after so many more.
    pub(super) fn order_power_cut(&mut self, after: u64) {
        self.power = Some(after);
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
        match self.power {
            Some(0) => self.is_off = true,
            Some(left) => self.power = Some(left - 1),
            None => {}
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
