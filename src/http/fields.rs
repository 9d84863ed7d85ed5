//! Reads a JSON object field by field and collects everything that is wrong with it, unknown fields too,
//! so that one answer names all of them.

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::ApiError;
use crate::domain::ids::InvalidId;

/// A field of a body or query that breaks the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Which field, such as `exits[3].card_id`.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
    #[serde(skip)]
    is_as_sent: bool,
}

impl FieldError {
    /// Of a field that the API has.
    #[must_use]
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into(), is_as_sent: false }
    }

    /// Of something that only the caller calls so: it may be anything, and is for the answer, not for the log.
    #[must_use]
    pub fn as_sent(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { is_as_sent: true, ..Self::new(field, detail) }
    }

    /// Whether its name is the caller's own.
    #[must_use]
    pub fn is_as_sent(&self) -> bool {
        self.is_as_sent
    }
}

/// A JSON object being read.
#[derive(Debug)]
pub struct Fields {
    left: Map<String, Value>,
    path: String,
    errors: Vec<FieldError>,
}

/// Parses a body.
///
/// # Errors
/// 400 if it is not JSON.
pub fn parse_json(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::Malformed(format!("the body is not JSON: {error}")))
}

impl Fields {
    /// Begins to read a body that has to be an object. An empty body is an empty object where
    /// `may_be_empty`.
    ///
    /// # Errors
    /// 400 if it is not JSON, 422 if it is not an object.
    pub fn of_body(body: &[u8], may_be_empty: bool) -> Result<Self, ApiError> {
        if body.is_empty() && may_be_empty {
            return Ok(Self { left: Map::new(), path: String::new(), errors: vec![] });
        }
        Self::of_value(parse_json(body)?, String::new()).map_err(|error| ApiError::Invalid(vec![error]))
    }

    /// Begins to read a query, whose values are strings. Of a name that comes twice the last value counts.
    ///
    /// # Errors
    /// 400 if it cannot be read.
    pub fn of_query(query: &str) -> Result<Self, ApiError> {
        let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|error| ApiError::Malformed(format!("the query cannot be read: {error}")))?;
        let pairs = pairs.into_inner().into_iter().map(|(name, value)| (name, Value::String(value)));
        Ok(Self { left: pairs.collect(), path: String::new(), errors: vec![] })
    }

    /// Begins to read an object somewhere in a body; `path` is where, such as `exits[3]`.
    ///
    /// # Errors
    /// Says so if it is not an object.
    pub fn of_value(value: Value, path: String) -> Result<Self, FieldError> {
        match value {
            Value::Object(left) => Ok(Self { left, path, errors: vec![] }),
            other => Err(FieldError::new(path, format!("must be an object, is {}", kind(&other)))),
        }
    }

    /// Takes a field that has to be there. `None` means that an error was noted.
    pub fn required<T>(&mut self, name: &str, parse: impl FnOnce(Value) -> Result<T, String>) -> Option<T> {
        match self.left.shift_remove(name) {
            None | Some(Value::Null) => {
                self.error(name, "is required".to_owned());
                None
            }
            Some(value) => self.parsed(name, parse(value)),
        }
    }

    /// Takes a field that may be absent or null.
    pub fn optional<T>(&mut self, name: &str, parse: impl FnOnce(Value) -> Result<T, String>) -> Option<T> {
        match self.left.shift_remove(name) {
            None | Some(Value::Null) => None,
            Some(value) => self.parsed(name, parse(value)),
        }
    }

    /// Takes a field that may be absent; null is an error, where nothing at all means more than something.
    pub fn optional_not_null<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.left.shift_remove(name)?;
        let parsed =
            if value.is_null() { Err("must not be null: leave it out".to_owned()) } else { parse(value) };
        self.parsed(name, parsed)
    }

    /// Notes an error.
    pub fn error(&mut self, name: &str, detail: String) {
        self.errors.push(FieldError::new(self.path_of(name), detail));
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn parsed<T>(&mut self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|detail| self.error(name, detail)).ok()
    }

    /// Ends the reading: what is left is unknown.
    ///
    /// # Errors
    /// Every error that was noted.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        let unknown: Vec<String> = self.left.keys().cloned().collect();
        for name in unknown {
            let field = self.path_of(&super::cut(&name));
            self.errors.push(FieldError::as_sent(field, "is not a field of this request"));
        }
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(self.errors),
        }
    }
}

/// An id that stands in a request's path.
///
/// # Errors
/// 422 that names it.
pub(super) fn path_id<T: TryFrom<String, Error = InvalidId>>(name: &str, id: String) -> Result<T, ApiError> {
    T::try_from(id).map_err(|error| ApiError::field(name, error.to_string()))
}

/// A string that `T` accepts.
///
/// # Errors
/// What `T` says of it.
pub fn text<T: TryFrom<String>>(value: Value) -> Result<T, String>
where
    T::Error: std::fmt::Display,
{
    match value {
        Value::String(text) => T::try_from(text).map_err(|error| error.to_string()),
        other => Err(format!("must be a string, is {}", kind(&other))),
    }
}

/// A list of at most `max` strings that `T` accepts.
///
/// # Errors
/// The first element that is wrong.
pub fn texts<T: TryFrom<String>>(max: usize) -> impl FnOnce(Value) -> Result<Vec<T>, String>
where
    T::Error: std::fmt::Display,
{
    move |value| match value {
        Value::Array(list) if list.len() <= max => list
            .into_iter()
            .enumerate()
            .map(|(index, item)| text(item).map_err(|error| format!("element {index}: {error}")))
            .collect(),
        Value::Array(list) => Err(format!("must have at most {max} elements, has {}", list.len())),
        other => Err(format!("must be a list, is {}", kind(&other))),
    }
}

/// `true` or `false`.
///
/// # Errors
/// If it is neither.
pub fn boolean(value: Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("must be true or false, is {}", kind(&value)))
}

/// A UUID in its usual form.
///
/// # Errors
/// If it is none.
pub fn uuid(value: Value) -> Result<uuid::Uuid, String> {
    let text: String = text(value)?;
    uuid::Uuid::parse_str(&text).map_err(|error| format!("is not a UUID: {error}"))
}

/// A text of at most `max` characters.
pub fn short_text(max: usize) -> impl FnOnce(Value) -> Result<String, String> {
    move |value| {
        let text: String = text(value)?;
        match text.chars().count() {
            count if count > max => Err(format!("must have at most {max} characters, has {count}")),
            _ => Ok(text),
        }
    }
}

/// The longest `reason` of an act of the security desk, in characters.
pub const MAX_REASON_CHARS: usize = 500;

/// Why someone does it: 1 to [`MAX_REASON_CHARS`] characters, not all of them blank.
///
/// # Errors
/// If it is none.
pub fn reason(value: Value) -> Result<String, String> {
    let reason = short_text(MAX_REASON_CHARS)(value)?;
    if reason.trim().is_empty() { Err("must say something".to_owned()) } else { Ok(reason) }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::CardId;

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let mut fields = Fields::of_body(br#"{"card_id": 7, "gate_id": "a b", "extra": 1}"#, false).unwrap();
        assert_eq!(fields.required("card_id", text::<CardId>), None);
        assert_eq!(fields.required("gate_id", text::<CardId>), None);
        assert_eq!(fields.required("reason", text::<String>), None);
        let errors = fields.finish(None::<()>).unwrap_err();
        let names: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(names, ["card_id", "gate_id", "reason", "extra"]);
    }

    #[test]
    fn what_is_not_json_is_malformed_and_what_is_not_an_object_is_invalid() {
        assert!(matches!(Fields::of_body(b"{", false), Err(ApiError::Malformed(_))));
        assert!(matches!(Fields::of_body(b"", false), Err(ApiError::Malformed(_))));
        assert!(matches!(Fields::of_body(b"[]", false), Err(ApiError::Invalid(_))));
        assert!(Fields::of_body(b"", true).is_ok());
    }
}
