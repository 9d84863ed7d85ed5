//! The real daemon as a child, with one building, keys and cards.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

use tempfile::TempDir;

use super::{client::Client, scratch};

/// Cards that are registered; requests go round them.
pub(crate) const CARDS: usize = 1_000;

/// A running daemon; killed when dropped, its directory removed.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: SocketAddr,
    key: String,
    _dir: TempDir,
}

impl Daemon {
    /// Starts a daemon that grants every entry; with a `file` sink for everything, or with none.
    pub(crate) fn start(store: &str, with_sink: bool) -> Self {
        let dir = scratch();
        let sink = if with_sink { "[sinks.all]\ntype = \"file\"\ndir = \"sink\"\n" } else { "" };
        let to = if with_sink { "[\"all\"]" } else { "[]" };
        let config = dir.path().join("routes.toml");
        let text = format!(
            "[server]\nid = \"bench\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"data\"\n[wal]\nstore = \"{store}\"\n[auth]\njwt = {{ local = true }}\n\
             [[buildings]]\nid = \"hq\"\nanti_passback = \"off\"\ngates = [{{ id = \"g\" }}]\n{sink}\
             [[routes]]\nname = \"all\"\ntypes = [\"**\"]\nto = {to}\n"
        );
        std::fs::write(&config, text).unwrap();
        let program = env!("CARGO_BIN_EXE_turnstiled");
        let say = |arguments: &[&str]| {
            let output = Command::new(program).args(arguments).arg("--config").arg(&config).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let key = say(&["keys", "add", "--building", "hq"]);
        let token = say(&["token", "--role", "hr"]);
        let mut child = Command::new(program)
            .args(["run", "--log-format", "json", "--config"])
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = listening(&mut child);
        let daemon = Self { child, address, key, _dir: dir };
        let mut office = Client::connect(address, &format!("Authorization: Bearer {token}\r\n"));
        for card in 0..CARDS {
            let (status, _) = office.request(
                "PUT",
                &format!("/v1/cards/C{card}"),
                &format!("{{\"employee_id\":\"E{card}\"}}"),
            );
            assert_eq!(status, 201);
        }
        daemon
    }

    /// A turnstile's connection.
    pub(crate) fn turnstile(&self) -> Client {
        Client::connect(self.address, &format!("X-Api-Key: {}\r\n", self.key))
    }
}

/// The address in the line that says so; the rest of the log is read and thrown away.
fn listening(child: &mut Child) -> SocketAddr {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.by_ref().find_map(|line| {
        let line = line.unwrap();
        let (_, rest) = line.split_once("\"address\":\"")?;
        rest.split('"').next()?.parse().ok()
    });
    thread::spawn(move || lines.for_each(drop));
    address.expect("the daemon says where it listens")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
