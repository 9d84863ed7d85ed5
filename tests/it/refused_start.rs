//! What the daemon refuses to start with, and how it says so. Whatever happened to the data directory: it
//! is refused with the file and the command to run, or nothing is missing.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    daemon::{FILE_SINK, Refused, Site, TWO_BUILDINGS, copy_dir},
    random::Random,
    sinks::settled,
};

const EXITS: usize = 1_500;
const SEGMENT: &str = "00000000000000000001.sled";
/// Bits flipped, one a start; half of the starts find no snapshot of sled's.
const FLIPS: u64 = 24;
const LONG_FLIPS: u64 = 400;

#[track_caller]
fn refused(site: &Site) -> Refused {
    match site.try_start() {
        Ok(_) => panic!("the daemon started"),
        Err(refused) => refused,
    }
}

#[tokio::test]
async fn every_mistake_of_a_configuration_is_named_with_its_line() {
    let mistakes = format!("{TWO_BUILDINGS}{FILE_SINK}")
        .replace("listen = \"127.0.0.1:0\"", "listen = \"here\"")
        .replace("anti_passback = \"hard\"", "anti_pasback = \"hard\"")
        .replace("to = [\"files\"]", "to = [\"flies\"]")
        .replace("type = \"file\"", "type = \"fiel\"");
    let site = Site::new(&mistakes);
    for arguments in
        [&["run", "--config", "routes.toml"][..], &["check", "--config", "routes.toml"], &["run"]]
    {
        let output = site.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        for mistake in ["\"here\"", "anti_pasback", "flies", "fiel"] {
            let line = 1 + mistakes.lines().position(|line| line.contains(mistake)).unwrap();
            let place = format!("routes.toml:{line}");
            let named = stderr
                .lines()
                .any(|found| found.contains(&place) && found.contains(mistake.trim_matches('"')));
            assert!(named, "{arguments:?}: {mistake} at {place}: {stderr}");
        }
        assert!(stderr.contains("anti_passback"), "a hint with the nearest key: {stderr}");
        assert!(!site.path("data").exists(), "nothing was made before the refusal");
    }
    let missing = site.run(&["run", "--config", "nosuch.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nosuch.toml"));
}

#[tokio::test]
async fn bad_usage_is_2() {
    let site = Site::with_files();
    for arguments in [
        &[][..],
        &["fly"],
        &["run", "--fast"],
        &["keys", "add"],
        &["token"],
        &["token", "--role", "king"],
        &["token", "--role", "hr", "--ttl", "1y"],
        &["wal"],
    ] {
        let output = site.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_data_directory_has_one_user_and_one_server() {
    let site = Site::with_files();
    let daemon = site.start();
    let second = refused(&site);
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stderr.contains("in use"), "{}", second.stderr);
    for arguments in [["wal", "dump"], ["wal", "stat"], ["wal", "verify"]] {
        let output = site.run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("in use"), "{arguments:?}");
    }
    daemon.anyone().get("/readyz").await.expect(200);
    daemon.stop();

    site.configure(&format!("{TWO_BUILDINGS}{FILE_SINK}").replace("id = \"hq-1\"", "id = \"hq-2\""));
    let foreign = refused(&site);
    assert_eq!(foreign.status.code(), Some(1));
    assert!(foreign.stderr.contains("hq-1") && foreign.stderr.contains("hq-2"), "{}", foreign.stderr);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let site = Site::new(&format!("{TWO_BUILDINGS}{FILE_SINK}").replace("127.0.0.1:0", &address));
    let refused = refused(&site);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains(&address) && refused.stderr.contains("listen"), "{}", refused.stderr);
}

/// A stopped daemon's data directory, and what is in its log.
struct Original {
    site: Site,
    log: Vec<Value>,
}

impl Original {
    async fn make() -> Self {
        Self::make_with_store("sled").await
    }

    async fn make_with_store(store: &str) -> Self {
        let site = Site::with_files_and_store(store);
        let (key, token) = (site.key("hq"), site.token("hr,admin"));
        let daemon = site.start();
        let hr = daemon.person(&token);
        for number in 0..50 {
            let card = json!({ "employee_id": format!("E{number}") });
            hr.put(&format!("/v1/cards/C{number}"), &card).await.expect(201);
        }
        let exit = |number: usize| json!({ "card_id": format!("C{}", number % 50), "gate_id": "north-1" });
        let exits: Vec<Value> = (0..EXITS / 2).map(exit).collect();
        for _ in 0..2 {
            let batch = json!({ "exits": exits });
            daemon.device(&key).post("/v1/buildings/hq/exits/batch", &batch).await.expect(202);
        }
        settled(&hr, &[("files", (EXITS + 50) as u64)]).await;
        assert!(daemon.stop().0.success());
        let log = site.dump();
        assert_eq!(log.len(), EXITS + 50);
        Self { site, log }
    }

    /// A copy of the directory, damaged.
    fn damaged(&self, damage: impl FnOnce(&Path)) -> Site {
        let copy = Site::new(&fs::read_to_string(self.site.path("routes.toml")).unwrap());
        copy_dir(&self.site.path("data"), &copy.path("data"));
        damage(&copy.path("data"));
        copy
    }

    /// Starts on the damaged directory. Refused as it should be: true. Started with everything: false.
    fn is_refused(&self, site: &Site, what: &str) -> bool {
        match site.try_start() {
            Err(refused) => {
                assert!(!refused.status.success(), "{what}: {}", refused.stderr);
                let data = site.path("data").display().to_string();
                let names_it = refused.stderr.contains(&format!("{data}/log"))
                    || refused.stderr.contains(&format!("{data}/state"));
                assert!(names_it, "{what}: which file? {}", refused.stderr);
                assert!(
                    refused.stderr.contains("turnstiled wal verify"),
                    "{what}: what to do? {}",
                    refused.stderr
                );
                true
            }
            Ok(daemon) => {
                let (status, stderr) = daemon.stop();
                assert!(status.success(), "{what}: {stderr}");
                assert!(site.dump() == self.log, "{what}: started, and the log is another one: {stderr}");
                false
            }
        }
    }
}

#[tokio::test]
async fn a_log_whose_name_is_lost_is_refused() {
    let site = Site::with_files();
    site.start().stop();
    fs::remove_file(site.path("data/identity.toml")).unwrap();
    let nameless = refused(&site);
    assert_eq!(nameless.status.code(), Some(1));
    assert!(nameless.stderr.contains("identity.toml"), "{}", nameless.stderr);
    assert!(!site.path("data/identity.toml").exists(), "no new name for an old log");
}

/// Done to a data directory.
type Damage = fn(&Path);

fn segment(data: &Path) -> PathBuf {
    data.join("log").join(SEGMENT)
}

/// The file that the records are in, whichever store it is.
fn data_file(data: &Path) -> PathBuf {
    let sled = segment(data).join("db");
    if sled.exists() { sled } else { segment(data).with_extension("seg") }
}

fn truncate(path: &Path, keep: impl FnOnce(u64) -> u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(keep(file.metadata().unwrap().len())).unwrap();
}

#[tokio::test]
async fn a_log_that_lost_something_is_refused() {
    let original = Original::make().await;
    assert!(!original.is_refused(&original.damaged(|_| {}), "an undamaged copy"));
    let damages: [(&str, Damage); 9] = [
        ("no high-water mark", |data| fs::remove_file(data.join("log/high-water")).unwrap()),
        ("an empty high-water mark", |data| truncate(&data.join("log/high-water"), |_| 0)),
        ("half of the data file", |data| truncate(&segment(data).join("db"), |bytes| bytes / 2)),
        ("a tenth of the data file", |data| truncate(&segment(data).join("db"), |bytes| bytes / 10)),
        ("an empty data file", |data| truncate(&segment(data).join("db"), |_| 0)),
        ("no data file", |data| fs::remove_file(segment(data).join("db")).unwrap()),
        ("no segment", |data| fs::remove_dir_all(segment(data)).unwrap()),
        ("no log", |data| fs::remove_dir_all(data.join("log")).unwrap()),
        ("an older log", |data| {
            // a backup of the log alone, from before: an empty one
            fs::remove_dir_all(data.join("log")).unwrap();
            let fresh = Site::with_files();
            fresh.start().stop();
            copy_dir(&fresh.path("data/log"), &data.join("log"));
        }),
    ];
    for (what, damage) in damages {
        assert!(original.is_refused(&original.damaged(damage), what), "{what}: started");
    }
}

#[tokio::test]
async fn a_flipped_bit_is_refused_or_harmless_with_sled() {
    a_flipped_bit_is_refused_or_harmless("sled").await;
}

#[tokio::test]
async fn a_flipped_bit_is_refused_or_harmless_with_segments() {
    a_flipped_bit_is_refused_or_harmless("segments").await;
}

async fn a_flipped_bit_is_refused_or_harmless(store: &str) {
    let original = Original::make_with_store(store).await;
    let mut random = Random::new();
    let (mut refused, mut unhurt, mut verified) = (0, 0, 0);
    let is_long = std::env::var_os("TURNSTILED_LONG").is_some();
    for flip in 0..if is_long { LONG_FLIPS } else { FLIPS } {
        let draw = random.next();
        let keeps_snapshot = flip % 2 == 0;
        let mut what = String::new();
        let site = original.damaged(|data| {
            let path = data_file(data);
            let mut bytes = fs::read(&path).unwrap();
            // the file is made far longer than it is filled
            let filled = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
            let place = usize::try_from(draw % filled).unwrap();
            bytes[place] ^= 1 << (draw >> 61);
            fs::write(&path, &bytes).unwrap();
            if !keeps_snapshot && store == "sled" {
                remove_snapshots(&segment(data));
            }
            what = format!("a flipped bit in byte {place} of {filled}, snapshots kept: {keeps_snapshot}");
        });
        if original.is_refused(&site, &what) {
            refused += 1;
            let verify = site.run(&["wal", "verify"]);
            verified += u32::from(verify.status.code() == Some(1));
        } else {
            unhurt += 1;
        }
    }
    println!("{store}: {refused} starts refused ({verified} of them found by verify too), {unhurt} unhurt");
    assert_eq!(verified, refused, "verify sees what a start refuses");
    assert!(refused > 0, "else this test is of no use");
}

fn remove_snapshots(segment: &Path) {
    for entry in fs::read_dir(segment).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Without its first segment a log would forget cards and skip what is undelivered.
#[tokio::test]
async fn a_log_without_its_beginning_is_refused() {
    for (store, ending) in [("sled", "sled"), ("segments", "seg")] {
        let original = Original::make_with_store(store).await;
        let site = original.damaged(|data| {
            let first = data.join("log").join(SEGMENT).with_extension(ending);
            let later = data.join("log").join(format!("00000000000000000777.{ending}"));
            fs::rename(first, later).unwrap();
        });
        assert!(original.is_refused(&site, &format!("{store}: a segment under another name")));
        assert_eq!(site.run(&["wal", "verify"]).status.code(), Some(1), "{store}");
    }
}

#[tokio::test]
async fn a_cut_segment_file_is_refused_and_found() {
    let original = Original::make_with_store("segments").await;
    let site = original.damaged(|data| truncate(&data_file(data), |bytes| bytes - 1));
    assert!(original.is_refused(&site, "one byte less"));
    assert_eq!(site.run(&["wal", "verify"]).status.code(), Some(1));
}
