//! What systemd hears of the real process: `Type=notify` and the watchdog.

use std::os::unix::net::UnixDatagram;

use crate::{
    daemon::{FILE_SINK, Site, TWO_BUILDINGS},
    wait,
};

const WATCHDOG_LIMIT_MICROS: u32 = 300_000;

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
