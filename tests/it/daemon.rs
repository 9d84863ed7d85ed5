//! The real binary as a process of its own: a [`Site`] is its configuration and data on disk, a [`Daemon`]
//! one run of it.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use turnstiled::{
    domain::{ids::BuildingId, time::Timestamp},
    http::auth::device_keys::{DeviceKind, add},
};

use crate::{http::Caller, moto::Moto, wait};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_turnstiled");
/// What of the environment would lead the daemon elsewhere.
const FOREIGN_VARIABLES: [&str; 9] = [
    "RUST_LOG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
];
/// How long a start may take until it listens or gives up.
const START_LIMIT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Where the configurations here have devices' keys.
const DEVICES_FILE: &str = "data/devices.toml";

/// The head of every configuration here: a port of the system's choice, two buildings.
pub(crate) const TWO_BUILDINGS: &str = r#"
[server]
id = "hq-1"
listen = "127.0.0.1:0"
data_dir = "data"

[auth]
devices = "data/devices.toml"
jwt = { local = true }

[[buildings]]
id = "hq"
anti_passback = "hard"
gates = [{ id = "north-1" }, { id = "north-2" }]

[[buildings]]
id = "annex"
anti_passback = "soft"
gates = [{ id = "main" }]
"#;

/// Everything into files.
pub(crate) const FILE_SINK: &str = r#"
[sinks.files]
type = "file"
dir = "sinks/files"

[[routes]]
name = "files"
types = ["**"]
to = ["files"]
"#;

/// A server's place on disk.
pub(crate) struct Site {
    dir: TempDir,
    environment: Vec<(&'static str, String)>,
    /// How long the daemon's files may grow, in the shell's blocks.
    file_limit_blocks: Option<u64>,
    /// Made ahead, by building; `None` before the first start.
    keys: Mutex<Option<HashMap<String, String>>>,
    /// Those of [`Site::same_key`], by building.
    same_keys: Mutex<HashMap<String, String>>,
}

impl Site {
    /// With this `routes.toml`.
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (keys, same_keys) = (Mutex::default(), Mutex::default());
        let site = Self { dir, environment: Vec::new(), file_limit_blocks: None, keys, same_keys };
        site.configure(config);
        site
    }

    /// Two buildings, everything into files.
    pub(crate) fn with_files() -> Self {
        Self::new(&format!("{TWO_BUILDINGS}{FILE_SINK}"))
    }

    /// The same with the log in this store.
    pub(crate) fn with_files_and_store(store: &str) -> Self {
        Self::new(&format!("[wal]\nstore = \"{store}\"\n{TWO_BUILDINGS}{FILE_SINK}"))
    }

    /// Sends what is for AWS to this endpoint instead.
    pub(crate) fn with_aws_at(mut self, endpoint_url: String) -> Self {
        self.environment = vec![
            ("AWS_ENDPOINT_URL", endpoint_url),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "testing".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "testing".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ];
        self
    }

    /// Adds a variable to the environment of its commands.
    pub(crate) fn with_variable(mut self, name: &'static str, value: String) -> Self {
        self.environment.push((name, value));
        self
    }

    pub(crate) fn with_aws(self, moto: &Moto) -> Self {
        self.with_aws_at(moto.endpoint_url())
    }

    /// Lets no file of the daemon's grow beyond this, as if the disk were full; `None` lifts it.
    pub(crate) fn limit_files(&mut self, blocks: Option<u64>) {
        self.file_limit_blocks = blocks;
    }

    /// Writes another `routes.toml`.
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.path("routes.toml"), config).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of the program, to be run in the site's directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.prepare(Command::new(PROGRAM), arguments)
    }

    /// The same, within the limit of the daemon's files.
    fn daemon_command(&self, arguments: &[&str]) -> Command {
        let Some(blocks) = self.file_limit_blocks else { return self.command(arguments) };
        let mut shell = Command::new("sh");
        // with the signal ignored a write beyond the limit fails as on a full disk
        let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        shell.args(["-c", &line, PROGRAM]);
        self.prepare(shell, arguments)
    }

    fn prepare(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null());
        FOREIGN_VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that has to succeed; what it prints.
    #[track_caller]
    pub(crate) fn run_well(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A key for every gate of a building. The first one for each building is made before the daemon starts, and the log
    /// is taken to tell of it already: most tests count events. `keys.rs` has the tests of `admin.keys`.
    pub(crate) fn key(&self, building: &str) -> String {
        let ahead = self.keys.lock().unwrap().as_mut().and_then(|keys| keys.remove(building));
        ahead.unwrap_or_else(|| {
            let key = self.run_well(&["keys", "add", "--building", building]).trim().to_owned();
            self.take_as_recorded(building, &key);
            key
        })
    }

    /// A key that is the same at each call: the log tells of no second one.
    pub(crate) fn same_key(&self, building: &str) -> String {
        let mut keys = self.same_keys.lock().unwrap();
        keys.entry(building.to_owned()).or_insert_with(|| self.key(building)).clone()
    }

    /// Once, before the first start; a configuration or a devices file that cannot be read has none.
    fn make_keys_ahead(&self) {
        let mut keys = self.keys.lock().unwrap();
        if keys.is_some() {
            return;
        }
        let made = keys.insert(HashMap::new());
        let text = std::fs::read_to_string(self.path("routes.toml")).unwrap_or_default();
        let Ok(config) = text.parse::<toml::Table>() else { return };
        let devices = config.get("auth").and_then(|auth| auth.get("devices")?.as_str());
        let buildings = config.get("buildings").and_then(toml::Value::as_array);
        let (Some(DEVICES_FILE), Some(buildings)) = (devices, buildings) else { return };
        for id in buildings.iter().filter_map(|building| building.get("id")?.as_str()) {
            let Ok(building) = BuildingId::parse(id) else { return };
            let (file, now) = (self.path(DEVICES_FILE), Timestamp::from_millis(0));
            let Ok(key) = add(&file, building, None, DeviceKind::Gate, None, now) else { return };
            self.take_as_recorded(id, &key);
            made.insert(id.to_owned(), key);
        }
    }

    fn take_as_recorded(&self, building: &str, key: &str) {
        let config = std::fs::read_to_string(self.path("routes.toml")).unwrap();
        let Ok(config) = config.parse::<toml::Table>() else { return };
        let data_dir = config["server"].get("data_dir").and_then(toml::Value::as_str).unwrap_or("data");
        let file = self.path(data_dir).join("keys-recorded.json");
        let id = key.split_once('.').unwrap().0;
        let recorded = std::fs::read_to_string(&file).unwrap_or_else(|_| "{}".to_owned());
        let mut recorded: Value = serde_json::from_str(&recorded).unwrap_or_else(|_| json!({}));
        recorded[id] = json!({ "id": id, "building": building, "kind": "gate" });
        std::fs::write(file, recorded.to_string()).unwrap();
    }

    /// A token, such as for `hr,security@hq`.
    pub(crate) fn token(&self, roles: &str) -> String {
        self.run_well(&["token", "--role", roles, "--subject", "ada"]).trim().to_owned()
    }

    /// The events in the log of the stopped daemon.
    pub(crate) fn dump(&self) -> Vec<Value> {
        events(self.run_well(&["wal", "dump"]).lines())
    }

    /// The events in the files of a `file` sink, in the order of the files' names.
    pub(crate) fn files(&self, dir: &str) -> Vec<Value> {
        events(self.file_lines(dir).iter().map(String::as_str))
    }

    pub(crate) fn file_lines(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(dir)) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let texts = paths.iter().map(|path| std::fs::read_to_string(path).unwrap());
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Starts the daemon; returns when it listens.
    #[track_caller]
    pub(crate) fn start(&self) -> Daemon {
        match self.try_start() {
            Ok(daemon) => daemon,
            Err(refused) => panic!("the daemon ended with {}: {}", refused.status, refused.stderr),
        }
    }

    /// Starts the daemon, or says how it ended instead. Panics if it does neither.
    #[track_caller]
    pub(crate) fn try_start(&self) -> Result<Daemon, Refused> {
        self.try_start_unless(|| false).map(|daemon| daemon.unwrap())
    }

    /// The same, but `None` and killed once the start is over for another reason.
    #[track_caller]
    pub(crate) fn try_start_unless(&self, is_over: impl Fn() -> bool) -> Result<Option<Daemon>, Refused> {
        self.make_keys_ahead();
        let config = self.path("routes.toml");
        let mut command = self.daemon_command(&["run", "--log-format", "json", "--config"]);
        let stdout = std::fs::File::create(self.path("stdout")).unwrap();
        let mut child = command.arg(&config).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (lines, listening) = (Arc::new(Mutex::new(String::new())), mpsc::channel());
        let reader = thread::spawn({
            let lines = Arc::clone(&lines);
            move || collect(BufReader::new(stderr), &lines, &listening.0)
        });
        let mut daemon = Daemon { child, base_url: String::new(), stderr: lines, reader: Some(reader) };
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match listening.1.recv_timeout(POLL_INTERVAL) {
                Ok(address) => {
                    daemon.base_url = format!("http://{address}");
                    return Ok(Some(daemon));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(daemon.into_refused()),
                Err(mpsc::RecvTimeoutError::Timeout) if is_over() => return Ok(None),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    assert!(Instant::now() < deadline, "the daemon neither listens nor ends");
                }
            }
        }
    }
}

/// A start that came to nothing.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    base_url: String,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Where it listens.
    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// A turnstile with this key.
    pub(crate) fn device(&self, key: &str) -> Caller {
        Caller::new(self.base_url.clone(), Some(("X-Api-Key", key.to_owned())))
    }

    /// A person with this token.
    pub(crate) fn person(&self, token: &str) -> Caller {
        Caller::new(self.base_url.clone(), Some(("Authorization", format!("Bearer {token}"))))
    }

    /// Where it answers admins only.
    pub(crate) fn admin_url(&self) -> String {
        let lines = events(self.stderr().lines().filter(|line| line.contains("\"admin_address\"")));
        format!("http://{}", lines[0]["admin_address"].as_str().unwrap())
    }

    /// A person with this token, there.
    pub(crate) fn admin(&self, token: &str) -> Caller {
        Caller::new(self.admin_url(), Some(("Authorization", format!("Bearer {token}"))))
    }

    pub(crate) fn anyone(&self) -> Caller {
        Caller::new(self.base_url.clone(), None)
    }

    /// The most memory that it has had in RAM.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1_024
    }

    /// kill -9; returns when the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        // a shell's own `kill`, because minimal systems have no other
        let line = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }

    /// SIGTERM; the exit status and everything that was logged.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = self.wait();
        (status, self.stderr())
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Until it has ended; its exit status.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let ended = wait_for_exit(&mut self.child, wait::LIMIT);
        let status = ended.unwrap_or_else(|| panic!("the daemon does not stop"));
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }

    /// What it has logged so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    fn into_refused(mut self) -> Refused {
        let status = self.child.wait().unwrap();
        Refused { status, stderr: self.stderr() }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // it may have ended by itself; either way it is to be reaped
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if thread::panicking() {
            eprintln!("the daemon's stderr:\n{}", self.stderr());
        }
    }
}

/// `None` if the process goes on for longer than `limit`.
fn wait_for_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait().unwrap() {
            None if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
            ended => return ended,
        }
    }
}

/// Keeps every line, and tells the address of the line that says where the daemon listens.
fn collect(stderr: impl BufRead, kept: &Mutex<String>, listening: &mpsc::Sender<String>) {
    for line in stderr.lines() {
        let Ok(line) = line else { return };
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let mut kept = kept.lock().unwrap();
        kept.push_str(&line);
        kept.push('\n');
        drop(kept);
        if event["message"] == "listening" {
            let _ = listening.send(event["address"].as_str().unwrap_or_default().to_owned());
        }
    }
}

/// One JSON object a line.
pub(crate) fn events<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Value> {
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The place of an event in its log.
pub(crate) fn sequence(event: &Value) -> u64 {
    event["sequence"].as_str().unwrap().parse().unwrap()
}

/// That these are all events from the first on, without a gap or a repeat.
#[track_caller]
pub(crate) fn assert_gapless(events: &[Value]) {
    let mut sequences: Vec<u64> = events.iter().map(sequence).collect();
    sequences.sort_unstable();
    let expected: Vec<u64> = (1..=events.len() as u64).collect();
    assert_eq!(sequences, expected);
}

/// Copies a directory of plain files and directories.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
