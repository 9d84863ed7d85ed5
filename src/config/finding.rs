//! What is wrong with a configuration, and where.

use std::{fmt, path::PathBuf};

use thiserror::Error;

/// One error or warning, shown as `routes.toml:12: sinks.archive.max_agee: unknown key; did you mean "max_age"?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1; `None` if it is about the file as a whole.
    pub line: Option<usize>,
    /// The path of the key, such as `sinks.archive.max_age`; empty if it is about no key.
    pub key: String,
    /// What is wrong, with the value.
    pub problem: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(formatter, " {}:", self.key)?;
        }
        write!(formatter, " {}", self.problem)?;
        match &self.hint {
            Some(hint) => write!(formatter, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration, in order of line; at least one finding.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}", self.0.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<Finding>);
