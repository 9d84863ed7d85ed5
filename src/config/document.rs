//! The file being read: where a byte lies, what the environment holds, and what was found wrong so far.

use std::{cell::RefCell, path::Path};

use super::{
    env::Environment,
    finding::{ConfigErrors, Finding},
    limits::MAX_ERRORS,
};

/// One file while it is read. Findings gather behind a cell, so that readers of nested tables can share it.
pub(super) struct Document<'a> {
    file: &'a Path,
    /// Offsets at which lines begin; the first is 0.
    line_starts: Vec<usize>,
    /// Looks environment variables up.
    pub(super) env: Environment<'a>,
    /// With the offsets they are sorted by.
    errors: RefCell<Vec<(usize, Finding)>>,
    warnings: RefCell<Vec<(usize, Finding)>>,
}

/// Where something stands: the byte in the file and the path of its key.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) offset: usize,
    pub(super) key: String,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a Path, text: &str, env: Environment<'a>) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(newlines.map(|(offset, _)| offset + 1)).collect();
        Self { file, line_starts, env, errors: RefCell::default(), warnings: RefCell::default() }
    }

    /// The directory that relative paths start from.
    pub(super) fn base_dir(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    pub(super) fn error(&self, at: &Place, problem: impl Into<String>, hint: Option<String>) {
        let mut errors = self.errors.borrow_mut();
        match errors.len() {
            ..MAX_ERRORS => errors.push(self.finding(at, problem.into(), hint)),
            MAX_ERRORS => {
                let problem = format!("more than {MAX_ERRORS} errors: the rest is left out");
                errors.push(self.finding(at, problem, None));
            }
            _ => {}
        }
    }

    pub(super) fn warn(&self, at: &Place, problem: impl Into<String>, hint: Option<String>) {
        self.warnings.borrow_mut().push(self.finding(at, problem.into(), hint));
    }

    fn finding(&self, at: &Place, problem: String, hint: Option<String>) -> (usize, Finding) {
        let line = Some(self.line(at.offset));
        (at.offset, Finding { file: self.file.to_owned(), line, key: at.key.clone(), problem, hint })
    }

    /// The value with its warnings if there was no error, else all errors, both in order of line.
    pub(super) fn conclude<T>(self, value: Option<T>) -> Result<(T, Vec<Finding>), ConfigErrors> {
        let (errors, warnings) = (in_order(self.errors), in_order(self.warnings));
        match value {
            Some(value) if errors.is_empty() => Ok((value, warnings)),
            _ => Err(ConfigErrors(errors)),
        }
    }
}

/// By place; a value that is read twice is reported once.
fn in_order(findings: RefCell<Vec<(usize, Finding)>>) -> Vec<Finding> {
    let mut findings = findings.into_inner();
    findings.sort_by_key(|(offset, _)| *offset);
    findings.dedup();
    findings.into_iter().map(|(_, finding)| finding).collect()
}
