//! Lists as CSV.

use actix_web::{HttpRequest, http::header};

/// Whether a caller would rather have CSV than JSON.
pub(super) fn is_wanted(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.split(',').any(|kind| kind.trim().starts_with("text/csv")))
}

/// RFC 4180 quoting; a text that a spreadsheet would run as a formula is kept from it by an apostrophe.
pub(super) fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        assert_eq!(cell("E1"), "E1");
        assert_eq!(cell("Doe, \"Jo\""), "\"Doe, \"\"Jo\"\"\"");
        assert_eq!(cell("=1+1"), "'=1+1");
    }
}
