//! Reads the rows of a file.

use std::{collections::HashMap, io::Cursor};

use actix_web::web::Bytes;
use csv::{ByteRecord, Reader, ReaderBuilder};
use jiff::tz::TimeZone;
use thiserror::Error;

use super::{
    COLUMNS, Column,
    cells::{
        RowCells, parse_card_id, parse_end, parse_flag, parse_id, parse_list, parse_name, parse_start,
        parse_status, parse_version, quoted,
    },
    name_of, names,
};
use crate::{
    domain::{
        ids::{CardId, EmployeeId},
        import::{CardPatch, ImportRow, RowError},
    },
    http::cards::{MAX_GROUPS, MAX_RIGHTS},
};

/// The most rows of one file; at the limit it is refused.
pub const MAX_IMPORT_ROWS: usize = 200_000;
/// What Excel puts before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the rows of a file, some at a time: a file is held once, as it came.
pub struct RowReader {
    body: Bytes,
    reader: Reader<Cursor<Bytes>>,
    columns: Vec<Column>,
    /// Where a date alone begins and ends.
    time_zone: TimeZone,
    /// Cards that were met, with their lines.
    seen: HashMap<CardId, u64>,
    rows: usize,
    lines: LineCounter,
}

/// A row, or all that is wrong with it.
pub type ReadRow = Result<ImportRow, Vec<RowError>>;

/// A file with too many rows.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("has more than {MAX_IMPORT_ROWS} rows: import it in parts, each with the header")]
pub struct TooManyRows;

impl RowReader {
    /// Reads the header.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(body: Bytes, time_zone: TimeZone) -> Result<Self, Vec<RowError>> {
        let skipped = if body.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let body = body.slice(skipped..);
        let reader =
            ReaderBuilder::new().has_headers(false).flexible(true).from_reader(Cursor::new(body.clone()));
        let (seen, lines) = (HashMap::new(), LineCounter::default());
        let mut rows = Self { body, reader, columns: vec![], time_zone, seen, rows: 0, lines };
        let header = rows.next_record().ok_or_else(|| {
            let detail = format!("the file is empty; its first line names the columns, such as {}", names());
            vec![RowError { line: 1, field: "row".to_owned(), detail }]
        })?;
        rows.columns = read_header(&header)?;
        Ok(rows)
    }

    /// The next rows, none at the end.
    ///
    /// # Errors
    /// [`TooManyRows`] in the file.
    pub fn some(&mut self, max: usize) -> Result<Vec<ReadRow>, TooManyRows> {
        let mut some = Vec::new();
        while some.len() < max {
            let Some(raw) = self.next_record() else { break };
            if raw.cells.iter().all(<[u8]>::is_empty) {
                continue; // spreadsheets leave such rows behind
            }
            self.rows += 1;
            if self.rows > MAX_IMPORT_ROWS {
                return Err(TooManyRows);
            }
            some.push(self.read_row(&raw));
        }
        Ok(some)
    }

    fn next_record(&mut self) -> Option<RawRow> {
        let mut cells = ByteRecord::new();
        let begin = offset(&self.reader);
        // from memory nothing fails, and every byte is taken
        let is_there = self.reader.read_byte_record(&mut cells).unwrap_or_default();
        if !is_there {
            return None;
        }
        let raw = self.body.get(begin..offset(&self.reader)).unwrap_or_default();
        let blank = raw.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let line = self.lines.line_of(&self.body, begin + blank);
        let has_open_quote = raw.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
        Some(RawRow { line, cells, has_open_quote })
    }

    fn read_row(&mut self, raw: &RawRow) -> ReadRow {
        let mut cells = RowCells { line: raw.line, errors: vec![] };
        if raw.has_open_quote {
            cells.error("row", "a quotation mark is not closed, or stands in a cell without quotation marks");
            return Err(cells.errors);
        }
        if raw.cells.len() != self.columns.len() {
            let (found, expected) = (raw.cells.len(), self.columns.len());
            cells.error("row", format!("has {found} cells where the header has {expected}"));
            return Err(cells.errors);
        }
        let mut card_id = None;
        let mut row = CardPatch::default();
        let (mut status, mut version) = (None, None);
        for (column, cell) in self.columns.iter().zip(raw.cells.iter()) {
            let field = name_of(*column);
            let Some(text) = cells.text(field, cell) else { continue };
            let text = if *column == Column::HolderName { text } else { text.trim() };
            let zone = &self.time_zone;
            match column {
                Column::CardId => card_id = cells.required(field, text, parse_card_id),
                Column::EmployeeId => row.employee_id = cells.value(field, text, parse_id::<EmployeeId>),
                Column::HolderName => row.holder_name = cells.cell(field, text, parse_name),
                Column::Buildings => {
                    row.buildings = cells.cell(field, text, |text| parse_list(text, MAX_RIGHTS))
                }
                Column::Gates => row.gates = cells.cell(field, text, |text| parse_list(text, MAX_RIGHTS)),
                Column::Groups => row.groups = cells.cell(field, text, |text| parse_list(text, MAX_GROUPS)),
                Column::ValidFrom => row.valid_from = cells.cell(field, text, |text| parse_start(text, zone)),
                Column::ValidUntil => row.valid_until = cells.cell(field, text, |text| parse_end(text, zone)),
                Column::AntiPassbackExempt => {
                    row.anti_passback_exempt = cells.cell(field, text, parse_flag);
                }
                Column::Responder => row.responder = cells.cell(field, text, parse_flag),
                Column::Status => status = cells.value(field, text, parse_status),
                Column::Version => version = cells.value(field, text, parse_version),
            }
        }
        if let Some(card_id) = &card_id
            && let Some(first) = self.seen.insert(card_id.clone(), raw.line)
        {
            self.seen.insert(card_id.clone(), first);
            cells.error("card_id", format!("is on line {first} already"));
        }
        match card_id {
            Some(card_id) if cells.errors.is_empty() => {
                Ok(ImportRow { line: raw.line, card_id, patch: row, status, version, unknown: vec![] })
            }
            _ => Err(cells.errors),
        }
    }
}

struct RawRow {
    line: u64,
    cells: ByteRecord,
    has_open_quote: bool,
}

fn offset(reader: &Reader<Cursor<Bytes>>) -> usize {
    usize::try_from(reader.position().byte()).unwrap_or(usize::MAX)
}

/// Counts lines as far as it was asked.
#[derive(Default)]
struct LineCounter {
    counted_to: usize,
    ended: u64,
}

impl LineCounter {
    /// The line of a byte, from 1. Bytes come in order.
    fn line_of(&mut self, body: &[u8], at: usize) -> u64 {
        let more = body.get(self.counted_to..at).unwrap_or_default();
        self.ended += more.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.counted_to = at;
        self.ended + 1
    }
}

fn read_header(header: &RawRow) -> Result<Vec<Column>, Vec<RowError>> {
    let mut cells = RowCells { line: header.line, errors: vec![] };
    let mut columns = Vec::new();
    if header.cells.len() > COLUMNS.len() {
        let (found, known) = (header.cells.len(), COLUMNS.len());
        cells.error("row", format!("has {found} cells; there are {known} columns: {}", names()));
        return Err(cells.errors);
    }
    for cell in &header.cells {
        let text = String::from_utf8_lossy(cell);
        let name = text.trim();
        match COLUMNS.iter().find(|(_, known)| *known == name) {
            Some((column, _)) if columns.contains(column) => {
                cells.error(name, "is there twice");
            }
            Some((column, _)) => columns.push(*column),
            None if header.cells.len() == 1 && name.contains([';', '\t']) => {
                cells.error("row", "has one cell only: separate columns by commas, lists by semicolons");
            }
            None => cells.error("row", format!("{} is no column; columns are {}", quoted(name), names())),
        }
    }
    if cells.errors.is_empty() && !columns.contains(&Column::CardId) {
        cells.error("card_id", "is required in the header");
    }
    if cells.errors.is_empty() { Ok(columns) } else { Err(cells.errors) }
}
