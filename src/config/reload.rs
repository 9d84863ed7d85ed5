//! What another configuration changes in a running server, or why it cannot without a restart.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{Config, auth::AuthConfig, server::ServerConfig, sinks::SinkConfig, wal::WalConfig};
use crate::domain::{building::Rules, routes::Route};

/// The steps from one configuration to another. What is in none of the lists stays as it is, undisturbed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Sinks that are no longer named.
    pub remove: Vec<String>,
    /// Sinks with other settings, or that routes lead other events to, or in another form: the old one ends, the new one
    /// goes on at its place.
    pub restart: Vec<SinkConfig>,
    /// Sinks that were not named before.
    pub add: Vec<SinkConfig>,
    /// The rules of buildings that have others now.
    pub rules: Vec<Rules>,
    /// Routes that are new, gone, or lead elsewhere or in another form, by name; sorted.
    pub routes: Vec<String>,
    /// Keys of `[server]` with other values; sorted. Of `tls` the names of its files, not what is in them.
    pub server: Vec<String>,
    /// Event types of devices that are declared, no longer declared, or have another schema; sorted.
    pub event_types: Vec<String>,
}

/// Keys that a running server cannot change.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{} cannot change while the server runs: restart it to take the file, or undo that", .0.join(", ")
)]
pub struct NeedsRestart(pub Vec<String>);

/// Compares two valid configurations.
///
/// # Errors
/// [`NeedsRestart`] with every key that differs and cannot.
pub fn plan(old: &Config, new: &Config) -> Result<Plan, NeedsRestart> {
    let keys = fixed_keys(old, new);
    if !keys.is_empty() {
        return Err(NeedsRestart(keys));
    }
    let before = |sink: &SinkConfig| old.sinks.iter().find(|before| before.name == sink.name);
    let is_named = |sink: &SinkConfig| new.sinks.iter().any(|after| after.name == sink.name);
    let goes_on = |sink: &&SinkConfig| {
        before(sink)
            .is_some_and(|before| is_same(before, sink) && old.routes.leads_alike(&new.routes, &sink.name))
    };
    let (restart, add) =
        (new.sinks.iter().filter(|sink| !goes_on(sink)).cloned()).partition(|sink| before(sink).is_some());
    let rules = |config: &Config| config.buildings.iter().map(|building| building.rules.clone()).collect();
    let old_rules: Vec<Rules> = rules(old);
    Ok(Plan {
        remove: old.sinks.iter().filter(|sink| !is_named(sink)).map(|sink| sink.name.clone()).collect(),
        restart,
        add,
        rules: rules(new).into_iter().filter(|rules| !old_rules.contains(rules)).collect(),
        routes: changed_routes(old, new),
        server: changed_server_keys(&old.server, &new.server),
        event_types: changed_types(old, new),
    })
}

fn changed_routes(old: &Config, new: &Config) -> Vec<String> {
    let names: BTreeSet<&String> =
        old.routes.routes().iter().chain(new.routes.routes()).map(|route| &route.name).collect();
    let is_changed = |name: &&String| route_of(old, name) != route_of(new, name);
    names.into_iter().filter(is_changed).cloned().collect()
}

fn route_of<'a>(config: &'a Config, name: &str) -> Option<&'a Route> {
    config.routes.routes().iter().find(|route| route.name == name)
}

fn changed_server_keys(old: &ServerConfig, new: &ServerConfig) -> Vec<String> {
    let keys = [
        ("hosts", old.hosts != new.hosts),
        ("rate_limit", old.rate_limit != new.rate_limit),
        ("tls", old.tls != new.tls),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
}

fn changed_types(old: &Config, new: &Config) -> Vec<String> {
    let names: BTreeSet<&String> = old.event_types.keys().chain(new.event_types.keys()).collect();
    let is_changed = |name: &&String| old.event_types.get(*name) != new.event_types.get(*name);
    names.into_iter().filter(is_changed).cloned().collect()
}

/// `from` says where a sink begins that was never seen: of one that is running it changes nothing.
fn is_same(old: &SinkConfig, new: &SinkConfig) -> bool {
    *new == SinkConfig { from: new.from, ..old.clone() }
}

/// Structs are taken apart, so that a new key is not forgotten here.
fn fixed_keys(old: &Config, new: &Config) -> Vec<String> {
    let Config {
        server,
        auth,
        wal,
        buildings: _,
        groups: _,
        sinks: _,
        routes: _,
        event_types: _,
        letter_queue,
        card_sync,
        telemetry,
        tests: _,
        warnings: _,
        sha256: _,
    } = new;
    let ServerConfig { id, listen, admin_listen, tls, data_dir, hosts: _, rate_limit: _ } = server;
    let AuthConfig { devices, jwt } = auth;
    let WalConfig { store, retention, max_bytes, snapshot_every } = wal;
    let mut keys: Vec<String> = [
        ("server.id", *id != old.server.id),
        ("server.listen", *listen != old.server.listen),
        ("server.admin_listen", *admin_listen != old.server.admin_listen),
        // its files may be others
        ("server.tls", tls.is_some() != old.server.tls.is_some()),
        ("server.data_dir", *data_dir != old.server.data_dir),
        ("auth.devices", *devices != old.auth.devices),
        ("auth.jwt", *jwt != old.auth.jwt),
        ("wal.store", *store != old.wal.store),
        ("wal.retention", *retention != old.wal.retention),
        ("wal.max_bytes", *max_bytes != old.wal.max_bytes),
        ("wal.snapshot_every", *snapshot_every != old.wal.snapshot_every),
        ("dead_letters.queue_url", *letter_queue != old.letter_queue),
        ("card_sync", *card_sync != old.card_sync),
        ("telemetry", *telemetry != old.telemetry),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(key, _)| key.to_owned())
    .collect();
    let without = |these: &Config, those: &Config| -> Vec<String> {
        let has = |id| those.buildings.iter().any(|building| building.rules.building == id);
        let ids = these.buildings.iter().map(|building| building.rules.building.clone());
        ids.filter(|id| !has(id.clone())).map(|id| id.to_string()).collect()
    };
    for (how, ids) in [("added", without(new, old)), ("removed", without(old, new))] {
        if !ids.is_empty() {
            keys.push(format!("buildings ({how}: {})", ids.join(", ")));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::EMBEDDED;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("routes.toml"), &|_| None).unwrap()
    }

    fn to(changed: &str) -> Result<Plan, NeedsRestart> {
        plan(&config(EMBEDDED), &config(changed))
    }

    fn edited(from: &str, to: &str) -> String {
        assert!(EMBEDDED.contains(from), "{from}");
        EMBEDDED.replacen(from, to, 1)
    }

    fn names(sinks: &[SinkConfig]) -> Vec<&str> {
        sinks.iter().map(|sink| sink.name.as_str()).collect()
    }

    #[test]
    fn the_same_file_changes_nothing() {
        assert_eq!(to(EMBEDDED).unwrap(), Plan::default());
        assert_eq!(to(&edited("from = \"oldest\"", "from = \"head\"")).unwrap(), Plan::default());
        let renamed = to(&edited("name = \"everything\"", "name = \"all\"")).unwrap();
        let routes = vec!["all".to_owned(), "everything".to_owned()];
        assert_eq!(renamed, Plan { routes, ..Plan::default() }, "nothing but the name");
        let without_tests = EMBEDDED.split("# Tests").next().unwrap();
        assert_eq!(to(without_tests).unwrap(), Plan::default());
    }

    #[test]
    fn only_what_changes_is_disturbed() {
        let plan = to(&edited("max_age = \"1h\"", "max_age = \"2h\"")).unwrap();
        assert_eq!(names(&plan.restart), ["internal"]);
        let plan = to(&edited("required = true", "rate_limit = 7")).unwrap();
        assert_eq!((names(&plan.restart), plan.restart[0].required), (vec!["archive"], false));
        let plan = to(&edited("to = [\"exits\"]\n", "to = [\"exits\"]\ndrop = [\"by\"]\n")).unwrap();
        assert_eq!((names(&plan.restart), plan.routes), (vec!["exits"], vec!["exits".to_owned()]));
        assert_eq!((plan.add.len(), plan.remove.len(), plan.rules.len()), (0, 0, 0));
    }

    #[test]
    fn what_changes_in_server_is_named() {
        let plan =
            to(&edited("id = \"hq-1\"", "id = \"hq-1\"\nrate_limit = 5\nhosts = [\"localhost\"]")).unwrap();
        assert_eq!(
            plan,
            Plan { server: vec!["hosts".to_owned(), "rate_limit".to_owned()], ..Plan::default() }
        );
    }

    #[test]
    fn sinks_come_and_go() {
        let renamed = EMBEDDED.replace("sinks.exits]", "sinks.left]").replace("\"exits\"", "\"left\"");
        let plan = to(&renamed).unwrap();
        assert_eq!(
            (plan.remove, names(&plan.add), plan.restart.len()),
            (vec!["exits".to_owned()], vec!["left"], 0)
        );
    }

    #[test]
    fn buildings_get_other_rules() {
        let plan = to(&edited("{ id = \"garage\" }", "{ id = \"south\" }")).unwrap();
        assert_eq!(plan.rules.iter().map(|rules| rules.building.as_str()).collect::<Vec<_>>(), ["hq"]);
        assert!(plan.rules[0].gates.iter().any(|gate| gate.as_str() == "south"));
        assert!(plan.restart.is_empty());
        let plan = to(&edited("anti_passback = \"soft\"", "anti_passback = \"off\"")).unwrap();
        assert_eq!(plan.rules[0].building.as_str(), "annex");
    }

    #[test]
    fn what_cannot_change_is_named_all_of_it() {
        let changed = edited("listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:8081\"")
            .replace("data_dir = \"data\"", "data_dir = \"elsewhere\"")
            .replace("id = \"annex\"", "id = \"shed\"")
            .replace("[[buildings]]\nid = \"hq\"", "[wal]\nretention = \"1d\"\n[[buildings]]\nid = \"hq\"");
        let refused = to(&changed).unwrap_err();
        assert_eq!(
            refused.0,
            [
                "server.listen",
                "server.data_dir",
                "wal.retention",
                "buildings (added: shed)",
                "buildings (removed: annex)"
            ]
        );
        assert!(refused.to_string().contains("restart"), "{refused}");
        let queue = "[dead_letters]\nqueue_url = \"https://sqs.eu-central-1.amazonaws.com/000000000000/q\"\n";
        let refused = to(&format!("{EMBEDDED}{queue}")).unwrap_err();
        assert_eq!(refused.0, ["dead_letters.queue_url"]);
        let refused = to(&format!("{EMBEDDED}[telemetry]\nsample_ratio = 0.5\n")).unwrap_err();
        assert_eq!(refused.0, ["telemetry"]);
    }
}
