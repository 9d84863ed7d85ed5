//! Reads back what the `s3` and `file` sinks have written: ndjson, one event a line, plain or compressed, and Parquet.
//!
//! [`lines`] cuts an object into events, [`dir`] and [`s3`] find objects, [`name`] says what their names tell.

mod dir;
mod lines;
mod name;
mod rows;
mod s3;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use aws_config::SdkConfig;
use thiserror::Error;

pub use self::{
    lines::{Line, MAX_LINE_BYTES},
    name::KeyRange,
};
use self::{name::format_of, s3::Bucket};
use super::s3_objects::ObjectFormat;

/// The most objects of one archive: each takes some 200 bytes of memory.
pub const MAX_ARCHIVE_OBJECTS: usize = 4_000_000;
/// The largest object, as it is stored: the largest that one upload to S3 can make.
pub const MAX_OBJECT_BYTES: u64 = 5 << 30;

/// Where an archive lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Objects of a bucket whose keys begin with the prefix and a slash; with an empty one all.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// Without slashes at its ends.
        prefix: String,
    },
    /// Files below a directory.
    Dir(PathBuf),
}

/// One object or file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The key, or the path below the directory.
    pub name: String,
    /// What its name says of its events; `None` if nothing.
    pub range: Option<KeyRange>,
    format: ObjectFormat,
}

/// All objects of an archive, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Those that hold events and were asked for.
    pub objects: Vec<Object>,
    /// How many hold events and were not asked for.
    pub unwanted: u64,
    /// How many others there are.
    pub others: u64,
    /// One of them.
    pub other: Option<String>,
}

/// An archive that can be read. Blocks the thread it is used on.
#[derive(Debug)]
pub struct Archive(Place);

#[derive(Debug)]
enum Place {
    Dir(PathBuf),
    S3(Box<Bucket>),
}

/// Why an archive cannot be read.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// More than there is memory for.
    #[error(
        "{place} has more than {max} objects that are asked for: give a longer prefix, or a directory below"
    )]
    TooManyObjects {
        /// The archive.
        place: String,
        /// How many there may be.
        max: usize,
    },
    /// Larger than any that a sink writes.
    #[error("{name} has {bytes} bytes, no sink writes more than {MAX_OBJECT_BYTES}: move it away")]
    TooLarge {
        /// The object.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// The disk, or what S3 says.
    #[error("{name} cannot be read: {source}")]
    Read {
        /// The archive or object.
        name: String,
        /// What is wrong.
        source: io::Error,
    },
}

impl Listing {
    /// That there is nothing that a sink has written, asked for or not, if that is so: most likely another place is
    /// meant.
    #[must_use]
    pub fn nothing_there(&self) -> Option<String> {
        if !self.objects.is_empty() || self.unwanted > 0 {
            return None;
        }
        let other = self.other.as_ref();
        let others = |other| format!(" ({} there that no sink writes, such as {other})", self.others);
        let others = other.map_or(String::new(), others);
        Some(format!(
            "has no object or file of an s3 or file sink{others}: look at bucket, prefix or directory"
        ))
    }
}

impl Location {
    /// Whether one lies in the other, or they are the same: what is written to one may be read from the other. A
    /// directory that is not there yet is taken as it is written.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::S3 { bucket, prefix }, Self::S3 { bucket: other_bucket, prefix: other_prefix }) => {
                bucket == other_bucket
                    && parts(prefix).zip(parts(other_prefix)).all(|(one, other)| one == other)
            }
            (Self::Dir(one), Self::Dir(other)) => {
                let (one, other) = (real(one), real(other));
                one.starts_with(&other) || other.starts_with(&one)
            }
            _ => false,
        }
    }

    /// `s3://bucket/prefix`, or a directory.
    ///
    /// # Errors
    /// What the text should look like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("s3://") else { return Ok(Self::Dir(text.into())) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(format!("{text:?} has no bucket, expected s3://BUCKET/PREFIX"));
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }
}

fn parts(prefix: &str) -> impl Iterator<Item = &str> {
    prefix.split('/').filter(|part| !part.is_empty())
}

fn real(dir: &Path) -> PathBuf {
    dir.canonicalize().or_else(|_| std::path::absolute(dir)).unwrap_or_else(|_| dir.to_owned())
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Dir(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Archive {
    /// The files below a directory.
    #[must_use]
    pub fn of_dir(path: &Path) -> Self {
        Self(Place::Dir(path.to_owned()))
    }

    /// The objects of a bucket.
    ///
    /// # Errors
    /// There is no thread or descriptor left for its requests.
    pub fn of_bucket(bucket: &str, prefix: &str, load: impl AsyncFnOnce() -> SdkConfig) -> io::Result<Self> {
        Ok(Self(Place::S3(Box::new(Bucket::open(bucket, prefix, load)?))))
    }

    /// Everything there is.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn list(&self) -> Result<Listing, ArchiveError> {
        self.list_some(MAX_ARCHIVE_OBJECTS, &|_| true)
    }

    /// The objects with a name that is wanted, at most `max`.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn list_some(&self, max: usize, wanted: &dyn Fn(&str) -> bool) -> Result<Listing, ArchiveError> {
        let mut listing = Listing::default();
        let mut lister = Lister { listing: &mut listing, max, wanted };
        match &self.0 {
            Place::Dir(path) => dir::list(path, &mut lister)?,
            Place::S3(bucket) => bucket.list(&mut lister)?,
        }
        listing.objects.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listing)
    }

    /// Hands on each line of an object. What is wrong with the object itself is a line, too, its last one.
    ///
    /// # Errors
    /// [`ArchiveError`] if it cannot be had.
    pub fn read(&self, object: &Object, take: &mut dyn FnMut(Line<'_>)) -> Result<(), ArchiveError> {
        match (&self.0, object.format) {
            (Place::Dir(path), ObjectFormat::Ndjson(compression)) => {
                lines::each(dir::open(path, object)?, object, compression, take)
            }
            (Place::S3(bucket), ObjectFormat::Ndjson(compression)) => {
                lines::each(bucket.get(object)?, object, compression, take)
            }
            (Place::Dir(path), ObjectFormat::Parquet) => rows::each(dir::open(path, object)?, object, take),
            (Place::S3(bucket), ObjectFormat::Parquet) => {
                rows::each(rows::whole(bucket.get(object)?, object)?, object, take)
            }
        }
    }
}

/// Takes what is found.
struct Lister<'a> {
    listing: &'a mut Listing,
    max: usize,
    wanted: &'a dyn Fn(&str) -> bool,
}

impl Lister<'_> {
    /// Takes an object, or counts it if it is none of a sink's.
    fn add(&mut self, place: &dyn fmt::Display, name: String, bytes: u64) -> Result<(), ArchiveError> {
        let Some(format) = format_of(&name) else {
            self.listing.others += 1;
            self.listing.other.get_or_insert(name);
            return Ok(());
        };
        if !(self.wanted)(&name) {
            self.listing.unwanted += 1;
            return Ok(());
        }
        if bytes > MAX_OBJECT_BYTES {
            return Err(ArchiveError::TooLarge { name, bytes });
        }
        if self.listing.objects.len() >= self.max {
            return Err(ArchiveError::TooManyObjects { place: place.to_string(), max: self.max });
        }
        let range = KeyRange::of(&name);
        self.listing.objects.push(Object { name, range, format });
        Ok(())
    }
}

fn cannot_read(name: &str) -> impl Fn(io::Error) -> ArchiveError {
    move |source| ArchiveError::Read { name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::test_events::event;

    #[test]
    fn a_location_is_a_bucket_or_a_directory() {
        let s3 = |bucket: &str, prefix: &str| Location::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!(Location::parse("s3://archive/events/"), Ok(s3("archive", "events")));
        assert_eq!(Location::parse("s3://archive"), Ok(s3("archive", "")));
        assert_eq!(Location::parse("sinks/files"), Ok(Location::Dir("sinks/files".into())));
        assert!(Location::parse("s3:///events").is_err());
    }

    #[test]
    fn places_overlap_if_one_lies_in_the_other() {
        let at = |text| Location::parse(text).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("archive")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("archive"), dir.path().join("link")).unwrap();
        let below = |name: &str| Location::Dir(dir.path().join(name));
        for (one, other, expected) in [
            (at("s3://a/events"), at("s3://a/events/"), true),
            (at("s3://a/events"), at("s3://a/events/building=hq"), true),
            (at("s3://a"), at("s3://a/events"), true),
            (at("s3://a/events"), at("s3://a/events2"), false),
            (at("s3://a/events"), at("s3://b/events"), false),
            (at("s3://a/events"), at("events"), false),
            (below("archive"), below("link"), true),
            (below(""), below("archive"), true),
            (below("archive"), below("archive/not-there-yet"), true),
            (below("archive"), below("archive2"), false),
        ] {
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn a_place_without_a_sinks_objects_is_told_from_one_where_none_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::of_dir(dir.path());
        assert!(archive.list().unwrap().nothing_there().is_some());
        std::fs::write(dir.path().join("notes.txt"), "no event").unwrap();
        let nothing = archive.list().unwrap().nothing_there().unwrap();
        assert!(nothing.contains("1 there that no sink writes, such as notes.txt"), "{nothing}");
        std::fs::write(dir.path().join("a.ndjson"), "").unwrap();
        let listing = archive.list_some(10, &|_| false).unwrap();
        assert_eq!((listing.objects.len(), listing.unwanted, listing.nothing_there()), (0, 1, None));
    }

    #[test]
    fn what_sinks_write_is_read_back_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let name = "building=hq/hq-1.1-00000000000000000001-00000000000000000002.ndjson";
        std::fs::create_dir(dir.path().join("building=hq")).unwrap();
        let events = [1, 2].map(|sequence| event("card.lost", "hq", "E1", sequence));
        for format in ObjectFormat::ALL {
            let path = dir.path().join(name.replace(".ndjson", format.ending()));
            std::fs::write(path, format.write(&events).unwrap()).unwrap();
        }
        std::fs::write(dir.path().join("notes.txt"), "no event").unwrap();
        let archive = Archive::of_dir(dir.path());
        let listing = archive.list().unwrap();
        assert_eq!((listing.objects.len(), listing.unwanted, listing.others), (4, 0, 1));
        for object in &listing.objects {
            assert_eq!(object.range.as_ref().map(|range| (range.first, range.last)), Some((1, 2)));
            let mut lines = Vec::new();
            archive.read(object, &mut |line| lines.push(format!("{line:?}"))).unwrap();
            assert_eq!(lines.len(), 2, "{}: {lines:?}", object.name);
            assert!(lines[1].starts_with("Whole"), "{lines:?}");
        }
    }
}
