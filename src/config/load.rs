//! From a file or a text to a [`Config`].

use std::{collections::BTreeSet, fs::File, io::Read as _, path::Path};

use sha2::{Digest, Sha256};
use toml::de::DeTable;

use super::{
    Config, ConfigErrors, EMBEDDED, Finding, auth,
    buildings::{self, BuildingConfig},
    card_sync, coverage, dead_letters,
    document::{Document, Place},
    env::Environment,
    event_types::{self, EventTypes},
    groups,
    limits::{MAX_BUILDINGS, MAX_FILE_BYTES},
    reader::TableReader,
    route_tests, routes, schedules, server, sink_checks,
    sinks::{self, Sinks},
    telemetry::{self, TelemetryConfig},
    wal::{self, WalConfig},
};
use crate::domain::{
    hex::hex,
    ids::GroupId,
    routes::{Route, RouteTable},
};

/// The file that is taken from the working directory unless another is named.
const DEFAULT_FILE: &str = "routes.toml";

impl Config {
    /// Reads the file if one is named, else `routes.toml` in the working directory if it is there, else the
    /// embedded default.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_or_embedded(file: Option<&Path>) -> Result<Self, ConfigErrors> {
        let default = Path::new(DEFAULT_FILE);
        match file {
            Some(file) => Self::load(file),
            None if default.exists() => Self::load(default),
            None => Self::parse(EMBEDDED, default, &process_env),
        }
    }

    /// Reads a file, with the process's environment.
    ///
    /// # Errors
    /// Everything that is wrong with it, or why it cannot be read.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        let text = read_file(file).map_err(|problem| {
            let (file, hint) = (file.to_owned(), Some("name another with --config".to_owned()));
            ConfigErrors(vec![Finding { file, line: None, key: String::new(), problem, hint }])
        })?;
        Self::parse(&text, file, &process_env)
    }

    /// Reads a text. `file` names it in errors, and its directory is where relative paths start.
    ///
    /// # Errors
    /// Everything that is wrong, in order of line.
    pub fn parse(text: &str, file: &Path, env: Environment<'_>) -> Result<Self, ConfigErrors> {
        let document = Document::new(file, text, env);
        let (root, syntax_errors) = DeTable::parse_recoverable(text);
        for error in &syntax_errors {
            let at = Place { offset: error.span().map_or(0, |span| span.start), key: String::new() };
            document.error(&at, error.message().replace('\n', ", "), None);
        }
        // After a syntax error keys may be anywhere: what the sections say would mislead.
        let config = syntax_errors.is_empty().then(|| {
            let at = Place { offset: 0, key: String::new() };
            read(TableReader::new(&document, root.get_ref(), at))
        });
        let (mut config, warnings) = document.conclude(config.flatten())?;
        config.warnings = warnings;
        config.sha256 = hex(&Sha256::digest(text));
        Ok(config)
    }
}

fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn read_file(file: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let mut text = String::new();
    let opened = File::open(file).map_err(failed)?;
    opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= MAX_FILE_BYTES) {
        Ok(text)
    } else {
        Err(format!("is larger than {MAX_FILE_BYTES} bytes"))
    }
}

fn read(mut root: TableReader<'_>) -> Option<Config> {
    let server = root.required("server").and_then(|value| server::read(value.table()?));
    let auth = root.required("auth").and_then(|value| auth::read(value.table()?, server.as_ref()));
    let wal = match root.optional("wal") {
        Some(value) => value.table().map(wal::read),
        None => Some(WalConfig::default()),
    };
    let (buildings, groups) = read_buildings(&mut root);
    let sinks = root.optional("sinks").map(|value| sinks::read(&value)).unwrap_or_default();
    let event_types = root.optional("event_types").map(|value| event_types::read(&value)).unwrap_or_default();
    let routes = read_routes(&mut root, &sinks, &event_types);
    let tests = root.optional("tests");
    let tests = tests.map(|value| route_tests::read(&value, &sinks.names, &event_types.all()));
    let letters = root.optional("dead_letters").and_then(|value| value.table());
    let letter_queue = letters.and_then(dead_letters::read);
    let own = server.as_ref().map(|server| server.id.as_str());
    let card_sync = root.optional("card_sync");
    let card_sync =
        card_sync.and_then(|value| card_sync::read(value.table()?, own, &sinks, letter_queue.as_ref()));
    let telemetry = match root.optional("telemetry") {
        Some(value) => value.table().map(telemetry::read),
        None => Some(TelemetryConfig::default()),
    };
    let data_dir = server.as_ref().map(|server| server.data_dir.as_path());
    sink_checks::check_with_others(root.document, &sinks, data_dir, letter_queue.as_ref());
    root.finish();
    Some(Config {
        server: server?,
        auth: auth?,
        wal: wal?,
        buildings: buildings?,
        groups,
        sinks: sinks.valid.into_iter().map(|(sink, _)| sink).collect(),
        routes: RouteTable::new(routes?),
        event_types: event_types.schemas,
        letter_queue,
        card_sync,
        telemetry: telemetry?,
        tests: tests.unwrap_or_default(),
        warnings: Vec::new(),
        sha256: String::new(),
    })
}

fn read_buildings(root: &mut TableReader<'_>) -> (Option<Vec<BuildingConfig>>, BTreeSet<GroupId>) {
    let value = root.required("buildings");
    let mut buildings = value.as_ref().and_then(buildings::read);
    let all = value.and_then(|value| value.list(MAX_BUILDINGS)).map(|list| list.len());
    let schedules_value = root.optional("schedules");
    let schedules = schedules_value.as_ref().map(schedules::read).unwrap_or_default();
    let named = groups::Named {
        buildings: buildings.as_deref().unwrap_or_default(),
        all_buildings_right: buildings.as_ref().map(Vec::len) == all,
        schedules: &schedules,
    };
    let read = root.optional("groups").map(|value| groups::read(&value, &named)).unwrap_or_default();
    if let Some(value) = schedules_value {
        read.warn_of_unused(&value, &schedules);
    }
    let groups = read.assign(buildings.as_deref_mut().unwrap_or_default());
    (buildings, groups)
}

fn read_routes(root: &mut TableReader<'_>, sinks: &Sinks, event_types: &EventTypes) -> Option<Vec<Route>> {
    let value = root.required("routes")?;
    let types = event_types.all();
    let routes = routes::read(&value, &sinks.names, &types)?;
    coverage::check(&value, &routes, sinks, &types);
    Some(routes.routes.into_iter().map(|(route, _)| route).collect())
}
