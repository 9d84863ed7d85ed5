//! Every limit and default of the configuration, by name, with its unit last.

use std::{ops::RangeInclusive, time::Duration};

use crate::space::MIN_LOG_BYTES;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const KIB: u64 = 1_024;
const MIB: u64 = 1_024 * KIB;
const GIB: u64 = 1_024 * MIB;
const TIB: u64 = 1_024 * GIB;

/// The largest file that is read: all limits below used up stay well under it.
pub const MAX_FILE_BYTES: u64 = 4 * MIB;
/// Errors that are kept and shown; a file with more is not this program's.
pub const MAX_ERRORS: usize = 1_000;
/// Entries of `[[buildings]]`.
pub const MAX_BUILDINGS: usize = 64;
/// Gates of one building.
pub const MAX_GATES_PER_BUILDING: usize = 1_000;
/// Entries of `[[groups]]`.
pub const MAX_GROUPS: usize = 1_000;
/// Rules in `allow` of one group, and as many in `deny`. With the most groups of a card a decision looks at some
/// thousand of them, well under a millisecond.
pub const MAX_RULES_PER_GROUP: usize = 64;
/// Entries of `[[schedules]]`.
pub const MAX_SCHEDULES: usize = 256;
/// Entries of `weekly` of one schedule.
pub const MAX_WINDOWS_PER_SCHEDULE: usize = 64;
/// Holidays of one schedule.
pub const MAX_HOLIDAYS: usize = 1_000;
/// Tables under `[sinks]`.
pub const MAX_SINKS: usize = 64;
/// Entries of `[[routes]]`.
pub const MAX_ROUTES: usize = 256;
/// Entries of `[[tests]]`.
pub const MAX_TESTS: usize = 1_000;
/// Patterns of one route.
pub const MAX_PATTERNS_PER_ROUTE: usize = 64;
/// Fields that one route drops, and as many that it adds.
pub const MAX_EDITED_FIELDS: usize = 64;
/// Bytes of all values together that one route adds to an event, as JSON.
pub const MAX_ADDED_BYTES: usize = 8 * 1_024;
/// Ids of servers, buildings, gates and sinks, and names of routes. All are of `A-Z a-z 0-9 _ -`.
pub const MAX_ID_BYTES: usize = 64;
/// A building's name, for people.
pub const MAX_NAME_CHARS: usize = 128;
/// Audiences of a provider's tokens.
pub const MAX_AUDIENCES: usize = 16;
/// An audience, and the name of the claim that lists roles.
pub const MAX_CLAIM_BYTES: usize = 256;
/// Holders inside one building.
pub const OCCUPANCY_PEOPLE: RangeInclusive<u64> = 1..=1_000_000;
/// Records per second of a sink's `rate_limit`.
pub const RATE_LIMIT_PER_SECOND: RangeInclusive<u64> = 1..=1_000_000;
/// Requests per second of each device: `[server] rate_limit`.
pub const DEVICE_RATE_PER_SECOND: RangeInclusive<u64> = 1..=100_000;
/// Entries of `[server] hosts`.
pub const MAX_HOSTS: usize = 64;
/// `presence_timeout`; zero means never.
pub const PRESENCE_TIMEOUT: RangeInclusive<Duration> = SECOND..=Duration::from_secs(366 * 24 * 60 * 60);
/// `regrant_window`; zero is off. Whoever hands a card back within it lets another one in.
pub const REGRANT_WINDOW: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(5 * 60);
/// `passage_timeout` of a gate that confirms.
pub const PASSAGE_TIMEOUT: RangeInclusive<Duration> = SECOND..=HOUR;
/// `[wal] retention`.
pub const WAL_RETENTION: RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_secs(3_660 * 24 * 60 * 60);
/// `[wal] snapshot_every`.
pub const WAL_SNAPSHOT_EVERY: RangeInclusive<Duration> = SECOND..=DAY;
/// `[wal] max_bytes`.
pub const WAL_BYTES: RangeInclusive<u64> = MIN_LOG_BYTES..=64 * TIB;
/// `max_age` of a batch that becomes an object or a file.
pub const BATCH_AGE: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;
/// `max_bytes` of an S3 object; 5 GiB is the service's limit for one PUT.
pub const S3_OBJECT_BYTES: RangeInclusive<u64> = KIB..=5 * GIB;
/// `max_bytes` of a file of the `file` sink.
pub const FILE_BYTES: RangeInclusive<u64> = KIB..=TIB;

/// `[server] listen` unless it is given: this machine only.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
/// `[server] data_dir` unless it is given, relative to the file.
pub const DEFAULT_DATA_DIR: &str = "data";
/// `[auth] devices` unless it is given, inside the data dir.
pub const DEFAULT_DEVICES_FILE: &str = "devices.toml";
/// `roles_claim` unless it is given: where Amazon Cognito lists a user's groups.
pub const DEFAULT_ROLES_CLAIM: &str = "cognito:groups";
/// `[wal] retention` unless it is given.
pub const DEFAULT_WAL_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// `[wal] snapshot_every` unless it is given.
pub const DEFAULT_WAL_SNAPSHOT_EVERY: Duration = Duration::from_secs(10 * 60);
/// `[wal] max_bytes` unless it is given.
pub const DEFAULT_WAL_BYTES: u64 = 20 * GIB;
/// `presence_timeout` unless it is given: a long shift and its overtime.
pub const DEFAULT_PRESENCE_TIMEOUT: Duration = Duration::from_secs(16 * 60 * 60);
/// `passage_timeout` unless it is given.
pub const DEFAULT_PASSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// `max_age` of an S3 object unless it is given.
pub const DEFAULT_S3_AGE: Duration = Duration::from_secs(60);
/// `max_bytes` of an S3 object unless it is given.
pub const DEFAULT_S3_BYTES: u64 = 16 * MIB;
/// `max_age` of a file of the `file` sink unless it is given.
pub const DEFAULT_FILE_AGE: Duration = HOUR;
/// `max_bytes` of a file of the `file` sink unless it is given.
pub const DEFAULT_FILE_BYTES: u64 = 64 * MIB;
