//! What systemd hears of the real process: `Type=notify` and the watchdog.

use std::{io::ErrorKind, os::unix::net::UnixDatagram, time::Duration};

use serde_json::json;

use crate::{
    cut_fs::CutFs,
    daemon::{FILE_SINK, Site, TWO_BUILDINGS},
    wait,
};

const WATCHDOG_LIMIT_MICROS: u32 = 300_000;
/// So long systemd would not wait.
const SILENCE: Duration = Duration::from_micros(5 * WATCHDOG_LIMIT_MICROS as u64);
/// Signs that are told before what stops them has come to the log, and more.
const MAX_SIGNS: usize = 100;

/// systemd's end of NOTIFY_SOCKET.
struct Manager(UnixDatagram);

impl Manager {
    fn at(site: &Site) -> Self {
        let socket = UnixDatagram::bind(site.path("notify")).unwrap();
        socket.set_read_timeout(Some(wait::LIMIT)).unwrap();
        Self(socket)
    }

    fn hears(&self) -> String {
        let mut buffer = [0; 4_096];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end().to_owned()
    }

    fn hears_until(&self, word: &str) {
        while self.hears() != word {}
    }
}

impl Manager {
    /// Whether systemd would have ended the process by now.
    fn is_past_the_limit(&self) -> bool {
        self.0.set_read_timeout(Some(SILENCE)).unwrap();
        let is_silent = (0..MAX_SIGNS).any(|_| match self.0.recv(&mut [0; 64]) {
            Ok(_) => false,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock) || panic!("{error}"),
        });
        self.0.set_read_timeout(Some(wait::LIMIT)).unwrap();
        is_silent
    }
}

fn site() -> Site {
    let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}"));
    let socket = site.path("notify").display().to_string();
    site.with_variable("NOTIFY_SOCKET", socket)
}

#[test]
fn systemd_hears_that_it_is_ready_alive_and_stopping() {
    let site = site().with_variable("WATCHDOG_USEC", WATCHDOG_LIMIT_MICROS.to_string());
    let manager = Manager::at(&site);
    let daemon = site.start();
    assert_eq!(manager.hears(), "READY=1", "first of all, once it listens");
    for _ in 0..3 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }
    daemon.signal("HUP");
    manager.hears_until("WATCHDOG=1");
    daemon.signal("TERM");
    manager.hears_until("STOPPING=1");
    assert_eq!(daemon.stop().0.code(), Some(0));
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let site = site()
        .with_variable("WATCHDOG_USEC", WATCHDOG_LIMIT_MICROS.to_string())
        .with_variable("WATCHDOG_PID", "1".to_owned());
    let manager = Manager::at(&site);
    let daemon = site.start();
    assert_eq!(manager.hears(), "READY=1");
    daemon.signal("TERM");
    assert_eq!(manager.hears(), "STOPPING=1");
    drop(daemon);
}

#[tokio::test]
async fn the_watchdog_is_not_fed_while_the_disk_hangs() {
    let config = TWO_BUILDINGS.replace("\"data", "\"disk/data");
    let site = Site::new(&format!("{config}{FILE_SINK}"));
    std::fs::create_dir(site.path("disk")).unwrap();
    let Some(disk) = CutFs::mount(&site.path("disk")) else { return };
    let socket = site.path("notify").display().to_string();
    let site = site
        .with_variable("NOTIFY_SOCKET", socket)
        .with_variable("WATCHDOG_USEC", WATCHDOG_LIMIT_MICROS.to_string());
    let manager = Manager::at(&site);
    let key = site.key("hq");
    let daemon = site.start();
    let gate = daemon.device(&key);
    manager.hears_until("WATCHDOG=1");
    let hung = disk.hang();
    let exit = async {
        gate.post("/v1/buildings/hq/exits", &json!({ "card_id": "C1", "gate_id": "north-1" })).await
    };
    let silence = tokio::task::spawn_blocking(move || (manager.is_past_the_limit(), manager));
    let watched = async {
        let (is_silent, manager) = silence.await.unwrap();
        drop(hung);
        assert!(is_silent, "it is fed by a server that can record nothing");
        manager
    };
    let (answer, manager) = tokio::join!(exit, watched);
    answer.expect(202);
    manager.hears_until("WATCHDOG=1");
    assert_eq!(daemon.stop().0.code(), Some(0));
}
