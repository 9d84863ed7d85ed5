//! Patterns over event types: `*` is exactly one dot-separated word, `**` any number of words, none included.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest pattern; no event type comes near it.
pub const MAX_PATTERN_BYTES: usize = 256;

/// A checked pattern, such as `access.*.recorded` or `card.**`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Vec<Word>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Exactly(String),
    One,
    Any,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// More bytes than any event type has.
    #[error("is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    /// Nothing between two dots, at an end, or at all.
    #[error("has an empty word: words are separated by single dots")]
    EmptyWord,
    /// A star among letters, or three of them.
    #[error("has the word {0:?}: \"*\" and \"**\" stand for whole words only")]
    PartialStar(String),
    /// A character no event type has.
    #[error("has the word {0:?}: words are made of a-z, 0-9, _ and -")]
    BadCharacter(String),
}

impl Pattern {
    /// Whether the pattern matches this event type. Time is at most the product of both word counts.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        let mut words = event_type.split('.');
        let mut pattern = self.0.as_slice();
        // Where to resume when a word does not fit: behind the last `**`, one word further on.
        let mut resume: Option<(&[Word], std::str::Split<'_, char>)> = None;
        loop {
            if let Some((Word::Any, rest)) = pattern.split_first() {
                pattern = rest;
                resume = Some((rest, words.clone()));
                continue;
            }
            let word = words.next();
            match (pattern.split_first(), word) {
                (None, None) => return true,
                (Some((expected, rest)), Some(word)) if expected.fits(word) => pattern = rest,
                (_, None) => return false,
                (_, Some(_)) => {
                    let Some((behind, mut later)) = resume.take() else { return false };
                    if later.next().is_none() {
                        return false;
                    }
                    (pattern, words) = (behind, later.clone());
                    resume = Some((behind, later));
                }
            }
        }
    }
}

impl Word {
    fn fits(&self, word: &str) -> bool {
        match self {
            Self::Exactly(expected) => expected == word,
            Self::One | Self::Any => true,
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong);
        }
        text.split('.').map(parse_word).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_word(word: &str) -> Result<Word, PatternError> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    match word {
        "" => Err(PatternError::EmptyWord),
        "*" => Ok(Word::One),
        "**" => Ok(Word::Any),
        _ if word.contains('*') => Err(PatternError::PartialStar(word.to_owned())),
        _ if word.bytes().all(allowed) => Ok(Word::Exactly(word.to_owned())),
        _ => Err(PatternError::BadCharacter(word.to_owned())),
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            let text = match word {
                Word::Exactly(text) => text,
                Word::One => "*",
                Word::Any => "**",
            };
            write!(formatter, "{dot}{text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, event_type: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(event_type)
    }

    /// The definition, word for word and slow.
    fn model(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern, words) {
            ([], words) => words.is_empty(),
            (["**", rest @ ..], words) => (0..=words.len()).any(|taken| model(rest, &words[taken..])),
            ([expected, rest @ ..], [word, others @ ..]) => {
                (*expected == "*" || expected == word) && model(rest, others)
            }
            (_, []) => false,
        }
    }

    #[test]
    fn stars_mean_what_the_contract_says() {
        assert!(matches("card.*", "card.lost"));
        assert!(!matches("card.*", "card"));
        assert!(!matches("card.*", "card.a.b"));
        assert!(matches("building.**", "building.mode.changed"));
        assert!(matches("building.**", "building"));
        assert!(matches("**", "anything.at.all"));
        assert!(matches("**.recorded", "access.exit.recorded"));
        assert!(!matches("access.exit", "access.exit.recorded"));
    }

    #[test]
    fn bad_patterns_are_refused_with_the_word() {
        assert_eq!("a..b".parse::<Pattern>(), Err(PatternError::EmptyWord));
        assert_eq!("".parse::<Pattern>(), Err(PatternError::EmptyWord));
        assert_eq!("a.b*".parse::<Pattern>(), Err(PatternError::PartialStar("b*".into())));
        assert_eq!("a.***".parse::<Pattern>(), Err(PatternError::PartialStar("***".into())));
        assert_eq!("a.B".parse::<Pattern>(), Err(PatternError::BadCharacter("B".into())));
        assert_eq!("a".repeat(257).parse::<Pattern>(), Err(PatternError::TooLong));
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            pattern in proptest::collection::vec("a|b|\\*|\\*\\*", 1..7),
            words in proptest::collection::vec("a|b", 1..8),
        ) {
            let expected = model(
                &pattern.iter().map(String::as_str).collect::<Vec<_>>(),
                &words.iter().map(String::as_str).collect::<Vec<_>>(),
            );
            prop_assert_eq!(matches(&pattern.join("."), &words.join(".")), expected);
        }

        #[test]
        fn arbitrary_text_never_panics_and_reads_back(text in ".{0,40}", event_type in ".{0,40}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                let _ = pattern.matches(&event_type);
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
