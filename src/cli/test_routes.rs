//! `turnstiled test-routes`: runs the `[[tests]]` of a configuration.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
};

use super::{Verdict, check};
use crate::config::{Config, route_tests::RouteTest};

/// Runs the tests of the file (or of what [`Config::load_or_embedded`] takes without one), one line each on
/// `out`. A test passes if its event reaches exactly the sinks it names.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(file: Option<&Path>, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Verdict> {
    let config = match Config::load_or_embedded(file) {
        Ok(config) => config,
        Err(errors) => return check::refuse(&errors, err),
    };
    let mut failed = 0_usize;
    for test in &config.tests {
        let reached = config.routes.sinks_for(&test.event_type);
        let reached = reached.iter().map(|destination| &*destination.sink).collect();
        match difference(test, &reached) {
            None => writeln!(out, "ok    line {}: {} -> {}", test.line, test.event_type, list(&reached))?,
            Some(difference) => {
                failed += 1;
                writeln!(out, "FAIL  line {}: {}: {difference}", test.line, test.event_type)?;
            }
        }
    }
    writeln!(out, "{} passed, {failed} failed", config.tests.len() - failed)?;
    if config.tests.is_empty() {
        writeln!(err, "warning: there are no [[tests]] in the configuration")?;
    }
    Ok(if failed == 0 { Verdict::Passed } else { Verdict::Failed })
}

fn difference(test: &RouteTest, reached: &BTreeSet<&str>) -> Option<String> {
    let expected: BTreeSet<&str> = test.to.iter().map(|sink| &**sink).collect();
    if expected == *reached {
        return None;
    }
    let missing: BTreeSet<&str> = expected.difference(reached).copied().collect();
    let surplus: BTreeSet<&str> = reached.difference(&expected).copied().collect();
    let parts = [("does not reach", missing), ("reaches also", surplus)];
    let parts = parts.iter().filter(|(_, sinks)| !sinks.is_empty());
    Some(parts.map(|(what, sinks)| format!("{what} {}", list(sinks))).collect::<Vec<_>>().join(", "))
}

fn list(sinks: &BTreeSet<&str>) -> String {
    if sinks.is_empty() {
        return "nowhere".to_owned();
    }
    sinks.iter().copied().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EMBEDDED;

    fn test_routes(text: &str) -> (Verdict, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("routes.toml");
        std::fs::write(&file, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let verdict = run(Some(&file), &mut out, &mut err).unwrap();
        (verdict, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_embedded_tests_pass() {
        let (verdict, out, err) = test_routes(EMBEDDED);
        assert_eq!((verdict, err.as_str()), (Verdict::Passed, ""));
        assert!(out.contains(": access.exit.recorded -> archive, exits\n"), "{out}");
        assert!(out.ends_with("4 passed, 0 failed\n"), "{out}");
    }

    #[test]
    fn a_failure_says_what_is_missing_and_what_is_too_much() {
        let (verdict, out, _) =
            test_routes(&EMBEDDED.replace("to = [\"exits\", \"archive\"]", "to = [\"exits\", \"internal\"]"));
        assert_eq!(verdict, Verdict::Failed);
        assert!(
            out.contains("access.exit.recorded: does not reach internal, reaches also archive\n"),
            "{out}"
        );
        assert!(out.ends_with("3 passed, 1 failed\n"), "{out}");
    }

    #[test]
    fn a_refused_configuration_fails_and_no_tests_are_a_warning() {
        let (verdict, out, err) = test_routes("x = 1");
        assert_eq!((verdict, out.as_str()), (Verdict::Failed, ""));
        assert!(err.contains("unknown key"), "{err}");
        let (verdict, _, err) = test_routes(EMBEDDED.split("# Tests").next().unwrap());
        assert_eq!(verdict, Verdict::Passed);
        assert!(err.contains("no [[tests]]"), "{err}");
    }
}
