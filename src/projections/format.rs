//! A snapshot as lines of JSON, for any reader and writer.
//!
//! ```json
//! {"snapshot":2,"log":"hq-1.1795188056","sequence":"00000000000000000042","hash":"…","time":"2026-11-20T08:01:02.345Z"}
//! {"key":"card/04A2B9C1","value":{"employee_id":"E1001","status":"active","version":1, …}}
//! {"entries":1,"sha256":"…"}
//! ```
//!
//! The header says of which log and after which event this is the state, with the hash of that event's record and the
//! time of the last event. Entries are sorted by key, see `entry.rs`. The footer counts them, and has the SHA-256 of
//! every byte before it. Members that a reader does not know are passed over. A change that older programs would read
//! wrongly gets the next version; this program then still reads the ones before (a golden file of each is in
//! `tests/golden/snapshots`).

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::entry::Line;
use crate::domain::{hex::hex, ids::LogName, time::Timestamp};

/// The version that is written, and the newest that is read. 2 has groups of cards, modes and rosters: a program that
/// passed over them would open every gate to cards with groups, and let everyone into a building in lockdown.
pub const VERSION: u32 = 2;

/// The longest line, in bytes. No event is as long, and an entry holds less than its event.
pub const MAX_LINE_BYTES: u64 = 4 << 20;

const ENTRY_BEGINS: &[u8] = b"{\"key\":";

/// Which state this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The log it was made from.
    pub log: LogName,
    /// The last event in it.
    pub sequence: u64,
    /// The hash of that event's record, in hex.
    pub hash: String,
    /// The time of that event.
    pub time: Timestamp,
}

/// Why bytes are not a whole snapshot.
#[derive(Debug, Error)]
pub enum FormatError {
    /// They cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Written by a newer program.
    #[error("it has version {0}, this program reads up to version {VERSION}: use the program that wrote it")]
    Newer(u32),
    /// A line that is not what should stand there.
    #[error("line {number}: {what}")]
    Line {
        /// From 1.
        number: u64,
        /// What is wrong.
        what: String,
    },
}

#[derive(Serialize, Deserialize)]
struct HeaderLine {
    snapshot: u32,
    log: String,
    sequence: String,
    hash: String,
    time: Timestamp,
}

#[derive(Deserialize)]
struct VersionOnly {
    snapshot: u32,
}

#[derive(Serialize)]
struct EntryOut<'a> {
    key: &'a str,
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct EntryIn<'a> {
    key: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct FooterLine {
    entries: u64,
    sha256: String,
}

/// Writes one snapshot.
pub struct Encoder<W: Write> {
    to: W,
    hash: Sha256,
    entries: u64,
}

impl<W: Write> Encoder<W> {
    /// Begins with the header.
    ///
    /// # Errors
    /// What the writer says.
    pub fn new(to: W, header: &Header) -> io::Result<Self> {
        let mut encoder = Self { to, hash: Sha256::new(), entries: 0 };
        encoder.write(&HeaderLine {
            snapshot: VERSION,
            log: header.log.to_string(),
            sequence: format!("{:020}", header.sequence),
            hash: header.hash.clone(),
            time: header.time,
        })?;
        Ok(encoder)
    }

    /// Adds an entry; its key comes after the one before.
    ///
    /// # Errors
    /// What the writer says; the value is not JSON.
    pub fn add(&mut self, line: &Line) -> io::Result<()> {
        self.entries += 1;
        self.write(&EntryOut { key: &line.key, value: serde_json::from_str(&line.value)? })
    }

    /// Ends with the footer, and gives back the writer.
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(mut self) -> io::Result<W> {
        let sha256 = hex(&self.hash.clone().finalize());
        self.write(&FooterLine { entries: self.entries, sha256 })?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.hash.update(&bytes);
        self.to.write_all(&bytes)
    }
}

/// Reads one snapshot: an iterator over its entries. Nothing of it may be believed until it has come to its end without
/// an error.
pub struct Decoder<R: BufRead> {
    from: R,
    header: Header,
    hash: Sha256,
    line: Vec<u8>,
    number: u64,
    last_key: Option<String>,
    entries: u64,
    is_over: bool,
}

impl<R: BufRead> Decoder<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn new(from: R) -> Result<Self, FormatError> {
        let nothing = Header {
            log: LogName { server: String::new(), epoch: 0 },
            sequence: 0,
            hash: String::new(),
            time: Timestamp::from_millis(0),
        };
        let mut decoder = Self {
            from,
            header: nothing,
            hash: Sha256::new(),
            line: Vec::new(),
            number: 0,
            last_key: None,
            entries: 0,
            is_over: false,
        };
        decoder.next_line()?;
        decoder.header = decoder.read_header()?;
        decoder.hash.update(&decoder.line);
        Ok(decoder)
    }

    /// Which state this is.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn read_header(&self) -> Result<Header, FormatError> {
        let version: VersionOnly = self.json()?;
        if version.snapshot > VERSION {
            return Err(FormatError::Newer(version.snapshot));
        }
        // An older version is read here in its own form, and made the newest one.
        let HeaderLine { log, sequence, hash, time, .. } = self.json()?;
        let log = log.parse().map_err(|error: crate::domain::ids::InvalidLogName| self.wrong(error))?;
        let sequence = sequence.parse().map_err(|_| self.wrong(format!("{sequence:?} is no sequence")))?;
        Ok(Header { log, sequence, hash, time })
    }

    fn read_next(&mut self) -> Result<Option<Line>, FormatError> {
        self.next_line()?;
        if !self.line.starts_with(ENTRY_BEGINS) {
            self.check_footer()?;
            return Ok(None);
        }
        let EntryIn { key, value } = self.json()?;
        let line = Line { key, value: value.get().to_owned() };
        if self.last_key.as_ref().is_some_and(|last| *last >= line.key) {
            return Err(self.wrong(format!("the key {:?} does not come after the one before", line.key)));
        }
        self.hash.update(&self.line);
        self.last_key = Some(line.key.clone());
        self.entries += 1;
        Ok(Some(line))
    }

    fn check_footer(&mut self) -> Result<(), FormatError> {
        let footer: FooterLine = self.json()?;
        let sha256 = hex(&self.hash.clone().finalize());
        if footer.sha256 != sha256 {
            return Err(self.wrong(format!("the SHA-256 is {sha256}, the footer says {}", footer.sha256)));
        }
        if footer.entries != self.entries {
            let (held, claimed) = (self.entries, footer.entries);
            return Err(self.wrong(format!("there are {held} entries, the footer says {claimed}")));
        }
        if !self.from.fill_buf()?.is_empty() {
            return Err(self.wrong("something follows the footer"));
        }
        Ok(())
    }

    /// The next line with its end.
    fn next_line(&mut self) -> Result<(), FormatError> {
        self.line.clear();
        self.number += 1;
        (&mut self.from).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line)?;
        if self.line.ends_with(b"\n") { Ok(()) } else { Err(self.wrong("it is cut off here")) }
    }

    fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, FormatError> {
        serde_json::from_slice(&self.line).map_err(|error| self.wrong(error))
    }

    fn wrong(&self, what: impl ToString) -> FormatError {
        FormatError::Line { number: self.number, what: what.to_string() }
    }
}

impl<R: BufRead> Iterator for Decoder<R> {
    type Item = Result<Line, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.read_next().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}
