//! What every page of results ends with.

use std::{fmt::Write, fs, path::Path};

/// What follows this line is written by people and kept.
const NOTES: &str = "<!-- Notes below this line are kept by `make bench`. -->\n";

/// Writes the page, with how its figures were taken and what people have written under those that are there.
pub(crate) fn finish(mut page: String, method: &str, out: &Path) {
    let old = fs::read_to_string(out).unwrap_or_default();
    let notes = old.split_once(NOTES).map_or("", |(_, notes)| notes);
    let _ = write!(page, "\n## How it is measured\n\n{method}\n{NOTES}{notes}");
    fs::write(out, page).unwrap();
}
