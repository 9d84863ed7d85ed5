//! `turnstiled run`: the daemon.

use super::{CommandError, ConfigFile, Verdict};
use crate::app;

pub(super) fn run(file: &ConfigFile) -> Result<Verdict, CommandError> {
    app::run(file.load()?)?;
    Ok(Verdict::Passed)
}
