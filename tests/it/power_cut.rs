//! Power cuts and failing disks: the real daemon on a file system of the tests' own ([`crate::cut_fs`]), which
//! forgets what was not synced. What was answered is in the log, what was not is there whole or not at all.
//!
//! [`site`] a server on such a disk · [`desk`] who changes cards meanwhile · [`rounds`] cut again and again ·
//! [`changing_files`] cut while files come and go · [`failing_disk`] EIO, ENOSPC and a full disk ·
//! [`each_operation`] each write and sync of a log fails once
//!
//! Needs `/dev/fuse` and the right to mount; elsewhere each test says that it was skipped.

mod changing_files;
mod desk;
mod each_operation;
mod failing_disk;
mod rounds;
mod site;
