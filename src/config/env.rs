//! `${NAME}` and `${NAME:-default}` in strings.

use thiserror::Error;

/// Looks a variable up; `None` if it is unset.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a string cannot be expanded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExpandError {
    /// No value and no default.
    #[error("environment variable {0} is not set")]
    Unset(String),
    /// `${` without its end.
    #[error("has \"${{\" without a closing \"}}\"")]
    Unclosed,
    /// Not a name a shell would take.
    #[error("has \"${{{0}}}\", which names no environment variable")]
    BadName(String),
}

/// Expands every reference once: a value is taken as it is, references in it are text. As in a shell, `:-`
/// also replaces an empty value. A `$` without `{` is itself.
///
/// # Errors
/// [`ExpandError`] for the first reference that cannot be expanded.
pub fn expand(text: &str, env: Environment<'_>) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, reference)) = rest.split_once("${") {
        let (reference, after) = reference.split_once('}').ok_or(ExpandError::Unclosed)?;
        expanded.push_str(before);
        expanded.push_str(&lookup(reference, env)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn lookup(reference: &str, env: Environment<'_>) -> Result<String, ExpandError> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(ExpandError::BadName(reference.to_owned()));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ExpandError::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "REGION" => Some("eu-central-1".into()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${REGION}".into()),
            _ => None,
        }
    }

    #[test]
    fn references_are_expanded_once() {
        let expanded = |text| expand(text, &env).unwrap();
        assert_eq!(expanded("arn:aws:sns:${REGION}:${ACCOUNT:-0}:t"), "arn:aws:sns:eu-central-1:0:t");
        assert_eq!(expanded("${EMPTY}|${EMPTY:-x}|${NONE:-}"), "|x|");
        assert_eq!(expanded("${NESTED}"), "${REGION}");
        assert_eq!(expanded("costs $5 {a}"), "costs $5 {a}");
    }

    #[test]
    fn bad_references_say_which() {
        assert_eq!(expand("a${NONE}", &env), Err(ExpandError::Unset("NONE".into())));
        assert_eq!(expand("${REGION", &env), Err(ExpandError::Unclosed));
        for bad in ["", "1A", "A B", ":-x", "A-B"] {
            assert_eq!(expand(&format!("${{{bad}}}"), &env), Err(ExpandError::BadName(bad.into())));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_plain_text_stays(text in "[${}:A-]{0,12}|.{0,20}") {
            let expanded = expand(&text, &env);
            if !text.contains("${") {
                prop_assert_eq!(expanded, Ok(text));
            }
        }
    }
}
