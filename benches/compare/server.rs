//! Other programs as children: found, started on a free port, stopped.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::rest;

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A child that ends when dropped.
pub(crate) struct Server {
    child: Child,
    /// The signal that makes it clean up after itself.
    stop_signal: &'static str,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a program that is to listen on `address`, with what it says in `log`; waits until it answers.
    pub(crate) fn start(
        command: &mut Command,
        address: SocketAddr,
        stop_signal: &'static str,
        log: &Path,
        does_answer: impl Fn(SocketAddr) -> bool,
    ) -> Result<Self, String> {
        let output = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let mut server = Self { child, stop_signal, address };
        let begun = Instant::now();
        while !does_answer(address) {
            let ended = server.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || begun.elapsed() > START_TIMEOUT {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                return Err(format!("it does not answer ({ended:?}); it said: {said}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that rests would not hear it.
        rest::go_on(self.pid());
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([self.stop_signal, &pid]).status();
        if !sent.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A port of loopback that nobody listens on.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
