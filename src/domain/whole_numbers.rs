//! Whole numbers in JSON that no 64 bits hold: a reader makes them the nearest fraction, silently.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::raw_object::RawObject;

/// Where in `json` such numbers stand, at most `max` JSON pointers, looking not deeper than `max_depth`. Empty where it is
/// not JSON.
#[must_use]
pub fn too_large(json: &[u8], max_depth: usize, max: usize) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_slice::<&RawValue>(json) {
        look(value.get(), "", max_depth, &mut found);
    }
    found.truncate(max);
    found
}

fn look(json: &str, pointer: &str, depth: usize, found: &mut Vec<String>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let mut inner = |name: &str, value: &str| look(value, &format!("{pointer}/{name}"), depth, found);
    match json.as_bytes().first() {
        Some(b'{') => {
            let members = serde_json::from_str::<RawObject<'_>>(json);
            members
                .iter()
                .flat_map(|members| &members.0)
                .for_each(|(name, value)| inner(&escaped(name), value));
        }
        Some(b'[') => {
            let items = serde_json::from_str::<Vec<&RawValue>>(json).unwrap_or_default();
            items.iter().enumerate().for_each(|(index, item)| inner(&index.to_string(), item.get()));
        }
        Some(b'-' | b'0'..=b'9') if is_too_large(json) => found.push(pointer.to_owned()),
        _ => {}
    }
}

fn is_too_large(number: &str) -> bool {
    let is_whole = !number.contains(['.', 'e', 'E']);
    is_whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err()
}

/// RFC 6901.
fn escaped(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) { name.replace('~', "~0").replace('/', "~1").into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_a_reader_would_alter_is_found_by_its_pointer() {
        let json = br#" { "a": [1, {"b/c~": 18446744073709551617}], "n": -9223372036854775809, "l": 18446744073709551616 } "#;
        assert_eq!(too_large(json, 9, 9), ["/a/1/b~1c~0", "/n", "/l"]);
        assert_eq!(too_large(json, 9, 1).len(), 1);
        assert_eq!(too_large(json, 2, 9), ["/n", "/l"], "no deeper");
        let kept = br#"[18446744073709551615, -9223372036854775808, 0, 1e19, 123456789012345678901.5, "18446744073709551617"]"#;
        assert!(too_large(kept, 9, 9).is_empty());
        assert!(too_large(b"{", 9, 9).is_empty());
    }

    #[test]
    fn what_is_not_found_is_read_as_it_is() {
        for number in [u64::MAX.to_string(), i64::MIN.to_string(), "18446744073709551616".to_owned()] {
            let read = serde_json::from_str::<serde_json::Value>(&number).unwrap().to_string();
            let is_kept = read == number;
            assert_eq!(too_large(number.as_bytes(), 1, 1).is_empty(), is_kept, "{number}");
        }
    }
}
