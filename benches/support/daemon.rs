//! The real daemon as a child, with one building, keys and cards.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{client::Client, scratch};

/// Cards that are registered; requests go round them.
pub(crate) const CARDS: usize = 1_000;

/// The lines of a sink that writes files.
pub(crate) const FILE_SINK: &str = "type = \"file\"\ndir = \"sink\"\n";

/// The name of the server in its configuration, and so in its log.
pub(crate) const SERVER: &str = "bench";

/// The daemon that is wanted: building `hq` with gate `g`, everything else as shipped.
pub(crate) struct Setup<'a> {
    pub(crate) store: &'a str,
    /// The lines of the sink for everything, or nothing.
    pub(crate) sink: &'a str,
    /// The section of that name with its head, or nothing.
    pub(crate) telemetry: &'a str,
    pub(crate) anti_passback: &'a str,
    /// Its own beside its configuration if there is none here.
    pub(crate) data_dir: Option<PathBuf>,
}

/// A running daemon; killed when dropped, its configuration and its own data directory removed.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: SocketAddr,
    /// From the start of the process to the line that says where it listens: the state is rebuilt by then.
    pub(crate) starting: Duration,
    key: String,
    token: String,
    _dir: TempDir,
}

impl Daemon {
    /// Starts a daemon that grants every entry of [`CARDS`] cards.
    pub(crate) fn start(store: &str, with_sink: bool) -> Self {
        let sink = if with_sink { FILE_SINK } else { "" };
        let daemon =
            Self::launch(&Setup { store, sink, telemetry: "", anti_passback: "off", data_dir: None });
        daemon.register(CARDS);
        daemon
    }

    /// Starts a daemon on what its data directory has.
    pub(crate) fn launch(setup: &Setup<'_>) -> Self {
        let dir = scratch();
        let config = dir.path().join("routes.toml");
        fs::write(&config, routes_toml(setup)).unwrap();
        let program = env!("CARGO_BIN_EXE_turnstiled");
        let say = |arguments: &[&str]| {
            let output = Command::new(program).args(arguments).arg("--config").arg(&config).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let key = say(&["keys", "add", "--building", "hq"]);
        let token = say(&["token", "--role", "hr"]);
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(["run", "--log-format", "json", "--config"])
            .arg(&config)
            // for a sink that signs what it sends
            .envs([("AWS_ACCESS_KEY_ID", "bench"), ("AWS_SECRET_ACCESS_KEY", "bench")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let address = listening(&mut child);
        Self { child, address, starting: begun.elapsed(), key, token, _dir: dir }
    }

    /// Makes cards `C0`, `C1` and so on, of employees `E0`, `E1` and so on.
    pub(crate) fn register(&self, cards: usize) {
        let mut office = Client::connect(self.address, &format!("Authorization: Bearer {}\r\n", self.token));
        for card in 0..cards {
            let (status, _) = office.request(
                "PUT",
                &format!("/v1/cards/C{card}"),
                &format!("{{\"employee_id\":\"E{card}\"}}"),
            );
            assert_eq!(status, 201);
        }
    }

    /// The header by which a turnstile is known, ended by `\r\n`.
    pub(crate) fn device_header(&self) -> String {
        format!("X-Api-Key: {}\r\n", self.key)
    }

    /// A turnstile's connection.
    pub(crate) fn turnstile(&self) -> Client {
        Client::connect(self.address, &self.device_header())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The value of the first line of `/metrics` that begins with `name`.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let mut client = Client::connect(self.address, "");
        let (_, text) = client.request("GET", "/metrics", "");
        let text = std::str::from_utf8(text).unwrap();
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// A field of `/proc/<pid>/status` that is given in kB, in bytes.
    pub(crate) fn memory_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

fn routes_toml(setup: &Setup<'_>) -> String {
    let Setup { store, sink, telemetry, anti_passback, data_dir } = setup;
    let data_dir = data_dir.as_ref().map_or("data".into(), |dir| dir.display().to_string());
    let (to, sink) =
        if sink.is_empty() { ("[]", String::new()) } else { ("[\"all\"]", format!("[sinks.all]\n{sink}")) };
    format!(
        "[server]\nid = \"{SERVER}\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{data_dir}\"\n\
         [wal]\nstore = \"{store}\"\n[auth]\njwt = {{ local = true }}\n\
         [[buildings]]\nid = \"hq\"\nanti_passback = \"{anti_passback}\"\ngates = [{{ id = \"g\" }}]\n{sink}{telemetry}\
         [[routes]]\nname = \"all\"\ntypes = [\"**\"]\nto = {to}\n"
    )
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
