//! Server-Sent Events as the HTML standard has them, section 9.2.

use std::fmt::Display;

/// What a browser waits before it connects again, in milliseconds.
const RETRY_MILLIS: u32 = 2_000;

/// The beginning of a feed. A block with an id and without data is no event to its reader, but is where it will go on.
pub(super) fn opening(place: impl Display) -> String {
    format!("retry: {RETRY_MILLIS}\nid: {place}\n\n")
}

/// That the connection is alive, and how far it has come.
pub(super) fn heartbeat(place: impl Display) -> String {
    format!(": nothing new\nid: {place}\n\n")
}

/// Why nothing more comes.
pub(super) fn ending(why: &str) -> String {
    format!(": {why}\n\n")
}

/// One event, appended to `text`. Its JSON stays JSON: line breaks in it are white space, because in strings they are
/// escaped.
pub(super) fn push_event(text: &mut String, place: impl Display, event_type: &str, json: &str) {
    text.push_str(&format!("id: {place}\nevent: {event_type}\ndata: "));
    text.extend(json.chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c }));
    text.push_str("\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_is_three_lines_and_an_empty_one() {
        let mut text = opening("hq-1.1:4");
        push_event(&mut text, "hq-1.1:5", "card.lost", "{\r\n\"a\":\"\\n\"\n}");
        text.push_str(&heartbeat("hq-1.1:9"));
        text.push_str(&ending("the token has expired"));
        let expected = "retry: 2000\nid: hq-1.1:4\n\nid: hq-1.1:5\nevent: card.lost\ndata: {  \"a\":\"\\n\" }\n\n\
                        : nothing new\nid: hq-1.1:9\n\n: the token has expired\n\n";
        assert_eq!(text, expected);
    }

    proptest! {
        #[test]
        fn no_json_breaks_out_of_its_line(name in ".{0,20}", value in ".{0,40}") {
            let json = serde_json::to_string_pretty(&serde_json::json!({ "a": { name: value } })).unwrap();
            let mut text = String::new();
            push_event(&mut text, "x:1", "a.b", &json);
            let lines: Vec<&str> = text.split(['\n', '\r']).collect();
            prop_assert_eq!(lines.len(), 5);
            let data: serde_json::Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
            prop_assert_eq!(data, serde_json::from_str::<serde_json::Value>(&json).unwrap());
        }
    }
}
