//! Damage at random places, repaired: every frame that is still whole is in the new log, nothing else is, and no
//! sequence is used twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::durable_fs::copy_tree;
use crate::sled_db::MAX_VALUE_BYTES;
use crate::{
    Append, Log, LogOptions, RepairFacts, RepairPlan, StoreKind, frame, gaps, high_water, scan,
    segment_paths, verify,
};

const SEED_VARIABLE: &str = "TURNSTILED_SEED";
const TRIALS: u64 = 20;
const LIMIT: Duration = Duration::from_secs(10);

/// xorshift64*, from a seed that is printed.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed =
            std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
                SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64 | 1
            });
        println!("{SEED_VARIABLE}={seed}");
        Random(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % limit.max(1)
    }
}

fn options(store: StoreKind) -> LogOptions {
    LogOptions { store, segment_bytes: 64 * 1024, cache_bytes: 1 << 20, ..LogOptions::default() }
}

fn facts(store: StoreKind) -> RepairFacts {
    RepairFacts { store, durable_to: 0 }
}

/// A closed log and where each of its frames lies, every copy.
struct Original {
    dir: tempfile::TempDir,
    store: StoreKind,
    frames: BTreeMap<u64, Bytes>,
    /// Of each piece of each frame: the file, and its copies there.
    places: BTreeMap<u64, Vec<(PathBuf, Vec<usize>, Bytes)>>,
}

impl Original {
    fn new(store: StoreKind, random: &mut Random) -> Original {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = Log::open(&dir.path().join("log"), options(store)).expect("opened");
        for _ in 0..200 {
            let mut batch = Vec::new();
            for _ in 0..=random.below(3) {
                let records = 1 + random.below(3);
                for index in 0..records {
                    let long = random.below(60) == 0;
                    let length = if long { 5_000 + random.below(15_000) } else { 50 + random.below(900) };
                    let payload: Vec<u8> = (0..length).map(|_| b' ' + random.below(90) as u8).collect();
                    batch.push(Append { payload: payload.into(), ends_group: index + 1 == records });
                }
            }
            log.commit(&batch).expect("committed");
        }
        let frames = frames(&log);
        drop(log);
        let mut original = Original { dir, store, frames, places: BTreeMap::new() };
        original.find_places();
        original
    }

    fn find_places(&mut self) {
        for path in segment_paths(&self.dir.path().join("log")).expect("listed") {
            let data = self.store.data_path(&path);
            let bytes = fs::read(&data).expect("read");
            let magics: Vec<usize> =
                (0..bytes.len()).filter(|at| bytes[*at] == 0xAB || bytes[*at] == 0xAC).collect();
            let relative = data.strip_prefix(self.dir.path()).expect("below").to_owned();
            for (sequence, frame) in &self.frames {
                for piece in pieces(self.store, *sequence, frame) {
                    let copies: Vec<usize> =
                        magics.iter().copied().filter(|at| bytes[*at..].starts_with(&piece)).collect();
                    if !copies.is_empty() {
                        let places = self.places.entry(*sequence).or_default();
                        places.push((relative.clone(), copies, piece));
                    }
                }
            }
        }
        assert_eq!(self.places.len(), self.frames.len(), "all were found");
    }

    /// Whether something is left of every piece of this frame.
    fn is_intact(&self, sequence: u64, files: &BTreeMap<PathBuf, Vec<u8>>) -> bool {
        self.places[&sequence].iter().all(|(path, copies, piece)| {
            let Some(bytes) = files.get(path) else { return false };
            copies.iter().any(|at| bytes.get(*at..).is_some_and(|rest| rest.starts_with(piece)))
        })
    }
}

/// As the store writes them.
fn pieces(store: StoreKind, sequence: u64, frame: &Bytes) -> Vec<Bytes> {
    if store == StoreKind::Files || frame.len() <= MAX_VALUE_BYTES {
        return vec![frame.clone()];
    }
    let mut pieces = vec![frame.slice(..MAX_VALUE_BYTES)];
    let mut rest = frame.slice(MAX_VALUE_BYTES..);
    while !rest.is_empty() {
        let data = rest.split_to(rest.len().min(MAX_VALUE_BYTES - 22));
        let mut piece = vec![0xAC, b'T', b'W', b'C'];
        piece.extend((data.len() as u32).to_le_bytes());
        piece.extend(sequence.to_le_bytes());
        piece.extend((pieces.len() as u16).to_le_bytes());
        piece.extend(&data);
        piece.extend(crc32c::crc32c(&piece).to_le_bytes());
        pieces.push(piece.into());
    }
    pieces
}

/// What a log holds, as frames.
fn frames(log: &Log) -> BTreeMap<u64, Bytes> {
    let records = all(log);
    let encode = |record: &frame::Record| {
        frame::encode(record.sequence, &record.previous_hash, record.ends_group, &record.payload)
    };
    records.iter().map(|record| (record.sequence, encode(record))).collect()
}

/// A read may end where a gap begins.
fn all(log: &Log) -> Vec<frame::Record> {
    let (reader, mut records) = (log.reader(), Vec::<frame::Record>::new());
    loop {
        let after = records.last().map_or(0, |record| record.sequence);
        let more = reader.read(after, usize::MAX, usize::MAX).expect("read");
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

/// Does something bad to a closed log.
fn damage(log: &Path, store: StoreKind, random: &mut Random) -> String {
    let paths = segment_paths(log).expect("listed");
    let any = |random: &mut Random| paths[random.below(paths.len() as u64) as usize].clone();
    let filled = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1) as u64;
    match random.below(7) {
        0..=2 => {
            let flips = 1 + random.below(6);
            for _ in 0..flips {
                let path = store.data_path(&any(random));
                let mut bytes = fs::read(&path).expect("read");
                let place = random.below(filled(&bytes)) as usize;
                bytes[place] ^= 1 << random.below(8);
                fs::write(&path, bytes).expect("written");
            }
            format!("{flips} flips")
        }
        3 => {
            let path = store.data_path(paths.last().expect("one"));
            let mut bytes = fs::read(&path).expect("read");
            bytes.truncate(random.below(filled(&bytes)) as usize);
            let kept = bytes.len();
            fs::write(&path, bytes).expect("written");
            format!("the last segment cut to {kept} bytes")
        }
        4 => {
            let path = store.data_path(&any(random));
            let mut bytes = fs::read(&path).expect("read");
            let from = random.below(filled(&bytes)) as usize;
            bytes[from..].iter_mut().for_each(|byte| *byte = random.below(256) as u8);
            fs::write(&path, bytes).expect("written");
            format!("garbage from byte {from}")
        }
        5 => {
            let path = any(random);
            crate::durable_fs::remove(&path).expect("removed");
            format!("{} removed", path.display())
        }
        _ => {
            fs::remove_file(log.join(high_water::FILE_NAME)).expect("removed");
            let path = store.data_path(&any(random));
            let mut bytes = fs::read(&path).expect("read");
            let place = random.below(filled(&bytes)) as usize;
            bytes[place] ^= 1 << random.below(8);
            fs::write(&path, bytes).expect("written");
            "no high-water file, and a flip".to_owned()
        }
    }
}

fn files_below(dir: &Path, store: StoreKind) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = segment_paths(&dir.join("log")).expect("listed");
    let relative = |path: &Path| path.strip_prefix(dir).expect("below").to_owned();
    let data = paths.iter().map(|path| store.data_path(path)).filter(|path| path.exists());
    data.map(|path| (relative(&path), fs::read(&path).expect("read"))).collect()
}

fn damaged_logs_are_repaired(store: StoreKind) {
    let mut random = Random::new();
    let original = Original::new(store, &mut random);
    let highest = *original.frames.keys().last().expect("some");
    let mut lost = 0;
    for trial in 0..TRIALS {
        let dir = tempfile::tempdir().expect("a directory");
        let log_dir = dir.path().join("log");
        copy_tree(&original.dir.path().join("log"), &log_dir).expect("copied");
        let what = format!("trial {trial}: {}", damage(&log_dir, store, &mut random));
        let has_mark = log_dir.join(high_water::FILE_NAME).exists();
        let files = files_below(dir.path(), store);
        let started = Instant::now();
        let plan = RepairPlan::make(&log_dir, &facts(store), &mut |_, _| {}).expect("planned");
        let repaired = dir.path().join("repaired");
        plan.write(&repaired, &options(store), &mut |_, _| {}).expect("written");
        assert!(started.elapsed() < LIMIT, "{what}: took {:?}", started.elapsed());
        assert_eq!(files_below(dir.path(), store), files, "{what}: the original is untouched");

        let report = verify(&repaired, &dir.path().join("scratch")).expect("verified");
        assert!(report.is_clean(), "{what}: {:?}", report.findings);
        assert_eq!(report.acknowledged, plan.gaps(), "{what}");
        let mut log = Log::open(&repaired, options(store)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let salvaged = frames(&log);
        for (sequence, frame) in &original.frames {
            let is_missing = plan.gaps().iter().any(|gap| gap.range().contains(sequence));
            match salvaged.get(sequence) {
                Some(salvaged) => assert_eq!(salvaged, frame, "{what}: {sequence} is another one"),
                None if original.is_intact(*sequence, &files) => {
                    // a group that lost its end, and nothing knows that it had been answered
                    assert!(!has_mark && *sequence > highest - 20, "{what}: {sequence} is not salvaged");
                }
                None => assert!(is_missing || !has_mark, "{what}: {sequence} is missing and nobody says so"),
            }
        }
        lost += plan.missing();
        assert_eq!(plan.salvaged, salvaged.len() as u64, "{what}");
        assert_eq!(scan(&repaired).expect("scanned").missing.sequences, 0, "{what}");

        // no sequence is used twice, and the repaired log is one like any other
        let first_free = if has_mark { highest + 1 } else { plan.highest + 1 };
        let next = log.commit(&[Append { payload: "repaired".into(), ends_group: true }]).expect("committed");
        assert_eq!(*next.start(), first_free, "{what}");
        drop(log);
        let log = Log::open(&repaired, options(store)).expect("opened");
        assert_eq!(frames(&log).len(), salvaged.len() + 1, "{what}");
    }
    println!("{lost} records lost in {TRIALS} trials of {highest} records each");
    assert!(lost > 0, "nothing was damaged: the test is void");
}

#[test]
fn damaged_logs_of_files_are_repaired() {
    damaged_logs_are_repaired(StoreKind::Files);
}

#[test]
fn damaged_logs_in_sled_are_repaired() {
    damaged_logs_are_repaired(StoreKind::Sled);
}

fn commit(log: &mut Log, payload: &str, ends_group: &[bool]) {
    let batch: Vec<_> = ends_group
        .iter()
        .map(|&ends_group| Append { payload: Bytes::copy_from_slice(payload.as_bytes()), ends_group })
        .collect();
    log.commit(&batch).expect("committed");
}

fn repair(log: &Path, store: StoreKind, durable_to: u64) -> (RepairPlan, PathBuf) {
    let to = log.with_extension("repaired");
    let facts = RepairFacts { durable_to, ..facts(store) };
    let plan = RepairPlan::make(log, &facts, &mut |_, _| {}).expect("planned");
    plan.write(&to, &options(store), &mut |_, _| {}).expect("written");
    (plan, to)
}

#[test]
fn a_repaired_log_can_be_damaged_and_repaired_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, store) = (dir.path().join("log"), StoreKind::Files);
    let mut log = Log::open(&path, options(store)).expect("opened");
    (0..100).for_each(|number| commit(&mut log, &format!("{number}"), &[true]));
    drop(log);
    let flip = |segment: &Path, place: usize| {
        let mut bytes = fs::read(segment).expect("read");
        bytes[place] ^= 1;
        fs::write(segment, bytes).expect("written");
    };
    flip(&segment_paths(&path).expect("listed")[0], 4096 + 200);
    let (plan, repaired) = repair(&path, store, 0);
    assert_eq!((plan.gaps().len(), plan.missing(), plan.salvaged), (1, 1, 99));
    let mut log = Log::open(&repaired, options(store)).expect("opened");
    commit(&mut log, "more", &[true]);
    assert_eq!(log.next_sequence(), 102);
    drop(log);
    let paths = segment_paths(&repaired).expect("listed");
    flip(&paths[1], 4096 + 200);
    let (plan, again) = repair(&repaired, store, 500);
    assert_eq!((plan.gaps().len(), plan.missing(), plan.salvaged), (3, 2 + 399, 99));
    assert_eq!(plan.end().hash, frame::NO_HASH, "nobody knows the record that a cursor speaks of");
    let mut log = Log::open(&again, options(store)).expect("opened");
    assert_eq!(log.next_sequence(), 501);
    commit(&mut log, "more", &[true]);
    let records = all(&log).split_off(97);
    assert_eq!(records.iter().map(|record| record.sequence).collect::<Vec<_>>(), [100, 101, 501]);
    // anything else that is missing is damage as ever
    drop(log);
    fs::remove_file(again.join(gaps::FILE_NAME)).expect("removed");
    assert!(!verify(&again, dir.path()).expect("verified").is_clean());
    Log::open(&again, options(store)).expect_err("what is before the last segment is missing");
}

#[test]
fn an_unfinished_group_is_dropped_unless_it_was_durable() {
    for durable_to in [0, 3] {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, store) = (dir.path().join("log"), StoreKind::Files);
        let mut log = Log::open(&path, options(store)).expect("opened");
        commit(&mut log, "one", &[true]);
        commit(&mut log, "group", &[false, false, true]);
        drop(log);
        // the end of the group is damaged, and so is the file that says that it was durable
        let segment = segment_paths(&path).expect("listed").remove(0);
        let mut bytes = fs::read(&segment).expect("read");
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("some");
        bytes[end] ^= 1;
        fs::write(&segment, bytes).expect("written");
        fs::write(path.join(high_water::FILE_NAME), "").expect("damaged");
        let (plan, repaired) = repair(&path, store, durable_to);
        let log = Log::open(&repaired, options(store)).expect("opened");
        // not used again, whether it was answered or not
        assert_eq!((frames(&log).len(), plan.highest), if durable_to == 3 { (3, 3) } else { (1, 3) });
        assert_eq!(plan.unfinished, if durable_to == 3 { 0 } else { 2 });
    }
}

/// A file of frames in this order, as the first segment of a log with this mark.
fn raw_log(frames: &[Bytes], mark: Option<&Bytes>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let path = crate::segment_names::path(dir.path(), 1, StoreKind::Files);
    fs::write(path, frames.concat()).expect("written");
    if let Some(mark) = mark {
        let sequence = frame::decode(mark).expect("a frame").sequence;
        let mark = high_water::Mark { sequence, hash: frame::hash(mark) };
        high_water::create(dir.path(), &mark).expect("created");
    }
    dir
}

/// A crash undid a commit, and another one took its place: what is left of the first must not come back.
#[test]
fn what_is_left_over_from_an_undone_commit_is_dropped() {
    let one = frame::encode(1, &frame::NO_HASH, true, b"one");
    let old_2 = frame::encode(2, &frame::hash(&one), false, b"old");
    let old_3 = frame::encode(3, &frame::hash(&old_2), true, b"old");
    let new_2 = frame::encode(2, &frame::hash(&one), true, b"new");
    let new_3 = frame::encode(3, &frame::hash(&new_2), true, b"new");
    let four = frame::encode(4, &frame::hash(&new_3), true, b"four");
    let plan = |frames: &[&Bytes], mark: Option<&Bytes>| {
        let frames: Vec<Bytes> = frames.iter().map(|frame| (*frame).clone()).collect();
        let dir = raw_log(&frames, mark);
        RepairPlan::make(dir.path(), &facts(StoreKind::Files), &mut |_, _| {}).expect("planned")
    };
    // the mark names the new one, after which the old ones cannot come
    let by_mark = plan(&[&one, &new_2, &old_2, &old_3], Some(&new_2));
    assert_eq!(
        (by_mark.end().hash, by_mark.salvaged),
        (frame::NO_HASH, 2),
        "3 was used, and is not used again"
    );
    assert_eq!((by_mark.decided, by_mark.contradicted, by_mark.guessed.len()), (1, 1, 0));
    assert_eq!((by_mark.gaps()[0].range(), by_mark.highest), (3..=3, 3));
    // the chain does, too
    let by_chain = plan(&[&one, &new_2, &new_3, &four, &old_2, &old_3], None);
    assert_eq!((by_chain.salvaged, by_chain.decided, by_chain.missing()), (4, 2, 0));
    assert_eq!(by_chain.end().hash, frame::hash(&four));
    // a record that the chain does not name is missing, whatever else has its sequence
    let replaced = plan(&[&one, &new_2, &old_3, &four], Some(&four));
    assert_eq!((replaced.salvaged, replaced.contradicted, replaced.missing()), (3, 1, 1));
    assert_eq!(replaced.gaps()[0].hash, frame::hash(&new_3));
    // without either it is a guess, and said
    let guessed = plan(&[&one, &old_2, &old_3, &new_2, &new_3], None);
    assert_eq!((guessed.salvaged, guessed.guessed.as_slice()), (3, [3].as_slice()));
    assert_eq!(guessed.end().hash, frame::hash(&new_3), "the last one in the file");
}
