//! The AWS emulator as a child of the test.

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use turnstiled::sinks::aws;

/// How long the emulator may take to answer for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is asked until then.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Another process may take the free port before the emulator does.
const MAX_STARTS: usize = 5;

/// A running emulator; killed when dropped.
pub(crate) struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    /// Starts an emulator on a free port; `None`, with a word about it, if none is installed.
    pub(crate) fn start() -> Option<Self> {
        let program = program()?;
        (0..MAX_STARTS)
            .find_map(|_| Self::try_start(&program))
            .or_else(|| panic!("{program:?} does not start"))
    }

    fn try_start(program: &Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?}: {error}"));
        let mut moto = Self { child, port };
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if moto.child.try_wait().unwrap().is_some() {
                return None;
            }
            if moto.answers() && moto.child_owns_port() {
                return Some(moto);
            }
            thread::sleep(POLL_INTERVAL);
        }
        None
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut status = [0; 12];
        stream.write_all(b"GET /moto-api/data.json HTTP/1.0\r\n\r\n").is_ok()
            && stream.read_exact(&mut status).is_ok()
            && status.ends_with(b"200")
    }

    /// Whether the listening socket of the port is one of the child's, by the kernel's own tables.
    fn child_owns_port(&self) -> bool {
        let Some(inode) = listening_inode(self.port) else { return false };
        let socket = PathBuf::from(format!("socket:[{inode}]"));
        let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", self.child.id())) else { return false };
        descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == socket))
    }

    /// Where it listens.
    pub(crate) fn endpoint_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// An SDK configuration for it.
    pub(crate) fn sdk_config(&self) -> SdkConfig {
        sdk_config(&self.endpoint_url())
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // it may have ended by itself; either way it is to be reaped
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The production settings with an endpoint and credentials of the test's own.
pub(crate) fn sdk_config(endpoint_url: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(endpoint_url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(aws::http_client())
        .retry_config(RetryConfig::disabled())
        .timeout_config(aws::timeouts())
        .build()
}

fn program() -> Option<PathBuf> {
    if let Some(named) = env::var_os("MOTO_SERVER") {
        return Some(named.into());
    }
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server");
    if default.exists() {
        return Some(default);
    }
    eprintln!("skipped: no {}, and MOTO_SERVER is not set", default.display());
    None
}

/// Columns of `/proc/net/tcp`: local address, state and inode.
fn listening_inode(port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let local = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let listens = columns.get(1)?.ends_with(&local) && *columns.get(3)? == LISTEN;
        listens.then(|| columns.get(9).map(ToString::to_string)).flatten()
    })
}
