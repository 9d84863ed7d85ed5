//! A file system of the tests' own that forgets in a power cut whatever was not synced.
//!
//! It lives in the memory of the test and is mounted by FUSE. Everything has two states: what processes see
//! (live), and what the device has (durable).
//!
//! - A write changes what is seen. `fsync` and `fdatasync` of a file make its bytes and its length durable, and
//!   nothing else: not its name. (ext4 would make the name of a new file durable, too; POSIX does not say so.)
//! - A name that is created, renamed or removed is durable once its directory is synced. A rename from one
//!   directory to another is one change, made durable by the sync of either, as in every journaling file system.
//! - `sync_file_range` is no sync: the kernel does not even tell a FUSE file system of it.
//! - After a sync that failed the kernel takes the bytes for clean: processes go on seeing them, and no later
//!   sync makes them durable. So it is here ("fsyncgate", PostgreSQL, 2018).
//! - Permissions are durable at once. Locks are the kernel's.
//!
//! Nothing is cached in the kernel: it asks for every name and every byte, and passes every write on.
//!
//! [`content`] one file's bytes · [`names`] the directories · [`disk`] both, with faults and a capacity ·
//! [`faults`] what goes wrong when · [`requests`] the kernel's requests · [`mounted`] a disk that is mounted

mod content;
mod disk;
mod faults;
mod mounted;
mod names;
mod requests;
mod tests;

pub(crate) use self::{
    disk::Cut,
    faults::{Fault, Operation},
    mounted::CutFs,
};
