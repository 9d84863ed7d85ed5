//! Files of cards against golden reports, and a file that was exported says what the cards say.
//!
//! `tests/golden/import/*.csv` beside `*.json`, what an import of it into the same few cards reports. `BLESS=1` writes
//! the reports anew.

use std::{fs, path::PathBuf};

use actix_web::web::Bytes;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::json;

use super::{
    card_line, header_line,
    reader::{MAX_IMPORT_ROWS, RowReader},
};
use crate::domain::{
    card::Card,
    directory::Directory,
    event::Body,
    import::{ImportRow, MAX_LISTED_ROW_ERRORS, Report, RowError},
};

/// As the server does with a file; `apply` takes each row into the directory.
fn import(directory: &mut Directory, file: &[u8], apply: bool) -> Result<Report, Vec<RowError>> {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let mut reader = RowReader::open(Bytes::copy_from_slice(file), zone)?;
    let mut report = Report::default();
    loop {
        let some = reader.some(2).unwrap();
        if some.is_empty() {
            return Ok(report);
        }
        for row in some {
            let decided = row.map(with_unknown_group).and_then(|row| row.decide(directory));
            report.take(&decided);
            if let (true, Ok(Some(Body::Card(changed)))) = (apply, decided) {
                directory.insert(changed.card);
            }
        }
    }
}

/// The only group that is not known.
fn with_unknown_group(row: ImportRow) -> ImportRow {
    let named = format!("{:?}", row.patch.groups);
    let detail = "this server has no group gone".to_owned();
    let error = RowError { line: row.line, field: "groups".to_owned(), detail };
    ImportRow { unknown: if named.contains("gone") { vec![error] } else { vec![] }, ..row }
}

fn directory(cards: &[serde_json::Value]) -> Directory {
    let mut directory = Directory::default();
    cards.iter().for_each(|card| directory.insert(serde_json::from_value(card.clone()).unwrap()));
    directory
}

/// What is there before each golden import.
fn few_cards() -> Directory {
    directory(&[
        json!({ "card_id": "A1", "employee_id": "E1", "holder_name": "Ada", "buildings": ["hq"], "status": "active",
                "version": 3 }),
        json!({ "card_id": "L1", "employee_id": "E2", "status": "lost", "version": 2 }),
        json!({ "card_id": "R1", "employee_id": "E3", "holder_name": "Rob", "status": "revoked", "version": 2 }),
        json!({ "card_id": "G1", "employee_id": "E4", "groups": ["gone"], "valid_until": "2026-06-01T00:00:00Z",
                "status": "active", "version": 1 }),
    ])
}

#[test]
fn golden_reports() {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/import"));
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "csv"));
    files.sort();
    assert!(files.len() >= 5);
    for file in files {
        let mut cards = few_cards();
        let bytes = fs::read(&file).unwrap();
        let looked_at = import(&mut cards, &bytes, false);
        assert_eq!(cards, few_cards(), "looking changes nothing");
        let report = match import(&mut cards, &bytes, true) {
            Ok(report) => {
                assert_eq!(
                    looked_at.as_ref(),
                    Ok(&report),
                    "each card is named once, so looking finds the same"
                );
                let cards: Vec<&Card> = cards.cards_after(None).collect();
                json!({ "report": report, "cards": cards })
            }
            Err(errors) => json!({ "header": errors }),
        };
        // again: nothing more changes, and nothing else is wrong
        if let Ok(first) = import(&mut few_cards(), &bytes, false) {
            let again = import(&mut cards, &bytes, true).unwrap();
            assert_eq!(again.updated + again.registered, 0, "{}", file.display());
            assert_eq!(again.unchanged, first.registered + first.updated + first.unchanged);
        }
        let text = serde_json::to_string_pretty(&report).unwrap() + "\n";
        let golden = file.with_extension("json");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&golden).unwrap(), "{}", file.display());
    }
}

#[test]
fn long_reports_are_cut_and_counted() {
    let mut file = "card_id\r\n".to_owned();
    (0..MAX_LISTED_ROW_ERRORS + 7).for_each(|number| file.push_str(&format!("a b{number}\r\n")));
    let report = import(&mut Directory::default(), file.as_bytes(), true).unwrap();
    assert_eq!((report.errors.len(), report.errors_left_off), (MAX_LISTED_ROW_ERRORS, 7));
    assert_eq!((report.rows, report.rejected), (report.rejected, MAX_LISTED_ROW_ERRORS as u64 + 7));
    let mut sum = Report::default();
    (0..2).for_each(|_| sum.add(&report));
    assert_eq!(
        (sum.errors.len(), sum.errors_left_off),
        (MAX_LISTED_ROW_ERRORS, 7 + MAX_LISTED_ROW_ERRORS as u64 + 7)
    );
}

#[test]
fn a_file_with_too_many_rows_is_refused() {
    let file = format!("card_id\n{}", "A\n".repeat(MAX_IMPORT_ROWS + 1));
    let mut reader = RowReader::open(file.into(), TimeZone::UTC).unwrap();
    assert!((0..).find_map(|_| reader.some(10_000).err()).is_some());
}

fn names() -> impl Strategy<Value = Option<String>> {
    prop::option::of("['=+@\t\r\n\",;x -]{0,5}|[ -~äß€]{0,20}")
}

fn lists(element: &'static str) -> impl Strategy<Value = Option<Vec<String>>> {
    prop::option::of(prop::collection::vec(element, 0..4))
}

fn cards() -> impl Strategy<Value = Vec<serde_json::Value>> {
    let card = (
        ("[A-Za-z0-9:_-]{1,8}", "[A-Za-z0-9:_.@-]{1,8}", names()),
        (lists("[a-z_-]{1,3}"), lists("[a-z_-]{1,3}(/[a-z_-]{1,3})?"), lists("[a-z_-]{1,3}")),
        (
            prop::option::of(0..4_000_000_000_000_u64),
            prop::option::of(5_000_000_000_000..250_000_000_000_000_u64),
        ),
        (
            any::<bool>(),
            any::<bool>(),
            prop::sample::select(vec!["active", "suspended", "lost", "revoked"]),
            1..9_u64,
        ),
    );
    let card = card.prop_map(|((card_id, employee_id, name), (buildings, gates, groups), (from, until), rest)| {
        let time = |millis: Option<u64>| {
            millis.map(|millis| crate::domain::time::Timestamp::from_millis(millis.cast_signed()).to_string())
        };
        json!({ "card_id": card_id, "employee_id": employee_id, "holder_name": name, "buildings": buildings,
                "gates": gates, "groups": groups, "valid_from": time(from), "valid_until": time(until),
                "anti_passback_exempt": rest.0, "responder": rest.1, "status": rest.2, "version": rest.3 })
    });
    prop::collection::vec(card, 0..8)
}

fn exported(directory: &Directory) -> String {
    directory.cards_after(None).fold(header_line(), |text, card| text + &card_line(card))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn an_exported_file_changes_nothing(cards in cards()) {
        let mut directory = directory(&cards);
        let file = exported(&directory);
        let report = import(&mut directory, file.as_bytes(), true).unwrap();
        let expected = Report { rows: report.rows, unchanged: directory.len() as u64, ..Report::default() };
        prop_assert_eq!(&report, &expected);
    }

    /// Into an empty server, without what an import does not say: the same cards, in use.
    #[test]
    fn an_exported_file_makes_the_same_cards(cards in cards(), order in any::<u64>()) {
        let before = directory(&cards);
        let text = exported(&before);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        // the columns in any order
        let mut columns: Vec<usize> = (0..10).collect();
        columns.sort_by_key(|column| order.rotate_left(*column as u32 * 5) % 31);
        let mut writer = csv::WriterBuilder::new().from_writer(vec![]);
        rows.iter().for_each(|row| writer.write_record(columns.iter().map(|column| &row[*column])).unwrap());
        let mut after = Directory::default();
        let report = import(&mut after, &writer.into_inner().unwrap(), true).unwrap();
        prop_assert_eq!((report.rejected, report.registered), (0, before.len() as u64), "{:?}", report.errors);
        for card in before.cards_after(None) {
            let mut details = card.details.clone();
            details.holder_name = details.holder_name.filter(|name| !name.is_empty());
            prop_assert_eq!(&after.find(&card.card_id).unwrap().details, &details);
        }
    }

    /// No bytes stop it, and every line is accounted for.
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(prop_oneof![
        any::<u8>(), prop::sample::select(b",;\"\n\r'=A1".to_vec())
    ], 0..200)) {
        let file = [b"card_id,holder_name\n".as_slice(), &bytes].concat();
        let report = import(&mut few_cards(), &file, true).unwrap();
        prop_assert_eq!(report.rows, report.registered + report.updated + report.unchanged + report.rejected);
        let lines = file.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        prop_assert!(report.errors.iter().all(|error| (2..=lines).contains(&error.line)));
    }
}
