//! The devices that are measured: each has a keep-alive connection and employees of its own, who enter and leave at an even
//! pace, faster than any gate turns.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    client::Client,
    daemon::Daemon,
    measure::{Measured, Tally, Window},
};

/// Devices, each with a connection and a thread.
pub(crate) const DEVICES: usize = 8;
/// From one swipe of a device to the next.
pub(crate) const EVERY: Duration = Duration::from_millis(10);
const CARDS_OF_A_DEVICE: usize = 20;

pub(crate) struct Devices([Device; DEVICES]);

/// One turnstile. A run goes on where the one before it stopped, so that whoever entered leaves.
struct Device {
    first_card: usize,
    swipes: usize,
}

impl Devices {
    /// Of a daemon that knows no cards yet.
    pub(crate) fn of(daemon: &Daemon) -> Self {
        daemon.register(DEVICES * CARDS_OF_A_DEVICE);
        Self(std::array::from_fn(|device| Device { first_card: device * CARDS_OF_A_DEVICE, swipes: 0 }))
    }

    /// Connects all, and lets them work until the window is over.
    pub(crate) fn run(&mut self, daemon: &Daemon, window: Window) -> Measured {
        let begun = Instant::now();
        let tallies = thread::scope(|scope| {
            let mut threads = Vec::new();
            for (index, device) in self.0.iter_mut().enumerate() {
                let first = begun + EVERY.mul_f64(index as f64 / DEVICES as f64);
                let client = daemon.turnstile();
                threads.push(scope.spawn(move || device.work(client, first, window)));
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let mut all = Tally::default();
        tallies.iter().for_each(|tally| all.add(tally));
        all.measured(window)
    }
}

impl Device {
    /// At a pace; what a slow answer keeps from being sent in time is not made up for, but counted.
    fn work(&mut self, mut client: Client, first: Instant, window: Window) -> Tally {
        let mut tally = Tally::default();
        let mut due = first;
        loop {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            self.swipe(&mut client);
            if !tally.count_at_pace(EVERY, sent, window) {
                return tally;
            }
            due = (due + EVERY).max(Instant::now());
        }
    }

    fn swipe(&mut self, client: &mut Client) {
        let is_entry = self.swipes.is_multiple_of(2);
        let card = self.first_card + self.swipes / 2 % CARDS_OF_A_DEVICE;
        self.swipes += 1;
        let (path, expects) = if is_entry {
            ("/v1/buildings/hq/entries", &b"{\"decision\":\"granted\""[..])
        } else {
            ("/v1/buildings/hq/exits", &b"{\"event_id\""[..])
        };
        let body = format!("{{\"card_id\":\"C{card}\",\"gate_id\":\"g\"}}");
        let (status, answer) = client.request("POST", path, &body);
        assert!(
            (200..300).contains(&status) && answer.starts_with(expects),
            "{body} to {path}: {status} {}",
            String::from_utf8_lossy(answer)
        );
    }
}
