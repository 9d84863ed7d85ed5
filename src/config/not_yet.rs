//! What the contract names and this version does not have: known, refused, never silently ignored.
//! A feature that arrives deletes its line here.

/// Keys by section; the root of the file is `""`, every table under `[sinks]` is `sinks`.
const KEYS: &[(&str, &[&str])] = &[];

/// Whether the contract has this key here, for a later version.
pub(super) fn is_key(section: &str, key: &str) -> bool {
    keys(section).contains(&key)
}

/// All such keys of a section.
pub(super) fn keys(section: &str) -> &'static [&'static str] {
    KEYS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}
