//! Parquet: a batch of events as one file, and such a file read back event by event.
//!
//! One row group a file, zstd; the columns of [`event_columns`](super::event_columns) and the whole event. Reading
//! holds each row's columns against its event: an auditor who queries columns is to see what the event says.
//!
//! A file carries a checksum of its own ([`parquet_seal`](super::parquet_seal)), which is checked before anything is
//! decoded.

use std::{fs::File, io, sync::Arc};

use bytes::Bytes;
use parquet::{
    basic::{Compression, ZstdLevel},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, ByteArrayType, DataType, Int64Type},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
        reader::{ChunkReader, FileReader, RowGroupReader, SerializedFileReader},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};
use thiserror::Error;

use super::{
    event_columns::{COLUMNS, Cell, Column, EVENT_COLUMN, Kind, cells},
    parquet_seal::{SEAL_KEY, is_whole, open_seal, seal},
};

/// zstd's own default, as for ndjson.
const ZSTD_LEVEL: i32 = 3;
/// Rows that are read at once.
const READ_ROWS: usize = 256;
/// Columns in which nearly every value is another one: a dictionary would only cost.
const WITHOUT_DICTIONARY: [&str; 6] = [EVENT_COLUMN, "id", "sequence", "time", "chainhash", "swipe_id"];
/// Levels of a column without nesting: null, and there.
const NULL_LEVEL: i16 = 0;
const VALUE_LEVEL: i16 = 1;

/// One row of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The whole event.
    pub event: &'a [u8],
    /// A column that does not say what the event says.
    pub differs_in: Option<&'static str>,
}

/// A file of these events. The same events are the same bytes.
///
/// # Errors
/// Whatever the writer says; out of memory is all that is left to it.
pub fn write(events: &[Bytes]) -> io::Result<Vec<u8>> {
    let mut file = write_events(events).map_err(io::Error::other)?;
    seal(&mut file)?;
    Ok(file)
}

fn write_events(events: &[Bytes]) -> Result<Vec<u8>, ParquetError> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL)?;
    let mut properties = WriterProperties::builder().set_compression(Compression::ZSTD(level));
    for name in WITHOUT_DICTIONARY {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    // the least and the greatest event mean nothing
    properties = properties.set_column_statistics_enabled(EVENT_COLUMN.into(), EnabledStatistics::None);
    let schema = Arc::new(parse_message_type(&schema())?);
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))?;
    let mut row_group = file.next_row_group()?;
    let mut rows: Vec<_> = events.iter().map(|event| cells(event).into_iter()).collect();
    for column in &COLUMNS {
        let cells: Vec<Option<Cell>> = rows.iter_mut().map(|row| row.next().flatten()).collect();
        write_column(&mut row_group, column.kind, cells)?;
    }
    let events: Vec<ByteArray> = events.iter().map(|event| event.clone().into()).collect();
    write_values::<ByteArrayType>(&mut row_group, &events, None)?;
    row_group.close()?;
    file.append_key_value_metadata(KeyValue::new(SEAL_KEY.to_owned(), open_seal()));
    file.into_inner()
}

/// The file's schema, in Parquet's own words.
fn schema() -> String {
    let columns: String = (COLUMNS.iter())
        .map(|Column { name, kind, .. }| match kind {
            Kind::Text => format!("optional binary {name} (STRING);\n"),
            Kind::Number => format!("optional int64 {name};\n"),
            Kind::Moment => format!("optional int64 {name} (TIMESTAMP(MILLIS,true));\n"),
        })
        .collect();
    format!("message event {{\n{columns}required binary {EVENT_COLUMN} (STRING);\n}}")
}

fn write_column(
    row_group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    kind: Kind,
    cells: Vec<Option<Cell>>,
) -> Result<(), ParquetError> {
    let levels: Vec<i16> =
        cells.iter().map(|cell| if cell.is_some() { VALUE_LEVEL } else { NULL_LEVEL }).collect();
    let values = cells.into_iter().flatten();
    match kind {
        Kind::Text => {
            let texts: Vec<ByteArray> = values.filter_map(Cell::text).collect();
            write_values::<ByteArrayType>(row_group, &texts, Some(&levels))
        }
        Kind::Number | Kind::Moment => {
            let numbers: Vec<i64> = values.filter_map(Cell::number).collect();
            write_values::<Int64Type>(row_group, &numbers, Some(&levels))
        }
    }
}

fn write_values<T: DataType>(
    row_group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let mut column = row_group.next_column()?.ok_or_else(|| damage("more columns than the schema has"))?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// No file of a sink, or damaged.
    #[error("it is not a Parquet file as a sink wrote it: {0}")]
    Damaged(#[from] ParquetError),
    /// What the system says.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Hands on each row until `take` has enough, which it says with `false`.
///
/// # Errors
/// [`ReadError`]; of a file without its checksum no row was handed on.
pub fn each(mut file: File, take: impl FnMut(Row<'_>) -> bool) -> Result<(), ReadError> {
    if !is_whole(&mut file)? {
        return Err(damage("its checksum is missing or another one").into());
    }
    Ok(decode(file, take)?)
}

fn decode(
    file: impl ChunkReader + 'static,
    mut take: impl FnMut(Row<'_>) -> bool,
) -> Result<(), ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    for at in 0..reader.num_row_groups() {
        let row_group = reader.get_row_group(at)?;
        let mut events = Cells::open(&*row_group, EVENT_COLUMN)?
            .ok_or_else(|| damage("there is no column of whole events"))?;
        let mut columns = Vec::with_capacity(COLUMNS.len());
        for (at, column) in COLUMNS.iter().enumerate() {
            if let Some(cells) = Cells::open(&*row_group, column.name)? {
                columns.push((at, column, cells));
            }
        }
        let mut left = usize::try_from(row_group.metadata().num_rows()).unwrap_or(0);
        while left > 0 {
            let rows = left.min(READ_ROWS);
            left -= rows;
            let events = events.read(rows)?;
            let found = columns.iter_mut().map(|(at, column, cells)| Ok((*at, *column, cells.read(rows)?)));
            let found = found.collect::<Result<Vec<_>, ParquetError>>()?;
            if !each_row(&events, &found, &mut take)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn each_row(
    events: &[Option<Cell>],
    columns: &[(usize, &'static Column, Vec<Option<Cell>>)],
    take: &mut impl FnMut(Row<'_>) -> bool,
) -> Result<bool, ParquetError> {
    for (row, event) in events.iter().enumerate() {
        let Some(Cell::Text(event)) = event else { return Err(damage("a row has no event")) };
        let said = cells(event.as_bytes());
        let differs = columns.iter().find(|(at, _, found)| found.get(row) != said.get(*at));
        let differs_in = differs.map(|(_, column, _)| column.name);
        if !take(Row { event: event.as_bytes(), differs_in }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A column that is being read.
enum Cells {
    Text(ColumnReaderImpl<ByteArrayType>),
    Number(ColumnReaderImpl<Int64Type>),
}

impl Cells {
    /// `None` if the file does not have it.
    fn open(row_group: &dyn RowGroupReader, name: &str) -> Result<Option<Self>, ParquetError> {
        let columns = row_group.metadata().schema_descr().columns();
        let Some(at) = columns.iter().position(|column| column.path().string() == name) else {
            return Ok(None);
        };
        match row_group.get_column_reader(at)? {
            ColumnReader::ByteArrayColumnReader(reader) => Ok(Some(Self::Text(reader))),
            ColumnReader::Int64ColumnReader(reader) => Ok(Some(Self::Number(reader))),
            _ => Err(damage("a column has a type that no sink writes")),
        }
    }

    /// The next rows, exactly so many.
    fn read(&mut self, rows: usize) -> Result<Vec<Option<Cell>>, ParquetError> {
        match self {
            Self::Text(reader) => read_cells(reader, rows, |text: ByteArray| {
                let text = String::from_utf8(text.data().to_vec());
                text.map(Cell::Text).map_err(|_| damage("a text is not UTF-8"))
            }),
            Self::Number(reader) => read_cells(reader, rows, |number| Ok(Cell::Number(number))),
        }
    }
}

fn read_cells<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    cell: impl Fn(T::T) -> Result<Cell, ParquetError>,
) -> Result<Vec<Option<Cell>>, ParquetError> {
    let (mut values, mut levels) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    let mut read = 0;
    while read < rows {
        let (more, _, _) = reader.read_records(rows - read, Some(&mut levels), None, &mut values)?;
        if more == 0 {
            return Err(damage("a column has fewer rows than the file"));
        }
        read += more;
    }
    // a column that cannot be null has no levels
    levels.resize(rows, VALUE_LEVEL);
    let mut values = values.into_iter();
    let mut next = |level| if level == NULL_LEVEL { None } else { values.next().map(&cell) };
    levels.into_iter().map(|level| next(level).transpose()).collect()
}

fn damage(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

impl Cell {
    fn text(self) -> Option<ByteArray> {
        if let Self::Text(text) = self { Some(ByteArray::from(text.into_bytes())) } else { None }
    }

    fn number(self) -> Option<i64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;
    use crate::sinks::test_events::{event, event_with};

    fn events() -> Vec<Bytes> {
        let many = (1..=600).map(|sequence| event("access.exit.recorded", "hq", "E1", sequence).body);
        let card = json!({ "card_id": "C1", "version": 3, "status": "lost", "note": "x".repeat(3_000) });
        many.chain([event_with("card.lost", "", "E1", 601, card).body]).collect()
    }

    type Rows = Vec<(Vec<u8>, Option<&'static str>)>;

    fn read(bytes: &[u8]) -> Result<Rows, ReadError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut rows = Vec::new();
        each(file, |row| {
            rows.push((row.event.to_vec(), row.differs_in));
            true
        })?;
        Ok(rows)
    }

    #[test]
    fn what_was_written_is_read_back_and_the_same_events_are_the_same_bytes() {
        let events = events();
        let bytes = write(&events).unwrap();
        assert_eq!(bytes, write(&events).unwrap());
        let expected: Vec<_> = events.iter().map(|event| (event.to_vec(), None)).collect();
        assert_eq!(read(&bytes).unwrap(), expected);
    }

    #[test]
    fn a_column_that_does_not_say_what_the_event_says_is_found() {
        let at = COLUMNS.iter().position(|column| column.name == "employee_id").unwrap();
        let found = [(at, &COLUMNS[at], vec![Some(Cell::Text("E2".to_owned()))])];
        let event = Cell::Text(String::from_utf8(events()[0].to_vec()).unwrap());
        let mut seen = Vec::new();
        each_row(&[Some(event)], &found, &mut |row: Row<'_>| {
            seen.push(row.differs_in);
            true
        })
        .unwrap();
        assert_eq!(seen, [Some("employee_id")]);
    }

    #[test]
    fn damage_anywhere_is_an_error_and_no_panic() {
        let whole = write(&events()[599..]).unwrap();
        let said = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(said(&damaged).contains("checksum"), "byte {at}");
        }
        for end in (0..whole.len()).step_by(7) {
            assert!(said(&whole[..end]).contains("checksum"), "cut at {end}");
        }
    }

    #[test]
    fn a_file_of_others_is_an_error_also_if_it_is_sealed() {
        let schema = Arc::new(parse_message_type("message other { required int64 id; }").unwrap());
        let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
        let mut row_group = file.next_row_group().unwrap();
        write_values::<Int64Type>(&mut row_group, &[1], None).unwrap();
        row_group.close().unwrap();
        file.append_key_value_metadata(KeyValue::new(SEAL_KEY.to_owned(), open_seal()));
        let mut file = file.into_inner().unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("checksum"));
        seal(&mut file).unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("no column of whole events"), "{error}");
    }
}
