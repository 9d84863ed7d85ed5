//! PostgreSQL as a peer: one function call is one transaction, synced before its answer.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    pg_wire,
    server::{Server, free_address},
    support::{
        first_line,
        load::{Crew, Request, Script},
        swipes::MakeRequest,
    },
};

const SCHEMA: &str = include_str!("decide.sql");

/// Where Debian and its children keep the servers, one directory a version.
const DEBIAN_DIR: &str = "/usr/lib/postgresql";

/// PostgreSQL refuses to run as root; then it runs as this user (nobody).
const UNPRIVILEGED_ID: u32 = 65_534;

/// A running PostgreSQL with the function and the cards.
pub(crate) struct Postgres {
    server: Server,
    pub(crate) version: String,
}

impl Postgres {
    /// # Errors
    /// Why there is none.
    pub(crate) fn start(dir: &Path, cards: usize) -> Result<Self, String> {
        let programs = programs()?;
        let version = first_line(Command::new(programs.join("postgres")).arg("--version"))?;
        let dir = dir.join("postgres");
        fs::create_dir(&dir).map_err(|error| error.to_string())?;
        let is_root = fs::metadata("/proc/self").map_err(|error| error.to_string())?.uid() == 0;
        if is_root {
            chown(&dir, Some(UNPRIVILEGED_ID), Some(UNPRIVILEGED_ID)).map_err(|error| error.to_string())?;
        }
        let program = |name: &str| {
            let mut command = if is_root {
                let mut command = Command::new("setpriv");
                let id = UNPRIVILEGED_ID.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
                command.arg(programs.join(name));
                command
            } else {
                Command::new(programs.join(name))
            };
            command.current_dir(&dir);
            command
        };
        let data = dir.join("data");
        first_line(
            program("initdb")
                .args(["--auth=trust", "--username=bench", "--encoding=UTF8", "--no-locale"])
                .arg("--pgdata")
                .arg(&data),
        )?;
        let address = free_address();
        let mut command = program("postgres");
        command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &address.port().to_string()]);
        // Everything as shipped; no socket file, because its usual directory is not this user's.
        command.args(["-c", "unix_socket_directories=", "-c", "synchronous_commit=on", "-c", "fsync=on"]);
        let does_answer = |address| pg_wire::execute(address, "select 1").is_ok();
        let server = Server::start(&mut command, address, "-INT", &dir.join("output"), does_answer)?;
        let postgres = Self { server, version };
        postgres.execute(SCHEMA)?;
        postgres.execute(&format!(
            "insert into cards select 'C' || n, 'E' || n, 'active' from generate_series(0, {}) as n; analyze cards",
            cards - 1
        ))?;
        Ok(postgres)
    }

    /// Runs some SQL on a connection of its own.
    ///
    /// # Errors
    /// What the server says.
    pub(crate) fn execute(&self, sql: &str) -> Result<(), String> {
        pg_wire::execute(self.server.address, sql)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub(crate) fn crew(&self, scripts: impl FnOnce(MakeRequest<'_>) -> Vec<Script>) -> Crew {
        let make = |is_entry: bool, card: usize| {
            let (flag, answer) = if is_entry { ("t", "granted") } else { ("f", "recorded") };
            Request {
                bytes: pg_wire::call(&[flag, "hq", "g", &format!("C{card}")]),
                expects: pg_wire::one_value(answer),
                is_timed: is_entry,
                swipes: 1,
            }
        };
        Crew { address: self.server.address, protocol: pg_wire::PROTOCOL, scripts: scripts(&make) }
    }
}

/// The directory of the newest version's programs.
fn programs() -> Result<PathBuf, String> {
    let mut versions: Vec<(u32, PathBuf)> = (fs::read_dir(DEBIAN_DIR).into_iter().flatten().flatten())
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs)| programs.join("postgres").exists() && programs.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop().map(|(_, programs)| programs).ok_or_else(|| format!("no server below {DEBIAN_DIR}"))
}
