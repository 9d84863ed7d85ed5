//! Cells of CSV (RFC 4180) that no spreadsheet runs as a formula, and the way back.
//!
//! An apostrophe goes before what begins like a formula, and before what begins with apostrophes and then like one. So it
//! can be taken away again, and every text comes back as it was.

use actix_web::{HttpRequest, http::header};

/// Whether a caller would rather have CSV than JSON.
pub(super) fn wants_csv(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.split(',').any(|kind| kind.trim().starts_with("text/csv")))
}

/// A row as it is written, with its end.
pub(super) fn write_row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let cells: Vec<String> = cells.into_iter().map(|cell| write_cell(cell.as_ref())).collect();
    format!("{}\r\n", cells.join(","))
}

/// A cell as it is written.
fn write_cell(text: &str) -> String {
    let text = if is_like_formula(text) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// The text of a cell, quotation marks taken away already.
#[must_use]
pub fn text_of(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(text) if is_like_formula(text) => text,
        _ => cell,
    }
}

fn is_like_formula(text: &str) -> bool {
    text.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        assert_eq!(write_cell("E1"), "E1");
        assert_eq!(write_cell("Doe, \"Jo\""), "\"Doe, \"\"Jo\"\"\"");
        assert_eq!(write_cell("=1+1"), "'=1+1");
        assert_eq!(write_cell("'=1+1"), "''=1+1");
        assert_eq!(write_cell("'t Hooft"), "'t Hooft");
        assert_eq!(text_of("'t Hooft"), "'t Hooft");
        assert_eq!(text_of("'-5"), "-5");
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "['=+@\t\r\n\",;x -]{0,6}|.{0,20}") {
            let cell = write_cell(&text);
            let quoted = cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"'));
            let cell = quoted.map_or(cell.clone(), |cell| cell.replace("\"\"", "\""));
            prop_assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(text_of(&cell), text);
        }
    }
}
