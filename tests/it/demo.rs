//! `turnstiled demo`: the whole job by one command, nothing needed; what it says and leaves is true.

use std::path::PathBuf;

use serde_json::Value;

use crate::daemon::{Site, assert_gapless, events};

#[tokio::test]
async fn the_demo_does_the_whole_job() {
    let site = Site::with_files();
    // an empty directory: the demo needs no configuration
    std::fs::remove_file(site.path("routes.toml")).unwrap();
    let mut demo = site.command(&["demo", "--for", "2s", "--employees", "50"]);
    let output = demo.env("TMPDIR", site.path("")).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    for word in ["granted", "denied", "anti_passback", "p50", "p99", "archive", "no mismatch"] {
        assert!(stdout.contains(word), "{word} is not in the summary: {stdout}");
    }

    // the one thing that is left is what the summary names, and it is whole
    let left: Vec<PathBuf> =
        std::fs::read_dir(site.path("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [dir] = left.as_slice() else { panic!("{left:?}: {stdout}") };
    assert!(stdout.contains(&dir.display().to_string()), "{stdout}");
    let config = dir.join("routes.toml").display().to_string();
    site.run_well(&["wal", "verify", "--config", &config]);
    let log: Vec<Value> = events(site.run_well(&["wal", "dump", "--config", &config]).lines());
    assert_gapless(&log);
    let archive = dir.join("data/sinks/archive").display().to_string();
    let archived = site.files(&archive);
    assert_eq!(archived.len(), log.len());
    assert_gapless(&archived);
}
