//! Names that may be used once.

use std::collections::HashMap;

use super::value::Value;

/// The names of one kind that were met so far, with their lines.
pub(super) struct Unique {
    kind: &'static str,
    lines: HashMap<String, usize>,
}

impl Unique {
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, lines: HashMap::new() }
    }

    /// The name, unless it was met before.
    pub(super) fn take(&mut self, value: &Value<'_>, name: String) -> Option<String> {
        let line = value.document.line(value.at.offset);
        if let Some(first) = self.lines.get(&name) {
            value.error(format!("{} {name:?} is there already, on line {first}", self.kind), None);
            return None;
        }
        self.lines.insert(name.clone(), line);
        Some(name)
    }
}
