use super::*;
use crate::domain::{
    archive_comparison::{ArchiveCounts, MAX_ARCHIVE_FINDINGS},
    archived_event::ArchivedLine,
    outbound::edit,
    record::EventRecord,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn frame_hash(sequence: u64, previous: &Hash, ends_group: bool, payload: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(sequence.to_le_bytes());
    hasher.update(previous);
    hasher.update([u8::from(ends_group)]);
    hasher.update(payload);
    hasher.finalize().into()
}

/// A log of exits and, every fifth one, cards; every third record does not end its group.
struct Log(Vec<(EventRecord, Hash, Hash)>);

impl Log {
    fn of(length: u64) -> Self {
        let (mut records, mut previous) = (Vec::new(), [0; 32]);
        for sequence in 1..=length {
            let (kind, data) = if sequence % 5 == 0 {
                ("card.registered", json!({ "card_id": "C", "holder_name": "Ada", "by": "x" }))
            } else {
                ("access.exit.recorded", json!({ "building": "hq", "n": sequence, "by": "x" }))
            };
            let json = json!({ "id": format!("id-{sequence}"), "source": "/servers/hq-1", "type": kind, "log": "hq-1.7",
                "time": "2026-11-20T08:00:00Z", "sequence": format!("{sequence:020}"), "partitionkey": "E1", "data": data });
            let record = EventRecord::encode(kind, "", "E1", json.to_string().as_bytes()).unwrap();
            let hash = frame_hash(sequence, &previous, sequence % 3 != 0, record.payload());
            records.push((record, previous, hash));
            previous = hash;
        }
        Self(records)
    }

    fn lines(&self, form: &Form) -> Vec<(u64, String)> {
        let line = |(record, previous, _): &(EventRecord, Hash, Hash)| {
            String::from_utf8(edit(&record.json(), form, previous).unwrap().to_vec()).unwrap()
        };
        (1..).zip(self.0.iter().map(line)).collect()
    }
}

fn personal() -> Form {
    Form { personal: true, ..Form::default() }
}

/// What is held against what.
struct Setting {
    form: Form,
    /// The log holds this much of itself, but for a gap.
    held: std::ops::RangeInclusive<u64>,
    gap: std::ops::RangeInclusive<u64>,
    presence: Presence,
}

impl Default for Setting {
    fn default() -> Self {
        #[allow(clippy::reversed_empty_ranges, reason = "no gap")]
        Self { form: personal(), held: 1..=100, gap: 1..=0, presence: Presence::Must }
    }
}

impl Setting {
    fn run(&self, log: &Log, lines: &[(u64, String)]) -> (ArchiveCounts, Vec<ArchiveFinding>) {
        let form = Arc::new(self.form.clone());
        let mut check = ArchiveCheck::new(7, Box::new(move |_| Arc::clone(&form)));
        let last = lines.iter().map(|(sequence, _)| *sequence).chain([log.0.len() as u64]).max().unwrap();
        for sequence in 1..=last {
            let archived: Vec<ArchivedEvent> = (0..)
                .zip(lines)
                .filter(|(_, (at, _))| *at == sequence)
                .map(|(object, (_, line))| {
                    match ArchivedEvent::read(line.as_bytes(), "hq-1", &(0..=u64::MAX), object, frame_hash)
                        .unwrap()
                    {
                        ArchivedLine::Ours(event) => event,
                        other => panic!("{other:?}"),
                    }
                })
                .collect();
            let is_held = self.held.contains(&sequence) && !self.gap.contains(&sequence);
            match log.0.get(sequence as usize - 1).filter(|_| is_held) {
                Some((record, previous_hash, hash)) => check.record(
                    &LogRecord {
                        sequence,
                        previous_hash,
                        hash,
                        event_type: record.event_type(),
                        json: &record.json(),
                        presence: self.presence,
                    },
                    archived,
                ),
                None if archived.is_empty() => {}
                None if sequence < *self.held.start() => check.not_held(sequence, archived, NotHeld::Before),
                None if self.gap.contains(&sequence) => check.not_held(sequence, archived, NotHeld::InGap),
                None => check.not_held(sequence, archived, NotHeld::Beyond),
            }
        }
        let Comparison { counts, findings, .. } = check.finish();
        (counts, findings)
    }
}

fn said(findings: &[ArchiveFinding]) -> Vec<(u64, u64, &str)> {
    findings.iter().map(|finding| (finding.first, finding.last, finding.what.as_str())).collect()
}

/// Changes one line.
fn change(lines: &mut [(u64, String)], sequence: u64, from: &str, to: &str) {
    let line = &mut lines.iter_mut().find(|(at, _)| *at == sequence).unwrap().1;
    assert!(line.contains(from), "{line}");
    *line = line.replacen(from, to, 1);
}

fn with_hash(line: &str, hash: &str) -> String {
    let mut event: Value = serde_json::from_str(line).unwrap();
    event["chainhash"] = json!(hash);
    event.to_string()
}

#[test]
fn an_unedited_archive_is_proven_link_by_link() {
    let log = Log::of(20);
    let (counts, findings) = Setting::default().run(&log, &log.lines(&personal()));
    assert_eq!(findings, []);
    assert_eq!(counts, ArchiveCounts { identical: 20, links: 19, ..ArchiveCounts::default() });
}

#[test]
fn what_routes_edit_is_counted_and_proves_nothing() {
    let log = Log::of(20);
    let form = Form {
        drop: vec!["by".to_owned()],
        add: json!({ "n": 0 }).as_object().unwrap().clone(),
        personal: false,
    };
    let setting = Setting { form: form.clone(), ..Setting::default() };
    let (counts, findings) = setting.run(&log, &log.lines(&form));
    assert_eq!(findings, []);
    assert_eq!((counts.edited, counts.members_left_out, counts.members_added), (20, 24, 20));
    assert_eq!((counts.links, counts.unproven), (0, 19));
    let (_, findings) = Setting::default().run(&log, &log.lines(&form));
    assert!(said(&findings).contains(&(1, 1, "it differs from the log in data.n")), "{findings:?}");
}

#[test]
fn each_change_is_found_where_the_log_has_the_event() {
    let log = Log::of(20);
    let other = "ab".repeat(32);
    let chainhash = "its chainhash is not the hash of the log's record before it";
    for (from, to, what) in [
        ("\"n\":8", "\"n\":9", "it differs from the log in data.n"),
        ("id-8", "id-9", "it differs from the log in id"),
        ("08:00:00", "08:00:01", "it differs from the log in time"),
        ("exit.recorded", "exit.recordet", "it differs from the log in type"),
        ("hq-1.7", "hq-1.6", "it differs from the log in log"),
        ("hq-1.7", "hq-1.8", "it differs from the log in log"),
    ] {
        let mut lines = log.lines(&personal());
        change(&mut lines, 8, from, to);
        let (_, findings) = Setting::default().run(&log, &lines);
        assert_eq!(said(&findings), [(8, 8, what)]);
        assert_eq!(findings[0].objects, [7]);
    }
    let mut lines = log.lines(&personal());
    lines[7].1 = with_hash(&lines[7].1, &other);
    assert_eq!(said(&Setting::default().run(&log, &lines).1), [(8, 8, chainhash)]);
}

#[test]
fn what_is_missing_is_found_if_the_sink_has_settled_it() {
    let log = Log::of(20);
    let mut lines = log.lines(&personal());
    lines.retain(|(at, _)| ![1, 2, 7, 8, 12, 20].contains(at));
    let (counts, findings) = Setting::default().run(&log, &lines);
    let runs: Vec<_> = findings.iter().map(|finding| (finding.first, finding.last)).collect();
    assert_eq!((runs, counts.before_first), (vec![(7, 8), (12, 12), (20, 20)], 2));
    let (counts, findings) = Setting { presence: Presence::May, ..Setting::default() }.run(&log, &lines);
    assert_eq!((findings.len(), counts.lacking), (0, 3));
    let not_here = counts.not_here.values().next().map(|of_type| (of_type.events, of_type.first.clone()));
    assert_eq!((counts.not_here.len(), not_here), (2, Some((5, vec![1, 2, 7]))));
    let (counts, findings) = Setting { presence: Presence::NeedNot, ..Setting::default() }.run(&log, &lines);
    assert_eq!((findings.len(), counts.lacking, counts.before_first), (0, 0, 0));
    assert!(counts.not_here.is_empty());
}

#[test]
fn dead_letters_and_what_was_discarded_are_noted_and_not_missing() {
    let log = Log::of(12);
    let mut check = ArchiveCheck::new(7, Box::new(|_| Arc::new(personal())));
    let lines = log.lines(&personal());
    for (sequence, (record, previous_hash, hash)) in (1..).zip(&log.0) {
        let presence = if [3, 5].contains(&sequence) { Presence::Dead } else { Presence::Must };
        let (event_type, json) = (record.event_type(), &record.json()[..]);
        let record = LogRecord { sequence, previous_hash, hash, event_type, json, presence };
        let is_here = ![3, 4, 6, 7, 10].contains(&sequence);
        let line = lines.iter().filter(|(at, _)| *at == sequence && is_here).map(|(_, line)| {
            let read = ArchivedEvent::read(line.as_bytes(), "hq-1", &(0..=u64::MAX), 0, frame_hash).unwrap();
            let ArchivedLine::Ours(event) = read else { panic!("ours") };
            event
        });
        check.record(&record, line.collect());
        if sequence == 11 {
            // what is here is no note, whoever said that it was thrown away
            for discarded in [6, 4, 8] {
                check.discarded(discarded, "person/ada", "agreed");
            }
        }
    }
    let Comparison { counts, findings, notes, .. } = check.finish();
    let missing =
        "1 event is missing from the archive, although the sink has settled what its routes lead there";
    assert_eq!(said(&findings), [(7, 7, missing), (10, 10, missing)]);
    let discarded = "a dead letter that person/ada discarded: agreed";
    assert_eq!(said(&notes), [(3, 3, "a dead letter"), (4, 4, discarded), (6, 6, discarded)]);
    assert_eq!((counts.dead, counts.discarded, counts.identical), (1, 2, 7));
}

#[test]
fn repeats_are_counted_and_contradictions_are_found() {
    let log = Log::of(20);
    let mut lines = log.lines(&personal());
    lines.push(lines[4].clone());
    lines.push(log.lines(&Form::default())[4].clone());
    let (counts, findings) = Setting::default().run(&log, &lines);
    assert_eq!((counts.repeats, findings.len()), (2, 0));
    lines.push(lines[7].clone());
    let at = lines.len() - 1;
    lines[at].1 = lines[at].1.replace("\"n\":8", "\"n\":80");
    let (_, findings) = Setting::default().run(&log, &lines);
    assert_eq!(said(&findings), [(8, 8, "two events that contradict each other have this sequence")]);
    assert_eq!(findings[0].objects, [7, at as u32]);
}

#[test]
fn below_the_log_the_archive_proves_itself() {
    let log = Log::of(20);
    let setting = Setting { held: 11..=20, ..Setting::default() };
    let lines = log.lines(&personal());
    let (counts, findings) = setting.run(&log, &lines);
    assert_eq!(findings, []);
    assert_eq!((counts.not_held, counts.identical, counts.links), (10, 10, 19));
    let mut changed = lines.clone();
    change(&mut changed, 7, "\"n\":7", "\"n\":8");
    let (_, findings) = setting.run(&log, &changed);
    assert_eq!((findings.len(), findings[0].first, &findings[0].objects[..]), (1, 7, &[6, 7][..]));
    let mut changed = lines;
    change(&mut changed, 10, "Ada", "Bob");
    assert_eq!(setting.run(&log, &changed).1.len(), 1, "the log's first record is the next one");
    // without holders' names nothing is known of cards, and everything of exits
    let setting = Setting { form: Form::default(), held: 11..=20, ..Setting::default() };
    let (counts, findings) = setting.run(&log, &log.lines(&Form::default()));
    assert_eq!((findings.len(), counts.links, counts.unproven), (0, 16, 3));
}

#[test]
fn what_a_repair_lost_is_recovered_and_what_is_beyond_is_found() {
    let log = Log::of(20);
    let (counts, findings) = Setting { gap: 6..=7, ..Setting::default() }.run(&log, &log.lines(&personal()));
    assert_eq!((counts.recovered, counts.identical, findings.len()), (2, 18, 0));
    let (_, findings) = Setting { held: 1..=18, ..Setting::default() }.run(&log, &log.lines(&personal()));
    let beyond = "it is beyond the end of the log";
    assert_eq!(said(&findings), [(19, 19, beyond), (20, 20, beyond)]);
}

#[test]
fn events_of_an_earlier_data_directory_are_counted_apart() {
    let (log, earlier) = (Log::of(5), Log::of(8));
    let mut lines = log.lines(&personal());
    for (at, line) in earlier.lines(&personal()) {
        lines.push((at, line.replace("hq-1.7", "hq-1.3").replace("id-", "old-")));
    }
    let (counts, findings) = Setting { held: 1..=5, ..Setting::default() }.run(&log, &lines);
    assert_eq!((counts.identical, counts.other_logs.get(&"hq-1.3".parse().unwrap())), (5, Some(&8)));
    // their own chain was made with other bytes, which shows
    assert!(
        findings.iter().all(|finding| finding.what.starts_with("the hash of this event")),
        "{findings:?}"
    );
}

#[test]
fn findings_are_bounded() {
    let log = Log::of(1);
    let mut check = ArchiveCheck::new(7, Box::new(|_| Arc::default()));
    for sequence in 2..MAX_ARCHIVE_FINDINGS as u64 + 12 {
        let line = log.lines(&personal())[0].1.replace(&format!("{:020}", 1), &format!("{sequence:020}"));
        let read = ArchivedEvent::read(line.as_bytes(), "hq-1", &(0..=u64::MAX), 0, frame_hash).unwrap();
        let ArchivedLine::Ours(event) = read else { panic!("ours") };
        check.not_held(sequence, vec![event], NotHeld::Beyond);
    }
    let Comparison { findings, findings_left_off, .. } = check.finish();
    assert_eq!((findings.len(), findings_left_off), (MAX_ARCHIVE_FINDINGS, 10));
}
