//! The shape of the code: who may import whom, where a dependency may be named, how long a file may be.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each module of the daemon, and the modules of the crate that it may name.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("delivery", &["domain", "rate"]),
    ("trace", &["clock", "domain", "https_client", "metrics", "random", "rate"]),
    ("sinks", &["delivery", "domain", "trace"]),
    ("config", &["domain", "space"]),
    ("metrics", &["domain"]),
    ("space", &[]),
    ("clock", &["domain"]),
    ("data_dir", &["clock", "domain"]),
    ("random", &[]),
    ("rate", &[]),
    ("telemetry", &["trace"]),
    ("projections", &["delivery", "domain"]),
    ("index", &["domain", "metrics"]),
    (
        "actors",
        &[
            "clock",
            "delivery",
            "index",
            "projections",
            "sinks",
            "domain",
            "metrics",
            "random",
            "space",
            "trace",
        ],
    ),
    ("https_client", &[]),
    (
        "http",
        &[
            "actors",
            "clock",
            "data_dir",
            "domain",
            "https_client",
            "index",
            "metrics",
            "random",
            "rate",
            "space",
            "trace",
        ],
    ),
    (
        "app",
        &[
            "actors",
            "clock",
            "config",
            "data_dir",
            "delivery",
            "domain",
            "http",
            "index",
            "metrics",
            "projections",
            "sinks",
            "space",
            "trace",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "clock",
            "config",
            "data_dir",
            "domain",
            "http",
            "https_client",
            "metrics",
            "sinks",
            "telemetry",
        ],
    ),
];

/// Where a dependency may be named: its homes, by path below the repository.
const HOMES: &[(&str, &[&str])] = &[
    (
        "sled::",
        &["wal/src/sled_db.rs", "wal/src/sled_store.rs", "wal/src/state_open.rs", "wal/src/state_sled.rs"],
    ),
    ("rustix::", &["wal/src", "src/app/background.rs", "src/app/listen.rs"]),
    ("actix::", &["src/actors", "src/app", "src/http"]),
    ("actix_web::", &["src/http", "src/app"]),
    ("aws_sdk_", &["src/sinks"]),
    ("parquet::", &["src/sinks/parquet_file.rs"]),
    ("aws_config::", &["src/sinks"]),
    (
        "turnstiled_wal::",
        &[
            "src/actors",
            "src/app",
            "src/cli",
            "src/data_dir.rs",
            "src/index",
            "src/main.rs",
            "src/projections",
        ],
    ),
    ("opentelemetry::", &["src/trace"]),
    ("opentelemetry_sdk::", &["src/trace"]),
    ("opentelemetry_otlp::", &["src/trace/export.rs"]),
    ("memchr::", &["src/domain/trace.rs"]),
    ("jsonschema::", &["src/domain/device_schema.rs"]),
    ("csv::", &["src/http/card_csv"]),
    ("jsonwebtoken::", &["src/http/auth"]),
    ("prometheus::", &["src/metrics.rs", "src/metrics"]),
    ("smol_str::", &["src/domain/card.rs", "src/domain/ids.rs", "src/projections/entry_card.rs"]),
    ("rustls::", &["src/https_client.rs", "src/http/tls"]),
    (
        "reqwest::",
        &[
            "src/cli/demo",
            "src/cli/client.rs",
            "src/cli/dlq.rs",
            "src/cli/replay",
            "src/http/auth/open_id/fetch.rs",
            "src/https_client.rs",
        ],
    ),
];

/// What the pure core may not name: the outside world.
const IMPURE: &[&str] =
    &["tokio::", "actix", "std::fs", "std::net", "SystemTime", "Instant::now", "getrandom", "async fn"];

/// The longest file, in lines, without its tests.
const MAX_LINES: usize = 400;

#[test]
fn modules_import_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for (path, code) in sources("src") {
        let Some(module) = module_of(&path) else { continue };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            panic!("{module} is a new module: give it a line in MAY_IMPORT");
        };
        for (other, _) in MAY_IMPORT {
            let names_it = imports(&code).iter().any(|import| import == other);
            if names_it && *other != module && !allowed.contains(other) {
                wrong.push(format!("{} imports {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_dependency_is_named_in_its_home_only() {
    let mut wrong = Vec::new();
    for (path, code) in sources("src").into_iter().chain(sources("wal/src")) {
        for (dependency, homes) in HOMES {
            let at_home = homes.iter().any(|home| path.starts_with(home));
            if !at_home && code.lines().any(|line| names(line, dependency)) {
                wrong.push(format!("{} names {dependency}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_is_pure() {
    let mut wrong = Vec::new();
    let beside = sources("src").into_iter().filter(|(path, _)| {
        path.starts_with("src/space")
            || [Path::new("src/space.rs"), Path::new("src/rate.rs")].contains(&path.as_path())
    });
    for (path, code) in sources("src/domain").into_iter().chain(sources("src/delivery")).chain(beside) {
        for (number, line) in code.lines().enumerate() {
            if let Some(found) = IMPURE.iter().find(|impure| line.contains(**impure)) {
                wrong.push(format!("{}:{}: {found}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_short() {
    let long: Vec<_> = (sources("src").into_iter().chain(sources("wal/src")))
        .map(|(path, code)| (path, code.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// Every source file below `dir` with its code: without comments, and without tests.
fn sources(dir: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut dirs = vec![root.join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_test = name.contains("test") && name != "test_routes.rs" && name != "route_tests.rs"
                || name.starts_with("conformance")
                || name.starts_with("simulation");
            if is_test {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root).unwrap().to_owned(), code_of(&text)));
            }
        }
    }
    assert!(!found.is_empty(), "{dir} has no sources");
    found
}

/// The text up to its inline tests, with comment lines blanked, so that line numbers stay.
fn code_of(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut left = text.lines().peekable();
    while let Some(line) = left.next() {
        let begins_tests = line.trim() == "#[cfg(test)]"
            && left.peek().is_some_and(|next| next.trim_start().starts_with("mod ") && next.ends_with('{'));
        if begins_tests {
            break;
        }
        lines.push(if line.trim_start().starts_with("//") { "" } else { line });
    }
    lines.join("\n")
}

/// `src/http/auth/mod.rs` is in `http`; `main.rs` and `lib.rs` are in none.
fn module_of(path: &Path) -> Option<String> {
    let below = path.strip_prefix("src").ok()?;
    let first = below.components().next()?.as_os_str().to_string_lossy().replace(".rs", "");
    (first != "main" && first != "lib").then_some(first)
}

/// The crate's modules that the code names, in `use crate::{a, b::c}` and in paths.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(top_level_names(group)),
            None => found.push(first_word(rest)),
        }
    }
    found
}

/// The first segment of each path of a `{...}` group, however deep the paths themselves go.
fn top_level_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut begins) = (0_usize, Vec::new(), true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && depth == 0 && !c.is_whitespace() => {
                names.push(first_word(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// `names("use actix::Addr", "actix::")`, but not `my_actix::`.
fn names(line: &str, dependency: &str) -> bool {
    line.match_indices(dependency)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn the_reader_of_imports_reads_groups() {
    let code = "use crate::{\n    actors::{a, b},\n    domain::x,\n};\nfn f() { crate::sinks::g() }";
    assert_eq!(imports(code), ["actors", "domain", "sinks"]);
    assert!(names("use actix::Addr;", "actix::") && !names("use not_actix::Addr;", "actix::"));
}
