//! Damage to the state store: it opens with everything, or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::durable_fs::copy_tree;
use crate::{Change, StateOpenError, StateStore, VerifyError, verify_state};

const STORE_VARIABLE: &str = "TURNSTILED_TEST_DAMAGED_STORE";
const FROM_VARIABLE: &str = "TURNSTILED_TEST_DAMAGE_FROM";
/// A child that says nothing for so long hangs in sled; so does an open, which is as good as a refusal here.
const HANG: Duration = Duration::from_secs(20);

/// sled gives its lock back a moment after it was dropped; on a busy machine that takes a while.
fn open_sled(path: &Path) -> sled::Db {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match sled::open(path) {
            Ok(opened) => return opened,
            Err(error) if Instant::now() > deadline => panic!("cannot be opened: {error}"),
            Err(_) => thread::yield_now(),
        }
    }
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Change {
    Change::Put { key: key.into(), value: value.into() }
}

/// Cursors that were written over and over, by several processes' lives, and dead letters.
fn fill(dir: &Path, letters: usize) {
    for life in 0..3_usize {
        let store = StateStore::open(dir).expect("opened");
        for round in 0..20_usize {
            let sink = format!("sink/{}", round % 4);
            let cursor = format!("{{\"cursor\": {}}}", life * 1_000 + round);
            store.write(&[put(sink, cursor)]).expect("written");
        }
        for letter in (0..letters).filter(|letter| letter % 3 == life) {
            let value: Vec<u8> = (0..2_048_usize).map(|byte| (letter * 31 + byte * byte) as u8).collect();
            let cursor = put("sink/0", format!("{{\"letter\": {letter}}}"));
            store.write(&[cursor, put(format!("dead/{letter:020}"), value)]).expect("written");
        }
        store.write(&[put("sink/gone", "soon"), put("sink/1", "")]).expect("written");
        store.write(&[Change::Delete { key: "sink/gone".into() }]).expect("written");
    }
}

fn contents(store: &StateStore) -> BTreeMap<Bytes, Bytes> {
    store.scan_prefix(b"", None, usize::MAX).expect("read").into_iter().collect()
}

fn open(dir: &Path) -> BTreeMap<Bytes, Bytes> {
    contents(&StateStore::open(dir).expect("opened"))
}

/// What damage is done to a copy: by number.
fn damages(store: &Path) -> Vec<(String, usize)> {
    // sled's file ends in zeros
    let length = |name: &str| {
        let bytes = fs::read(store.join(name)).expect("read");
        bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    };
    let mut damages = Vec::new();
    let mut names: Vec<_> = fs::read_dir(store)
        .expect("listed")
        .map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned())
        .filter(|name| !store.join(name).is_dir())
        .collect();
    names.sort();
    for name in names {
        let flips = if name == "db" { FLIPS } else { FLIPS / 8 };
        // an odd step, so that it meets every place in what repeats
        let step = (length(&name) / flips).max(1) | 1;
        damages.extend((0..length(&name)).step_by(step).map(|at| (format!("flip {name}"), at)));
        let step = (length(&name) / 12).max(1);
        damages.extend((0..length(&name)).step_by(step).map(|at| (format!("cut {name}"), at)));
        damages.push((format!("delete {name}"), 0));
    }
    damages
}

/// Of the database; fewer of the smaller files.
const FLIPS: usize = 128;
/// Which of the damages are shown to verify, too: it opens a copy of its own, and so takes its time.
const VERIFY_EVERY: usize = 5;

fn damage(dir: &Path, (kind, at): &(String, usize)) {
    let (verb, name) = kind.split_once(' ').expect("two words");
    let path = dir.join(name);
    if verb == "delete" {
        return fs::remove_file(&path).expect("removed");
    }
    let mut bytes = fs::read(&path).expect("read");
    match verb {
        "flip" => bytes[*at] ^= 1 << (at % 8),
        _ => bytes.truncate(*at),
    }
    fs::write(&path, bytes).expect("damaged");
}

/// Does all damages, each to a copy, in child processes, and counts what came of them.
fn try_all(letters: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("state");
    fill(&store, letters);
    let damages = damages(&store);
    let mut outcomes = BTreeMap::<(String, &str), u32>::new();
    let mut from = 0;
    while from < damages.len() {
        let mut child = start_child(&store, from);
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        loop {
            let outcome = match lines.recv_timeout(HANG) {
                Ok(line) => match line.strip_prefix("outcome ") {
                    Some("whole") => "whole",
                    Some("refused") => "refused",
                    Some(other) => panic!("{:?}: {other}", damages[from]),
                    None => continue,
                },
                Err(RecvTimeoutError::Timeout) => {
                    child.kill().expect("killed");
                    "hung"
                }
                Err(RecvTimeoutError::Disconnected) => "aborted",
            };
            if let Some((kind, _)) = damages.get(from) {
                *outcomes.entry((kind.clone(), outcome)).or_default() += 1;
                from += 1;
            }
            if outcome == "hung" || outcome == "aborted" {
                break;
            }
        }
        child.wait().expect("ended");
    }
    println!("{letters} letters: {outcomes:?}");
    let total: u32 = outcomes.values().sum();
    assert_eq!(total as usize, damages.len());
    let of = |kind: &str, outcome| outcomes.get(&(kind.to_owned(), outcome)).copied().unwrap_or(0);
    assert!(of("flip db", "refused") + of("flip db", "aborted") > 0, "no flip hit anything: {outcomes:?}");
    assert_eq!(of("delete db", "refused"), 1);
    assert_eq!(of("delete high-water", "refused"), 1);
    assert!(of("cut db", "refused") > 0, "no cut hit anything: {outcomes:?}");
    assert!(of("flip high-water", "refused") == 0, "one slot is enough: {outcomes:?}");
}

fn start_child(store: &Path, from: usize) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "state_fault_tests::child", "--nocapture"])
        .env(STORE_VARIABLE, store)
        .env(FROM_VARIABLE, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

/// Opens a damaged copy after the other, until one of them ends it. Does nothing when run with the others.
#[test]
fn child() {
    let Ok(store) = std::env::var(STORE_VARIABLE) else { return };
    let from: usize = std::env::var(FROM_VARIABLE).expect("set").parse().expect("a number");
    // as a release build does, on whichever thread
    std::panic::set_hook(Box::new(|_| std::process::exit(101)));
    let store = Path::new(&store);
    let scratch = tempfile::tempdir().expect("a directory");
    let whole_dir = scratch.path().join("whole");
    copy_tree(store, &whole_dir).expect("copied");
    let whole = open(&whole_dir);
    for (index, target) in damages(store).iter().enumerate().skip(from) {
        let copy = scratch.path().join(index.to_string());
        copy_tree(store, &copy).expect("copied");
        damage(&copy, target);
        let report = (index % VERIFY_EVERY == 0)
            .then(|| verify_state(&copy, &scratch.path().join("verify")).expect("checked"));
        let outcome = match StateStore::open(&copy) {
            found if report.is_some_and(|report| report.is_clean() != found.is_ok()) => {
                format!("not as verify says: {found:?}")
            }
            Ok(found) if contents(&found) == whole && !found.is_new() => "whole".to_owned(),
            Ok(found) => format!("LOST {} of {}", contents(&found).len(), whole.len()),
            Err(StateOpenError::Damaged { .. }) => "refused".to_owned(),
            Err(error) => format!("not said to be damage: {error}"),
        };
        println!("\noutcome {outcome}");
        std::io::stdout().flush().expect("written");
        fs::remove_dir_all(&copy).expect("removed");
        let _ = fs::remove_dir_all(scratch.path().join("verify"));
    }
    std::process::exit(0);
}

#[test]
fn a_damaged_small_store_is_refused_or_whole() {
    try_all(0);
}

#[test]
fn a_damaged_store_with_dead_letters_is_refused_or_whole() {
    try_all(300);
}

fn refused(dir: &Path) -> String {
    let error = StateStore::open(dir).expect_err("damaged");
    let StateOpenError::Damaged { path, .. } = &error else { panic!("not damage: {error}") };
    assert_eq!(*path, dir.join("db"));
    let message = error.to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
    assert!(message.contains(&format!("; move {} away: every sink", dir.display())), "{message}");
    assert!(
        message.contains("dead letters kept there are lost; but if the disk is full, free some space"),
        "{message}"
    );
    assert!(message.ends_with("nothing is lost"), "{message}");
    message
}

/// A store with two writes, closed.
fn two_writes() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    let store = StateStore::open(&state).expect("created");
    store.write(&[put("a", "1")]).expect("written");
    store.write(&[put("b", "2")]).expect("written");
    (dir, state)
}

#[test]
fn a_store_is_new_until_it_is_written_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    for _ in 0..2 {
        let store = StateStore::open(&state).expect("opened");
        assert!(store.is_new(), "the process before wrote nothing");
        assert!(contents(&store).is_empty());
    }
    let store = StateStore::open(&state).expect("opened");
    store.write(&[put("a", "1")]).expect("written");
    store.write(&[Change::Delete { key: "a".into() }]).expect("written");
    drop(store);
    let store = StateStore::open(&state).expect("opened");
    assert!(!store.is_new(), "empty, but not new");
    let memory = StateStore::in_memory();
    assert!(memory.is_new());
    memory.write(&[put("a", "1")]).expect("written");
    assert!(!memory.reopen_in_memory().expect("in memory").is_new());
}

#[test]
fn an_interrupted_creation_is_made_anew() {
    let (_dir, whole) = two_writes();
    let interrupted: [fn(&Path, &Path); 4] = [
        |_, unfinished| fs::create_dir_all(unfinished).expect("created"),
        |_, unfinished| {
            fs::create_dir_all(unfinished).expect("created");
            fs::write(unfinished.join("db"), b"torn").expect("written");
        },
        |whole, unfinished| copy_tree(whole, unfinished).expect("copied"),
        // the directory itself may be there already
        |_, unfinished| fs::create_dir_all(unfinished.with_extension("")).expect("created"),
    ];
    for interrupt in interrupted {
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("state");
        interrupt(&whole, &state.with_extension("unfinished"));
        let store = StateStore::open(&state).expect("created");
        assert!(store.is_new() && contents(&store).is_empty());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing is left over");
    }
}

#[test]
fn what_is_missing_is_refused_again_and_again() {
    type Fault = fn(&Path);
    let faults: [(&str, Fault); 5] = [
        ("db: the file is missing or empty", |state| fs::remove_file(state.join("db")).expect("removed")),
        ("db: the file is missing or empty", |state| fs::write(state.join("db"), b"").expect("emptied")),
        ("high-water file beside it is missing", |state| {
            fs::remove_file(state.join("high-water")).expect("removed");
        }),
        ("neither slot of the high-water file", |state| {
            fs::write(state.join("high-water"), b"").expect("emptied");
        }),
        ("is that of another store", |state| {
            let (_dir, other) = two_writes();
            let store = StateStore::open(&other).expect("opened");
            store.write(&[put("c", "3")]).expect("written");
            fs::copy(other.join("high-water"), state.join("high-water")).expect("copied");
            StateStore::open(state).expect_err("its own last write is missing");
            let (_dir, other) = two_writes_in_other_order();
            fs::copy(other.join("high-water"), state.join("high-water")).expect("copied");
        }),
    ];
    for (what, fault) in faults {
        let (dir, state) = two_writes();
        fault(&state);
        for _ in 0..2 {
            let message = refused(&state);
            assert!(message.contains(what), "{message}");
        }
        let report = verify_state(&state, &dir.path().join("scratch")).expect("checked");
        assert!(!report.is_clean(), "{what}");
    }
}

fn two_writes_in_other_order() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    let store = StateStore::open(&state).expect("created");
    store.write(&[put("b", "1")]).expect("written");
    store.write(&[put("a", "2")]).expect("written");
    (dir, state)
}

/// Behind the store's back, with sled alone: what damage makes of a database that sled then finds whole.
#[test]
fn entries_that_do_not_add_up_are_refused() {
    type Fault = fn(&sled::Db);
    let faults: [(&str, Fault); 4] = [
        ("2 of 1 entries are there", |tree| {
            // the seal of one write ago, with entries of now
            let mut seal = tree.get([0, 0]).expect("read").expect("there").to_vec();
            seal[8] -= 1;
            seal[16] -= 1;
            tree.insert([0, 0], seal).expect("written");
        }),
        ("1 of 2 entries are there", |tree| {
            tree.remove([b'a', 0, 1, 0, 0]).expect("removed").expect("was there");
        }),
        ("are not those that were written last", |tree| {
            let key = [b'a', 0, 1, 0, 0];
            let mut value = tree.get(key).expect("read").expect("there").to_vec();
            value[4] = b'0';
            tree.insert(key, value).expect("written");
        }),
        ("the record of how much it holds is missing", |tree| tree.clear().expect("cleared")),
    ];
    for (what, fault) in faults {
        let (dir, state) = two_writes();
        let tree = open_sled(&state);
        fault(&tree);
        drop(tree);
        let message = refused(&state);
        assert!(message.contains(what), "{message}");
        let report = verify_state(&state, &dir.path().join("scratch")).expect("checked");
        assert!(report.findings.iter().any(|finding| finding.what.contains(what)), "{report:?}");
    }
}

#[test]
fn an_older_copy_of_the_database_is_refused() {
    let (dir, state) = two_writes();
    let old = dir.path().join("old");
    copy_tree(&state, &old).expect("copied");
    StateStore::open(&state).expect("opened").write(&[put("a", "3")]).expect("written");
    fs::copy(state.join("high-water"), old.join("high-water")).expect("copied");
    let message = refused(&old);
    assert!(message.contains("write 4 was durable, the last one there is 3"), "{message}");
}

/// Power loss may keep the write and not the high-water's.
#[test]
fn a_high_water_file_that_lags_is_no_damage() {
    let (_dir, state) = two_writes();
    let lagging = fs::read(state.join("high-water")).expect("read");
    StateStore::open(&state).expect("opened").write(&[put("a", "3")]).expect("written");
    let newest = fs::read(state.join("high-water")).expect("read");
    fs::write(state.join("high-water"), lagging).expect("put back");
    assert_eq!(open(&state).len(), 2);
    assert_ne!(fs::read(state.join("high-water")).expect("read").len(), 0);
    let marks = |bytes: &[u8]| [bytes[16], bytes[4096 + 16]].iter().copied().max();
    let now = fs::read(state.join("high-water")).expect("read");
    assert_eq!(marks(&now), marks(&newest), "the open caught up");
}

#[test]
fn the_seal_cannot_be_named_or_seen() {
    let (_dir, state) = two_writes();
    let store = StateStore::open(&state).expect("opened");
    for key in [&b""[..], b"\0", b"\0\0", b"\0\0\0\0"] {
        assert_eq!(store.get(key).expect("read"), None);
        assert_eq!(store.scan_prefix(b"", Some(key), 9).expect("read").len(), 2);
        store.write(&[put(key.to_vec(), "x"), Change::Delete { key: key.to_vec().into() }]).expect("written");
    }
    assert_eq!(contents(&store).len(), 2);
    drop(store);
    assert_eq!(open(&state).len(), 2);
}

#[test]
fn verify_counts_what_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let (state, scratch) = (dir.path().join("state"), dir.path().join("scratch"));
    assert!(matches!(verify_state(&state, &scratch), Err(VerifyError::NoState { .. })));
    fill(&state, 30);
    let store = StateStore::open(&state).expect("opened");
    let whole = contents(&store);
    assert!(matches!(verify_state(&state, &scratch), Err(VerifyError::Locked { .. })));
    drop(store);
    let report = verify_state(&state, &scratch).expect("checked");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.whole_values, whole.len() as u64);
    assert_eq!(report.value_bytes, whole.values().map(|value| value.len() as u64).sum::<u64>());
    assert_eq!((report.generation, report.high_water), (Some(97), Some(97)));
    assert_eq!(open(&state), whole, "the original is as it was");
}

const KILLED_VARIABLE: &str = "TURNSTILED_TEST_KILLED_STATE";

/// A write is there whole or not at all, its seal included: kill -9 is no damage.
#[test]
fn what_a_killed_process_was_told_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    for round in 0..12_usize {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "state_fault_tests::killed_child", "--nocapture"])
            .env(KILLED_VARIABLE, &state)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let writes = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("told ")?.parse().ok());
        let told: u64 = writes.take(1 + round * 3).last().expect("some writes");
        child.kill().expect("killed");
        child.wait().expect("ended");
        let store = StateStore::open(&state).expect("opened");
        let number = store.get(b"number").expect("read").expect("there");
        let number: u64 = String::from_utf8_lossy(&number).parse().expect("a number");
        assert!(number >= told, "{told} was told, {number} is there");
        let letter = store.get(b"letter").expect("read").expect("there");
        assert!(letter.iter().all(|byte| *byte == number as u8), "of the same write");
    }
}

/// The other half of the test above, in a process of its own; does nothing when run with the others.
#[test]
fn killed_child() {
    let Ok(dir) = std::env::var(KILLED_VARIABLE) else { return };
    let store = StateStore::open(Path::new(&dir)).expect("opened");
    let number = store.get(b"number").expect("read").unwrap_or("0".into());
    let number: u64 = String::from_utf8_lossy(&number).parse().expect("a number");
    let mut out = std::io::stdout();
    for number in number + 1.. {
        // several of sled's pages
        let letter = vec![number as u8; 30_000 + number as usize % 7 * 10_000];
        store.write(&[put("letter", letter), put("number", number.to_string())]).expect("written");
        if writeln!(out, "\ntold {number}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
