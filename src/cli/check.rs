//! `turnstiled check`: every error of a configuration, or what its routes come to.

mod production;

use std::{
    io::{self, Write},
    path::Path,
};

use turnstiled_wal::file_system_space;

use super::Verdict;
use crate::{
    app::{check_certificates, disk_is_smaller},
    config::{Config, ConfigErrors},
    domain::{event_types::EVENT_TYPES, outbound::Form, routes::Route},
    http::auth::device_keys::{self, Device},
};

const LEGEND: &str =
    "x: sent   p: sent with holder_name   e: sent with fields dropped or added   .: not sent";

/// Checks the file (or what [`Config::load_or_embedded`] takes without one). Errors and warnings go to
/// `err`, the route table to `out`.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub fn run(file: Option<&Path>, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Verdict> {
    run_on(file, disk_bytes, out, err)
}

/// `disk_bytes` says how large the file system of a directory is, if it can be asked.
fn run_on(
    file: Option<&Path>,
    disk_bytes: impl Fn(&Path) -> Option<u64>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Verdict> {
    match Config::load_or_embedded(file) {
        Ok(config) => {
            let total_bytes = disk_bytes(&config.server.data_dir);
            let too_small = total_bytes.and_then(|bytes| disk_is_smaller(&config.wal, bytes));
            if let Some(what) = too_small {
                writeln!(err, "warning: {}: {what}", config.server.data_dir.display())?;
            }
            if let Err(error) = check_certificates(&config.server) {
                writeln!(err, "[server] tls: {error}\n1 error")?;
                return Ok(Verdict::Failed);
            }
            match device_keys::list(&config.auth.devices) {
                Ok(devices) => warn_of_foreign_keys(&config, &devices, err)?,
                Err(error) => {
                    writeln!(err, "[auth] devices: {error}\n1 error")?;
                    return Ok(Verdict::Failed);
                }
            }
            report(&config, out, err)
        }
        Err(errors) => refuse(&errors, err),
    }
}

/// A key of a building or gate that the configuration does not have opens nothing.
fn warn_of_foreign_keys(config: &Config, devices: &[Device], err: &mut dyn Write) -> io::Result<()> {
    for Device { id, building, gate, .. } in devices {
        let found = config.buildings.iter().find(|known| known.rules.building == *building);
        let what = match (found, gate) {
            (None, _) => format!("building {building}"),
            (Some(found), Some(gate)) if !found.rules.gates.contains(gate) => {
                format!("gate {gate} of {building}")
            }
            (Some(_), _) => continue,
        };
        writeln!(
            err,
            "warning: [auth] devices: key {id} is for {what}, which the configuration does not have"
        )?;
    }
    Ok(())
}

/// Of the file system that a directory is on, or will be.
fn disk_bytes(dir: &Path) -> Option<u64> {
    let here = |path| if path == Path::new("") { Path::new(".") } else { path };
    let existing = dir.ancestors().map(here).find(|path| path.exists())?;
    Some(file_system_space(existing).ok()?.total_bytes)
}

/// Prints all errors, and how many they are.
pub(super) fn refuse(errors: &ConfigErrors, err: &mut dyn Write) -> io::Result<Verdict> {
    let count = errors.0.len();
    writeln!(err, "{errors}")?;
    writeln!(err, "{count} {}", if count == 1 { "error" } else { "errors" })?;
    Ok(Verdict::Failed)
}

fn report(config: &Config, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Verdict> {
    for warning in &config.warnings {
        writeln!(err, "warning: {warning}")?;
    }
    for warning in production::warnings(config) {
        writeln!(err, "warning: {warning}")?;
    }
    let gates: usize = config.buildings.iter().map(|building| building.rules.gates.len()).sum();
    writeln!(
        out,
        "server {}: buildings {}, gates {gates}, sinks {}, routes {}, tests {}\n",
        config.server.id,
        config.buildings.len(),
        config.sinks.len(),
        config.routes.routes().len(),
        config.tests.len()
    )?;
    write_table(config, out)?;
    writeln!(out, "\n{LEGEND}\n")?;
    for route in config.routes.routes() {
        writeln!(out, "{}", describe(route))?;
    }
    Ok(Verdict::Passed)
}

/// Types down, sinks across.
fn write_table(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    const TYPE_HEADING: &str = "type";
    let mut declared: Vec<&str> = config.event_types.keys().map(String::as_str).collect();
    declared.sort_unstable();
    let types: Vec<&str> = EVENT_TYPES.iter().copied().chain(declared).collect();
    let type_width = types.iter().map(|name| name.len()).max().unwrap_or_default();
    let headings = config.sinks.iter().map(|sink| sink.name.as_str());
    write_row(out, type_width, TYPE_HEADING, headings.clone().map(|name| (name, name.len())))?;
    for event_type in types {
        let marks = headings.clone().map(|sink| {
            let form = config.routes.form_for(event_type, sink);
            (form.as_deref().map_or(".", mark), sink.len())
        });
        write_row(out, type_width, event_type, marks)?;
    }
    Ok(())
}

fn write_row<'c>(
    out: &mut dyn Write,
    type_width: usize,
    event_type: &str,
    cells: impl Iterator<Item = (&'c str, usize)>,
) -> io::Result<()> {
    let mut row = format!("{event_type:type_width$}");
    for (cell, width) in cells {
        row.push_str(&format!("  {cell:width$}"));
    }
    writeln!(out, "{}", row.trim_end())
}

/// A route in one line: its name, which metrics have, its types, its sinks, and what it does to events.
fn describe(route: &Route) -> String {
    let types = route.types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let to = if route.to.is_empty() { "nowhere".to_owned() } else { route.to.join(", ") };
    let mut line = format!("route {}: {types} -> {to}", route.name);
    let Form { personal, drop, add } = &*route.form;
    if *personal {
        line.push_str("; with holder_name");
    }
    if !drop.is_empty() {
        line.push_str(&format!("; drops {}", drop.join(", ")));
    }
    if !add.is_empty() {
        let added: Vec<&str> = add.keys().map(String::as_str).collect();
        line.push_str(&format!("; adds {}", added.join(", ")));
    }
    line
}

fn mark(form: &Form) -> &'static str {
    let edited = !form.drop.is_empty() || !form.add.is_empty();
    match (form.personal, edited) {
        (false, false) => "x",
        (true, false) => "p",
        (false, true) => "e",
        (true, true) => "pe",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::EMBEDDED,
        domain::{
            ids::{BuildingId, GateId},
            time::Timestamp,
        },
        http::auth::device_keys::DeviceKind,
    };

    fn check(text: &str) -> (Verdict, String, String) {
        check_on(text, u64::MAX)
    }

    fn check_on(text: &str, disk_bytes: u64) -> (Verdict, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("routes.toml");
        std::fs::write(&file, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let verdict = run_on(Some(&file), |_| Some(disk_bytes), &mut out, &mut err).unwrap();
        let text =
            |bytes| String::from_utf8(bytes).unwrap().replace(&file.display().to_string(), "routes.toml");
        (verdict, text(out), text(err))
    }

    #[test]
    fn the_embedded_default_passes_without_a_warning() {
        let (verdict, out, err) = check(EMBEDDED);
        assert_eq!((verdict, err.as_str()), (Verdict::Passed, ""));
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "server hq-1: buildings 2, gates 4, sinks 3, routes 3, tests 4");
        assert_eq!(lines[2], "type                      internal  exits  archive");
        assert_eq!(lines[3], "access.entry.denied       x         .      x");
        assert_eq!(lines[6], "access.exit.recorded      .         x      x");
        assert_eq!(lines[lines.len() - 5], LEGEND);
        assert_eq!(
            lines[lines.len() - 2..],
            ["route exits: access.exit.* -> exits", "route everything: ** -> archive"]
        );
    }

    #[test]
    fn forms_are_marked_and_warnings_shown() {
        let changed = EMBEDDED
            .replace(
                "to = [\"internal\"]",
                "to = [\"internal\"]\npersonal = true\ndrop = [\"by\"]\nadd = { n = 1 }",
            )
            .replacen("type = \"file\"", "type = \"file\"\nregion = \"eu-west-1\"", 1);
        let (verdict, out, err) = check(&changed);
        assert_eq!(verdict, Verdict::Passed);
        assert!(out.contains("card.lost                 pe        .      x\n"), "{out}");
        assert!(out.contains(" -> internal; with holder_name; drops by; adds n\n"), "{out}");
        assert!(
            err.starts_with("warning: routes.toml:")
                && err.contains("region: has no effect on this type of sink"),
            "{err}"
        );
    }

    #[test]
    fn keys_that_cannot_be_read_or_open_nothing_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let devices = dir.path().join("devices.toml");
        let text = EMBEDDED.replace("data/devices.toml", &devices.display().to_string());
        let add = |building: &str, gate: Option<&str>| {
            let (building, gate) =
                (BuildingId::parse(building).unwrap(), gate.map(|gate| GateId::parse(gate).unwrap()));
            device_keys::add(&devices, building, gate, DeviceKind::Gate, None, Timestamp::from_millis(0))
                .unwrap();
        };
        add("hq", Some("north-1"));
        assert_eq!(check(&text).2, "");
        add("hq", Some("south"));
        add("shed", None);
        let (verdict, _, err) = check(&text);
        assert_eq!(verdict, Verdict::Passed);
        assert!(
            err.contains(" is for gate south of hq, which") && err.contains(" is for building shed, which"),
            "{err}"
        );
        std::fs::write(&devices, "rubbish").unwrap();
        let (verdict, out, err) = check(&text);
        assert_eq!((verdict, out.as_str()), (Verdict::Failed, ""));
        assert!(err.starts_with("[auth] devices: ") && err.ends_with("1 error\n"), "{err}");
    }

    #[test]
    fn every_error_is_shown_and_counted() {
        let (verdict, out, err) = check("[server]\nid = \"a b\"\nlisten = 5\n[auth]\n");
        assert_eq!((verdict, out.as_str()), (Verdict::Failed, ""));
        let expected = [
            "routes.toml:1: buildings: is required",
            "routes.toml:1: routes: is required",
            "routes.toml:2: server.id: \"a b\" is no id: an id is 1 to 64 of A-Z a-z 0-9 _ -",
            "routes.toml:3: server.listen: must be a string, this is a whole number",
            "4 errors",
        ];
        assert_eq!(err.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_limit_that_the_disk_cannot_hold_is_a_warning() {
        let (verdict, _, err) = check_on(EMBEDDED, 1 << 30);
        assert_eq!((verdict, err.lines().count()), (Verdict::Passed, 1), "{err}");
        assert!(
            err.starts_with("warning: ") && err.contains("20480 MiB") && err.contains("1024 MiB"),
            "{err}"
        );
        assert!(disk_bytes(Path::new("/no/such")).unwrap() > 0 && disk_bytes(Path::new("none")).unwrap() > 0);
    }

    #[test]
    fn a_missing_file_is_named() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let verdict = run(Some(Path::new("/no/such.toml")), &mut out, &mut err).unwrap();
        assert_eq!(verdict, Verdict::Failed);
        assert!(String::from_utf8(err).unwrap().starts_with("/no/such.toml: cannot be read: "));
    }
}
