//! `turnstiled demo`: the whole job by one command, nothing needed, nothing left behind.

use crate::daemon::Site;

#[tokio::test]
async fn the_demo_does_the_whole_job() {
    let site = Site::with_files();
    // an empty directory: the demo needs no configuration
    std::fs::remove_file(site.path("routes.toml")).unwrap();
    let output = site.run(&["demo", "--for", "2s", "--employees", "50"]);
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for word in ["granted", "denied", "anti_passback", "p50", "p99", "archive"] {
        assert!(stdout.contains(word), "{word} is not in the summary: {stdout}\n{stderr}");
    }
    assert!(!site.path("data").exists(), "it works in a directory of its own");
}
