//! The commands: data on stdout, words on stderr, the exit code says how it went.

use std::{collections::HashSet, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use crate::{
    daemon::{Site, assert_gapless},
    sinks::settled,
};

/// What `deploy/routes.aws.toml` takes from the environment.
pub(crate) const DEPLOYMENT: [(&str, &str); 6] = [
    ("TURNSTILED_SERVER_ID", "hq-1"),
    ("TURNSTILED_TOPIC_ARN", "arn:aws:sns:eu-central-1:123456789012:internal"),
    ("TURNSTILED_STREAM", "exits"),
    ("TURNSTILED_BUCKET", "archive"),
    ("TURNSTILED_TABLE", "card-state"),
    (
        "TURNSTILED_DEAD_LETTER_QUEUE_URL",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/turnstiled-dead-letters",
    ),
];

#[tokio::test]
async fn the_repositorys_configuration_passes_its_own_checks() {
    let site = Site::with_files();
    for file in ["routes.toml", "deploy/routes.aws.toml"] {
        let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
        let run = |command: &str| {
            let output = site.command(&[command, "--config", &path]).envs(DEPLOYMENT).output().unwrap();
            assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let table = run("check");
        assert!(table.contains("access.entry.granted"), "{table}");
        let tests = run("test-routes");
        assert!(tests.trim_end().ends_with(" 0 failed"), "{tests}");
    }
    // without --config and without a file it is the embedded default
    std::fs::remove_file(site.path("routes.toml")).unwrap();
    assert!(site.run_well(&["check"]).starts_with("server hq-1: "));
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_told_nothing() {
    let site = Site::with_files();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = site.command(&["check"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[tokio::test]
async fn a_failed_route_test_fails() {
    let config = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/routes.toml")).unwrap();
    let site = Site::new(&config.replacen("to = [\"exits\", \"archive\"]", "to = [\"internal\"]", 1));
    let output = site.run(&["test-routes"]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.lines().any(|line| line.starts_with("FAIL")), "{stdout}");
}

#[tokio::test]
async fn keys_show_their_secret_once() {
    let site = Site::with_files();
    let arguments = ["keys", "add", "--building", "hq", "--gate", "north-1", "--name", "left of the door"];
    let key = site.run_well(&arguments);
    assert_eq!(key.lines().count(), 1, "the key alone: {key}");
    let (id, secret) = key.trim().split_once('.').unwrap();
    assert!(id.starts_with("k_") && secret.len() >= 43, "{key}");
    let second = site.key("annex");
    let list = site.run_well(&["keys", "list"]);
    let line = list.lines().find(|line| line.starts_with(id)).unwrap();
    for word in ["hq", "north-1", "gate", "left of the door"] {
        assert!(line.contains(word), "{line}");
    }
    let file = std::fs::read_to_string(site.path("data/devices.toml")).unwrap();
    for secret in [secret, second.split_once('.').unwrap().1] {
        assert!(!list.contains(secret) && !file.contains(secret), "only its hash is kept");
    }
    let mode = |name: &str| std::fs::metadata(site.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data"), mode("data/devices.toml")), (0o700, 0o600));

    site.run_well(&["keys", "revoke", id]);
    assert!(!site.run_well(&["keys", "list"]).contains(id));
    for arguments in [
        &["keys", "revoke", id][..],
        &["keys", "add", "--building", "nosuch"],
        &["keys", "add", "--building", "hq", "--gate", "nosuch"],
        &["keys", "add", "--building", "hq", "--gate", "north-1", "--kind", "panel"],
    ] {
        let output = site.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn many_keys_at_once_are_all_kept() {
    let site = Site::with_files();
    let adding: Vec<_> = (0..8)
        .map(|_| {
            let mut command = site.command(&["keys", "add", "--building", "hq"]);
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let keys: Vec<String> = (adding.into_iter())
        .map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
        .collect();
    let list = site.run_well(&["keys", "list"]);
    for key in keys {
        assert!(list.contains(key.split_once('.').unwrap().0), "{list}");
    }
}

#[tokio::test]
async fn a_token_is_alone_on_stdout() {
    let site = Site::with_files();
    let token = site.run_well(&["token", "--role", "hr,security@hq", "--subject", "ada", "--ttl", "2s"]);
    assert_eq!((token.lines().count(), token.trim().split('.').count()), (1, 3), "{token}");
    let unused = site.run(&["token", "--role", "hr", "--subject", "two words"]);
    assert_eq!((unused.status.code(), unused.stdout.is_empty()), (Some(1), true));
    let foreign = std::fs::read_to_string(site.path("routes.toml")).unwrap();
    site.configure(&foreign.replace("jwt = { local = true }\n", ""));
    let refused = site.run(&["token", "--role", "hr"]);
    assert_eq!((refused.status.code(), refused.stdout.is_empty()), (Some(1), true));
}

#[tokio::test]
async fn the_log_can_be_looked_at() {
    const EXITS: usize = 120;
    let site = Site::with_files();
    for arguments in [["wal", "stat"], ["wal", "dump"], ["wal", "verify"]] {
        let output = site.run(&arguments);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(1), true), "{arguments:?}");
        assert!(!site.path("data/log").exists(), "looking makes nothing");
    }
    let (key, token) = (site.key("hq"), site.token("hr"));
    let daemon = site.start();
    let hr = daemon.person(&token);
    let card = json!({ "employee_id": "E1", "holder_name": "Ada" });
    hr.put("/v1/cards/C1", &card).await.expect(201);
    let exits = vec![json!({ "card_id": "C1", "gate_id": "north-1" }); EXITS];
    let batch = json!({ "exits": exits });
    daemon.device(&key).post("/v1/buildings/hq/exits/batch", &batch).await.expect(202);
    settled(&hr, &[("files", EXITS as u64 + 1)]).await;
    daemon.stop();

    let stat = site.run_well(&["wal", "stat"]);
    let records = EXITS + 1;
    for line in
        [format!("records     {records}"), format!("last        {records}"), "first       1".to_owned()]
    {
        assert!(stat.lines().any(|found| found == line), "{line}: {stat}");
    }
    let dump = site.dump();
    assert_eq!(dump.len(), records);
    assert_gapless(&dump);
    assert_eq!(dump[0]["data"]["holder_name"], "Ada", "the log is whole");
    assert_eq!(dump[0]["chainhash"], "0".repeat(64));
    let hashes: HashSet<&str> = dump.iter().map(|event| event["chainhash"].as_str().unwrap()).collect();
    assert_eq!(hashes.len(), records);
    let rest: Vec<Value> = crate::daemon::events(site.run_well(&["wal", "dump", "--after", "100"]).lines());
    assert_eq!(rest, dump[100..]);
    // what the file sink has is what the log has, but for the name
    let delivered = site.files("sinks/files");
    assert_eq!(delivered[1..], dump[1..]);
    let verify = site.run_well(&["wal", "verify"]);
    assert!(verify.contains("whole"), "{verify}");
    // a reader that has seen enough
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("{} wal dump | head -n 1", env!("CARGO_BIN_EXE_turnstiled"))])
        .current_dir(site.path("."))
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[tokio::test]
async fn openapi_and_help_are_printed() {
    let site = Site::with_files();
    let document: Value = serde_json::from_str(&site.run_well(&["openapi"])).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(site.run_well(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
    let help = site.run_well(&["--help"]);
    for command in ["run", "demo", "check", "test-routes", "keys", "token", "wal", "openapi"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {help}");
        assert!(site.run_well(&[command, "--help"]).contains("Usage"), "{command}");
    }
}
