//! `turnstiled run`: the daemon.

use super::{CommandError, ConfigFile, Verdict};
use crate::app;

pub(super) fn run(file: &ConfigFile) -> Result<Verdict, CommandError> {
    let again = file.clone();
    app::run(file.load()?, move || again.load())?;
    Ok(Verdict::Passed)
}
