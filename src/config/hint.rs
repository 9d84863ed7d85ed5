//! "Did you mean": the nearest of the names that would have been right.

/// Longer words are no typing mistakes, and measuring them takes quadratic time.
const MAX_WORD_BYTES: usize = 128;

/// More alternatives than this are not listed.
const MAX_LISTED: usize = 12;

/// The candidate that needs the fewest typing mistakes, if those are at most a third of the word.
#[must_use]
fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let lower = word.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(mistakes, candidate)| *mistakes * 3 <= word.chars().count().max(candidate.chars().count()))
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean "x"?` if one is near.
#[must_use]
pub(super) fn nearest_hint<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(word, candidates).map(|found| format!("did you mean {found:?}?"))
}

/// `did you mean "x"?` if one is near, else all of them if they are few.
#[must_use]
pub(super) fn did_you_mean(word: &str, candidates: &[&str]) -> Option<String> {
    let near = nearest_hint(word, candidates.iter().copied());
    if near.is_some() {
        return near;
    }
    let mut sorted = candidates.to_vec();
    sorted.sort_unstable();
    (1..=MAX_LISTED).contains(&sorted.len()).then(|| format!("known here: {}", sorted.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn near_misses_are_found_and_strangers_are_not() {
        let keys = ["max_age", "max_bytes", "prefix"];
        assert_eq!(nearest("max_agee", keys), Some("max_age"));
        assert_eq!(nearest("MAX_BYTE", keys), Some("max_bytes"));
        assert_eq!(nearest("retention", keys), None);
        assert_eq!(did_you_mean("zzz", &keys), Some("known here: max_age, max_bytes, prefix".into()));
        assert_eq!(did_you_mean("zzz", &[]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_words_never_panic(word in ".{0,200}", other in ".{0,20}") {
            let _ = did_you_mean(&word, &[&other]);
        }
    }
}
