//! One TOML value on its way to a Rust value. Every method reports what is wrong and then answers `None`.

use std::{borrow::Cow, fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use toml::de::DeValue;

use super::{
    document::{Document, Place},
    duration::{format_duration, parse_duration},
    env::{ExpandError, expand},
    hint::nearest_hint,
    limits::MAX_ID_BYTES,
    reader::TableReader,
    size::{format_size, parse_size},
};

/// Longer values are cut in messages.
const MAX_QUOTED_CHARS: usize = 80;

/// A value, its key and its place.
pub(super) struct Value<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) raw: &'a DeValue<'a>,
    pub(super) at: Place,
}

impl<'a> Value<'a> {
    /// A string with its `${ENV}` references expanded.
    pub(super) fn string(&self) -> Option<String> {
        let DeValue::String(text) = self.raw else { return self.wrong_type("a string") };
        let unset = |error: &ExpandError| matches!(error, ExpandError::Unset(_));
        let hint = "set it, or give a default: ${NAME:-default}";
        expand(text, self.document.env)
            .map_err(|error| self.error(error.to_string(), unset(&error).then(|| hint.to_owned())))
            .ok()
    }

    /// A string that `parse` understands. Its error follows the value in the message.
    pub(super) fn parsed<T, E: Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
        hint: &str,
    ) -> Option<T> {
        let text = self.string()?;
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        parse(&text).map_err(|error| self.error(format!("{} {error}", quote(&text)), hint)).ok()
    }

    /// A secret that `T` understands. It is not repeated in the message.
    pub(super) fn secret<T: FromStr<Err: Display>>(&self, hint: &str) -> Option<T> {
        let text = self.string()?;
        text.parse().map_err(|error: T::Err| self.error(error.to_string(), Some(hint.to_owned()))).ok()
    }

    /// An id: what may stand in a path, a metric label and a file name.
    pub(super) fn id(&self) -> Option<String> {
        self.parsed(|text| check_id(text).map(|()| text.to_owned()), "")
    }

    /// A path, relative to the file's directory.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let base = self.document.base_dir();
        self.parsed(|text| if text.is_empty() { Err("is no path") } else { Ok(base.join(text)) }, "")
    }

    /// A duration within the range.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let hint = "write a whole number and ms, s, m, h or d, such as \"250ms\" or \"16h\"";
        let duration = self.parsed(parse_duration, hint)?;
        self.within(duration, &range, format_duration)
    }

    /// A size in bytes within the range.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let hint = "write a whole number and B, KiB, MiB, GiB or TiB, such as \"16MiB\"";
        let bytes = self.parsed(parse_size, hint)?;
        self.within(bytes, &range, format_size)
    }

    /// A whole number within the range.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.raw else { return self.wrong_type("a whole number") };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => self.within(number, &range, |number| number.to_string()),
            Err(_) => self.fail(format!("{number} is not from {} to {}", range.start(), range.end())),
        }
    }

    /// A number from 0 to 1.
    pub(super) fn ratio(&self) -> Option<f64> {
        let number = match self.raw {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
            _ => return self.wrong_type("a number from 0 to 1"),
        };
        match number.filter(|number| (0.0..=1.0).contains(number)) {
            Some(number) => Some(number),
            None => self.fail("is not from 0 to 1".to_owned()),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        if let DeValue::Boolean(value) = self.raw { Some(*value) } else { self.wrong_type("true or false") }
    }

    /// A string that is one of these.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, chosen)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*chosen);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let expected = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let hint = nearest_hint(&text, names);
        self.error(format!("{} is not one of {expected}", quote(&text)), hint);
        None
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self.raw, DeValue::Array(_))
    }

    /// The values of a list.
    pub(super) fn list(&self, max: usize) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(items) = self.raw else { return self.wrong_type("a list") };
        if items.len() > max {
            return self.fail(format!("has {} entries, at most {max} are possible", items.len()));
        }
        let values = items.iter().enumerate().map(|(index, item)| {
            let at = Place { offset: item.span().start, key: format!("{}[{index}]", self.at.key) };
            Value { document: self.document, raw: item.get_ref(), at }
        });
        Some(values.collect())
    }

    /// A table, to be read key by key.
    pub(super) fn table(&self) -> Option<TableReader<'a>> {
        let DeValue::Table(table) = self.raw else { return self.wrong_type("a table") };
        Some(TableReader::new(self.document, table, self.at.clone()))
    }

    /// Reports an error here.
    pub(super) fn error(&self, problem: impl Into<String>, hint: Option<String>) {
        self.document.error(&self.at, problem, hint);
    }

    fn fail<T>(&self, problem: String) -> Option<T> {
        self.error(problem, None);
        None
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let given = match self.raw {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fail(format!("must be {expected}, this is {given}"))
    }

    fn within<T: PartialOrd + Copy>(
        &self,
        value: T,
        range: &RangeInclusive<T>,
        format: impl Fn(T) -> String,
    ) -> Option<T> {
        if range.contains(&value) {
            return Some(value);
        }
        self.fail(format!(
            "{} is not from {} to {}",
            format(value),
            format(*range.start()),
            format(*range.end())
        ))
    }
}

/// The value in quotes, cut if it is long.
pub(super) fn quote(text: &str) -> String {
    let text = without_credentials(text);
    if text.chars().count() <= MAX_QUOTED_CHARS {
        return format!("{text:?}");
    }
    format!("{:?}...", text.chars().take(MAX_QUOTED_CHARS).collect::<String>())
}

/// A URL's user and password are a secret, and messages are shown and logged.
fn without_credentials(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return Cow::Borrowed(text) };
    rest.rsplit_once('@')
        .map_or(Cow::Borrowed(text), |(_, rest)| Cow::Owned(format!("{scheme}://***@{rest}")))
}

/// Whether the text is an id; the error follows the text in the message.
pub(super) fn check_id(text: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || text.len() > MAX_ID_BYTES || !text.bytes().all(allowed) {
        return Err(format!("is no id: an id is 1 to {MAX_ID_BYTES} of A-Z a-z 0-9 _ -"));
    }
    Ok(())
}
