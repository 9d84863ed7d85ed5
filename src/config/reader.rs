//! Reads one TOML table: each key is asked for once, and `finish` reports what nobody asked for.

use toml::de::DeTable;

use super::{
    document::{Document, Place},
    hint::did_you_mean,
    value::Value,
};

/// A table being read. Errors go to the document; a reader never stops at the first.
pub(super) struct TableReader<'a> {
    pub(super) document: &'a Document<'a>,
    table: &'a DeTable<'a>,
    at: Place,
    known: Vec<&'static str>,
}

impl<'a> TableReader<'a> {
    /// Nothing of it is read yet.
    pub(super) fn new(document: &'a Document<'a>, table: &'a DeTable<'a>, at: Place) -> Self {
        Self { document, table, at, known: Vec::new() }
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> &Place {
        &self.at
    }

    /// The value of a key that may be absent.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let (name, raw) = self.table.get_key_value(key)?;
        let at = Place { offset: name.span().start, key: self.path_of(key) };
        Some(Value { document: self.document, raw: raw.get_ref(), at })
    }

    /// The value of a key that must be there.
    pub(super) fn required(&mut self, key: &'static str) -> Option<Value<'a>> {
        let found = self.optional(key);
        if found.is_none() {
            let at = Place { offset: self.at.offset, key: self.path_of(key) };
            self.document.error(&at, "is required", None);
        }
        found
    }

    /// The entries of a table whose keys are names chosen by the operator, in the order of the file.
    pub(super) fn named(&self) -> Vec<(String, Value<'a>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(name, raw)| {
                let at = Place { offset: name.span().start, key: self.path_of(name.get_ref()) };
                let value = Value { document: self.document, raw: raw.get_ref(), at };
                (name.get_ref().to_string(), value)
            })
            .collect();
        entries.sort_by_key(|(_, value)| value.at.offset);
        entries
    }

    /// Reports every key that was not asked for.
    pub(super) fn finish(self) {
        for name in self.table.keys() {
            let key: &str = name.get_ref();
            if self.known.contains(&key) {
                continue;
            }
            let at = Place { offset: name.span().start, key: self.path_of(key) };
            self.document.error(&at, "unknown key", did_you_mean(key, &self.known));
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.at.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at.key) }
    }
}
