//! The commands: one file each. Data goes to stdout, everything else to stderr; `main` makes the exit code.

pub mod check;
pub mod test_routes;

use std::process::ExitCode;

/// How a command ended, if it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done, nothing found: exit code 0.
    Passed,
    /// A finding, or a refused configuration: exit code 1.
    Failed,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::SUCCESS,
            Verdict::Failed => Self::FAILURE,
        }
    }
}
