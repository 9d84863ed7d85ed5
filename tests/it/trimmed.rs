//! A log that has lost its beginning, as it does when nothing needs that any more.

use serde_json::json;

use crate::{daemon::Daemon, http::Caller, wait::eventually};

/// The smallest segments, and nothing stays for the auditor.
pub(crate) const SHORT_LOG: &str =
    "[wal]\nmax_bytes = \"16MiB\"\nstore = \"segments\"\nretention = \"0s\"\nsnapshot_every = \"1s\"\n";
/// Batches of exits that fill more than one segment,
const BATCHES: usize = 6;
/// each of so many.
const BATCH: usize = 1_000;

/// Records exits until the log is trimmed. Each sink has to take them.
pub(crate) async fn lose_the_beginning(daemon: &Daemon, gate: &Caller) {
    let exit = json!({ "card_id": "C1", "gate_id": "north-1" });
    let exits = json!({ "exits": vec![exit.clone(); BATCH] });
    for _ in 0..BATCHES {
        gate.post("/v1/buildings/hq/exits/batch", &exits).await.expect(202);
    }
    eventually("the log is trimmed", async || {
        // there is no snapshot without anything new
        gate.post("/v1/buildings/hq/exits", &exit).await.expect(202);
        daemon.stderr().contains("the log is trimmed").then_some(())
    })
    .await;
}
