//! The site of the demo: a directory of its own, its configuration, the keys of its turnstiles and a token.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use crate::{
    cli::CommandError,
    config::{Config, server::is_exposed},
    data_dir::create_private_dir,
    domain::{building::AntiPassback, time::Timestamp},
    http::auth::{
        device_keys::{self, DeviceKind},
        local_issuer::LocalIssuer,
        person::Grant,
    },
};

/// Index of the first building of the site.
pub(super) const HQ: usize = 0;
/// Index of the second.
pub(super) const ANNEX: usize = 1;

/// The configuration, but for how many people the annex holds.
const SITE: &str = include_str!("site.toml");
/// What stands in [`SITE`] for how many people the annex holds.
const OCCUPANCY: &str = "max_occupancy = 1 ";
/// The port that [`SITE`] has.
const LISTEN: &str = "127.0.0.1:8080";
/// So many of 100 employees fit into the annex: those who work there, and not everyone who is invited.
const ANNEX_OCCUPANCY_PERCENT: u32 = 14;
/// How long the token counts: longer than any demo, and a working day with `--keep`.
const TOKEN_TTL: Duration = Duration::from_secs(10 * 3_600);
/// Whose token it is.
const TOKEN_SUBJECT: &str = "demo";

/// A building as people see it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) anti_passback: AntiPassback,
    pub(super) max_occupancy: Option<usize>,
    /// In order of their names.
    pub(super) gates: Vec<GateKey>,
}

/// A gate and its turnstile's key.
#[derive(Clone)]
pub(super) struct GateKey {
    pub(super) id: String,
    pub(super) key: String,
}

/// Everything that there is before the daemon starts.
pub(super) struct Setting {
    dir: TempDir,
    pub(super) config_file: PathBuf,
    pub(super) config: Config,
    pub(super) places: Vec<Place>,
    /// Of someone with every role.
    pub(super) token: String,
}

impl std::fmt::Debug for GateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GateKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Setting {
    /// Makes the directory and everything in it.
    pub(super) fn make(employees: u32, listen: SocketAddr) -> Result<Self, CommandError> {
        let dir = tempfile::Builder::new().prefix("turnstiled-demo-").tempdir()?;
        let config_file = dir.path().join("routes.toml");
        fs::write(&config_file, site(employees, listen))?;
        let mut config = Config::load(&config_file)?;
        config.server.listen = listen;
        let data_dir = &config.server.data_dir;
        create_private_dir(data_dir)?;
        let places = add_keys(&config, now()?)?;
        let roles = ["hr", "auditor", "security", "admin"];
        let grants = roles.into_iter().map(str::parse).collect::<Result<Vec<Grant>, _>>()?;
        let issuer = LocalIssuer::open(data_dir, &config.server.id)?;
        let token = issuer.issue(TOKEN_SUBJECT, &grants, TOKEN_TTL)?;
        Ok(Self { dir, config_file, places, token, config })
    }

    /// Where everything is.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// From now on the directory stays: people want to look at the files.
    pub(super) fn keep(&mut self) {
        self.dir.disable_cleanup(true);
    }

    /// Where a sink of the site writes.
    pub(super) fn sink_dir(&self, sink: &str) -> PathBuf {
        self.config.server.data_dir.join("sinks").join(sink)
    }
}

/// The wall clock.
pub(super) fn now() -> Result<Timestamp, CommandError> {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    Ok(Timestamp::from_millis(i64::try_from(millis)?))
}

/// The file that is written, so that `turnstiled run --config` of it serves the same site again.
fn site(employees: u32, listen: SocketAddr) -> String {
    let people = (employees * ANNEX_OCCUPANCY_PERCENT / 100).max(1);
    let site = SITE.replace(OCCUPANCY, &format!("max_occupancy = {people} "));
    if listen.port() == 0 {
        return site;
    }
    let site = site.replace(LISTEN, &listen.to_string());
    if !is_exposed(listen) {
        return site;
    }
    let site = site.replacen("[server]\n", "[server]\nallow_plain_http = true\n", 1);
    site.replacen("[auth]\n", "[auth]\nallow_local_issuer = true\n", 1)
}

fn add_keys(config: &Config, now: Timestamp) -> Result<Vec<Place>, CommandError> {
    let mut places = Vec::new();
    for building in &config.buildings {
        let rules = &building.rules;
        let mut ids: Vec<_> = rules.gates.iter().collect();
        ids.sort_unstable_by_key(|gate| gate.as_str());
        let mut gates = Vec::new();
        for gate in ids {
            let (building, only, name) = (rules.building.clone(), Some(gate.clone()), "demo".to_owned());
            let key =
                device_keys::add(&config.auth.devices, building, only, DeviceKind::Gate, Some(name), now)?;
            gates.push(GateKey { id: gate.to_string(), key });
        }
        let id = rules.building.to_string();
        let (anti_passback, max_occupancy) = (rules.anti_passback, rules.max_occupancy);
        places.push(Place { id, anti_passback, max_occupancy, gates });
    }
    Ok(places)
}

/// Whether a directory is on a file system in memory, where a sync costs nothing and proves nothing.
pub(super) fn is_in_memory(dir: &Path) -> bool {
    let Ok(dir) = dir.canonicalize() else { return false };
    // Linux only; elsewhere there is nothing to read and nothing is said.
    let Ok(mounts) = fs::read_to_string("/proc/mounts") else { return false };
    matches!(file_system(&mounts, &dir), Some("tmpfs" | "ramfs"))
}

/// The type of the file system that holds `dir`: of the longest mount point on its path, the last one if
/// several are there.
fn file_system<'m>(mounts: &'m str, dir: &Path) -> Option<&'m str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        words.next().zip(words.next())
    });
    let holding = mounts.filter(|(point, _)| dir.starts_with(point));
    holding.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_is_a_valid_configuration() {
        let file = Path::new("routes.toml");
        let text = site(2_000, "127.0.0.1:9123".parse().unwrap());
        let config = Config::parse(&text, file, &|_| None).unwrap();
        assert_eq!(config.warnings, []);
        assert_eq!(config.server.listen.port(), 9_123);
        assert_eq!(config.buildings[HQ].rules.building.as_str(), "hq");
        assert_eq!(config.buildings[ANNEX].rules.max_occupancy, Some(280));
        let text = site(2_000, "10.1.2.3:9123".parse().unwrap());
        assert!(Config::parse(&text, file, &|_| None).is_ok());
        assert!(site(50, "127.0.0.1:0".parse().unwrap()).contains(LISTEN));
    }

    #[test]
    fn the_longest_mount_point_counts() {
        let mounts = "/dev/sda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/sdb /tmp/disk xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/a")), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/tmp/disk/a")), Some("xfs"));
        assert_eq!(file_system(mounts, Path::new("/tmpfile")), Some("ext4"));
        assert_eq!(file_system("", Path::new("/tmp")), None);
    }
}
