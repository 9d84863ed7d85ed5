//! Why a replay waits: a line when that is new, and again while it lasts. Also where there is no bar to show it.

use std::time::{Duration, Instant};

use super::report::{LastError, Report};
use crate::cli::client::visible;

/// What has not changed is said again after so long.
const REPEAT_EVERY: Duration = Duration::from_secs(30);

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Troubles(Option<Said>);

#[derive(Debug)]
struct Said {
    /// When it happened, as the daemon says.
    at: String,
    why: String,
    when: Instant,
}

impl Troubles {
    /// What there is to say at `now`.
    pub(super) fn line(&mut self, report: &Report, now: Instant) -> Option<String> {
        let LastError { at, code, text } = report.last_error.as_ref()?;
        let why = format!("{code}: {text}");
        let is_known = self.0.as_ref().is_some_and(|said| {
            said.at == *at || (said.why == why && now.saturating_duration_since(said.when) < REPEAT_EVERY)
        });
        if is_known {
            return None;
        }
        let line = format!("{} waits and tries again: {}", report.name, visible(&why));
        self.0 = Some(Said { at: at.clone(), why, when: now });
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::report::tests::report, *};
    use serde_json::json;

    #[test]
    fn what_is_new_is_said_at_once_and_what_lasts_seldom() {
        let mut troubles = Troubles::default();
        let begin = Instant::now();
        let mut line = |at: &str, text: &str, after: u64| {
            let error = json!({ "at": at, "code": "source_unreadable", "text": text });
            troubles.line(&report(&[("last_error", error)]), begin + Duration::from_secs(after))
        };
        let said = line("1", "NoSuchBucket: it does not exist", 0).unwrap();
        assert_eq!(said, "r waits and tries again: source_unreadable: NoSuchBucket: it does not exist");
        assert_eq!(line("1", "NoSuchBucket: it does not exist", 60), None, "it was not tried again");
        assert_eq!(line("2", "NoSuchBucket: it does not exist", 20), None);
        assert!(line("3", "NoSuchBucket: it does not exist", 61).is_some());
        assert!(line("4", "AccessDenied: no", 62).is_some());
    }

    #[test]
    fn nothing_is_said_of_a_replay_that_goes_well() {
        assert_eq!(Troubles::default().line(&report(&[]), Instant::now()), None);
    }
}
