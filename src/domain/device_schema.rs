//! What a declared event type says its data are: a JSON Schema, draft 2020-12, whole in one document.
//!
//! `format` is checked, as who writes it expects. Patterns are of the `regex` crate, which takes time in proportion to the
//! text: look-around and back-references are refused when the schema is read, so no device can keep the server busy.

use std::{collections::HashMap, fmt, sync::Arc};

use jsonschema::{PatternOptions, ValidationError, Validator, draft202012};
use serde_json::Value;

/// The largest schema, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// The deepest schema, and so how often one may refer to what it is part of. Deeper ones are no data of a device.
pub const MAX_SCHEMA_DEPTH: usize = 64;
/// Memory of one compiled pattern, in bytes; a pattern that needs more is refused.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// Errors of a schema that are told at once.
const MAX_SCHEMA_ERRORS: usize = 20;
/// The longest detail or pointer in an answer, in characters: both may repeat names that the device has sent.
const MAX_DETAIL_CHARS: usize = 300;
/// The one draft.
const DRAFT_URI: &str = "https://json-schema.org/draft/2020-12/schema";

/// The declared types with their schemas.
pub type DeviceSchemas = HashMap<String, DeviceSchema>;

/// A schema that is ready to judge. Cheap to clone.
#[derive(Clone)]
pub struct DeviceSchema {
    source: Arc<Value>,
    validator: Arc<Validator>,
}

/// What is wrong with a schema, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// A line and column of the text, or a JSON pointer.
    pub place: String,
    /// What.
    pub problem: String,
}

/// What is wrong with data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// A JSON pointer into the data; empty for all of it.
    pub pointer: String,
    /// What.
    pub detail: String,
}

impl DeviceSchema {
    /// Reads and compiles a schema.
    ///
    /// # Errors
    /// What is wrong with it, at least one and at most a few.
    pub fn compile(text: &str) -> Result<Self, Vec<SchemaError>> {
        let source: Value = serde_json::from_str(text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            vec![SchemaError { place, problem: format!("is not JSON: {error}") }]
        })?;
        let whole = |problem: String| vec![SchemaError { place: "/".to_owned(), problem }];
        if depth(&source) > MAX_SCHEMA_DEPTH {
            return Err(whole(format!("nests deeper than {MAX_SCHEMA_DEPTH}")));
        }
        if let Some(draft) = source.get("$schema").filter(|draft| *draft != DRAFT_URI) {
            return Err(whole(format!("is written for {draft}; this version reads {DRAFT_URI:?}")));
        }
        let meta = draft202012::meta::validator();
        let errors: Vec<_> =
            meta.iter_errors(&source).take(MAX_SCHEMA_ERRORS).map(|error| wrong(&error)).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_BYTES);
        let options = draft202012::options().offline().should_validate_formats(true);
        let validator =
            options.with_pattern_options(patterns).build(&source).map_err(|error| vec![wrong(&error)])?;
        Ok(Self { source: Arc::new(source), validator: Arc::new(validator) })
    }

    /// What is wrong with data, at most so many things; nothing: they are as declared.
    #[must_use]
    pub fn violations(&self, data: &Value, max: usize) -> Vec<Violation> {
        if self.validator.is_valid(data) {
            return Vec::new();
        }
        let violation = |error: ValidationError<'_>| Violation {
            pointer: cut(error.instance_path().as_str()),
            detail: cut(&error.masked().to_string()),
        };
        self.validator.iter_errors(data).take(max).map(violation).collect()
    }
}

impl PartialEq for DeviceSchema {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for DeviceSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeviceSchema").field(&self.source).finish()
    }
}

/// How deep a value nests: 0 for one that holds no others.
#[must_use]
pub fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(depth).max().map(|inner| inner + 1),
        Value::Object(members) => members.values().map(depth).max().map(|inner| inner + 1),
        _ => return 0,
    };
    inner.unwrap_or(1)
}

/// Of the schema as data of its meta-schema, or of its compilation.
fn wrong(error: &ValidationError<'_>) -> SchemaError {
    let place = match error.instance_path().as_str() {
        "" => "/",
        place => place,
    };
    SchemaError { place: cut(place), problem: cut(&error.to_string()) }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_DETAIL_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compiled(schema: &Value) -> DeviceSchema {
        DeviceSchema::compile(&schema.to_string()).unwrap()
    }

    fn refused(text: &str) -> String {
        let errors = DeviceSchema::compile(text).unwrap_err();
        errors
            .iter()
            .map(|error| format!("{}: {}", error.place, error.problem))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn every_violation_is_named_by_its_pointer_and_no_value_is_repeated() {
        let schema =
            compiled(&json!({ "type": "object", "required": ["slot"], "additionalProperties": false,
            "properties": { "slot": { "type": "integer" }, "lines": { "items": { "$ref": "#/$defs/line" } },
                "at": { "format": "date-time" } },
            "$defs": { "line": { "properties": { "a/b": { "maxLength": 2 } } } } }));
        assert!(schema.violations(&json!({ "slot": 1, "at": "2026-11-20T08:00:00Z" }), 9).is_empty());
        let data = json!({ "lines": [{}, { "a/b": "secret" }], "at": "yesterday" });
        let mut found: Vec<_> =
            schema.violations(&data, 9).into_iter().map(|v| (v.pointer, v.detail)).collect();
        found.sort();
        let pointers: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["", "/at", "/lines/1/a~1b"]);
        assert!(
            found.iter().all(|(_, detail)| !detail.contains("secret") && !detail.contains("yesterday")),
            "{found:?}"
        );
        assert_eq!(schema.violations(&data, 1).len(), 1);
    }

    #[test]
    fn a_bad_schema_is_refused_with_its_places() {
        assert!(refused("{\n  \"type\": }").starts_with("line 2, column 11: is not JSON"));
        let two = refused(r#"{"type": "text", "properties": {"a": {"minLength": -1}}}"#);
        assert!(two.contains("/type: ") && two.contains("/properties/a/minLength: "), "{two}");
        let draft = refused(r#"{"$schema": "http://json-schema.org/draft-07/schema#"}"#);
        assert!(draft.contains("draft-07") && draft.contains("2020-12"), "{draft}");
        assert!(refused(r##"{"$ref": "#/$defs/none"}"##).contains("none"));
        let deep =
            format!("{}true{}", "{\"not\":".repeat(MAX_SCHEMA_DEPTH + 1), "}".repeat(MAX_SCHEMA_DEPTH + 1));
        assert!(refused(&deep).contains("deeper"));
    }

    #[test]
    fn nothing_outside_the_schema_is_read() {
        for reference in ["https://example.com/s.json", "other.json", "file:///etc/hostname"] {
            let refused = refused(&json!({ "$ref": reference }).to_string());
            assert!(refused.contains(reference.trim_start_matches("file:///")), "{refused}");
        }
        compiled(&json!({ "$schema": DRAFT_URI, "$id": "https://example.com/a", "$ref": "b",
            "$defs": { "x": { "$id": "https://example.com/b", "type": "object" } } }));
    }

    #[test]
    fn patterns_that_could_take_for_ever_are_refused() {
        assert!(!refused(r#"{"pattern": "(?=a)b"}"#).is_empty());
        assert!(!refused(r#"{"pattern": "(a)\\1"}"#).is_empty());
        let schema = compiled(&json!({ "pattern": "^(a+)+$" }));
        assert_eq!(schema.violations(&json!(format!("{}!", "a".repeat(30_000))), 9).len(), 1);
    }

    #[test]
    fn schemas_are_equal_by_what_they_say() {
        assert_eq!(
            compiled(&json!({"type": "object"})),
            DeviceSchema::compile("{ \"type\":\n\"object\" }").unwrap()
        );
        assert_ne!(compiled(&json!({"type": "object"})), compiled(&json!({})));
        assert_eq!((depth(&json!(1)), depth(&json!({})), depth(&json!({"a": [[]]}))), (0, 1, 3));
    }
}
