//! The kernel's requests to the disk, one by one.

use std::{
    ffi::OsStr,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::disk::{BLOCK_BYTES, Disk, Status};

/// The kernel believes nothing for longer than this.
const TIME_TO_LIVE: Duration = Duration::ZERO;
/// Inode numbers are never used twice.
const GENERATION: Generation = Generation(0);
const MAX_NAME_BYTES: u32 = 255;
/// What `stat` counts blocks in.
const STAT_BLOCK_BYTES: u64 = 512;
const PERMISSION_BITS: u32 = 0o7777;

/// A disk as the kernel sees it.
pub(super) struct Requests {
    disk: Arc<Mutex<Disk>>,
}

impl Requests {
    pub(super) fn new(disk: Arc<Mutex<Disk>>) -> Self {
        Self { disk }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, inode: u64) -> Result<FileAttr, Errno> {
        self.disk().status(inode).map(|status| attributes(&status))
    }

    fn make(&self, parent: INodeNo, name: &OsStr, mode: u32, is_directory: bool) -> Result<FileAttr, Errno> {
        let inode = self.disk().create(parent.0, name, (mode & PERMISSION_BITS) as u16, is_directory)?;
        self.attributes(inode)
    }
}

fn attributes(status: &Status) -> FileAttr {
    FileAttr {
        ino: INodeNo(status.inode),
        size: status.length,
        blocks: status.length.div_ceil(BLOCK_BYTES) * (BLOCK_BYTES / STAT_BLOCK_BYTES),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if status.is_directory { FileType::Directory } else { FileType::RegularFile },
        perm: status.permissions,
        nlink: status.links,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES as u32,
        flags: 0,
    }
}

fn answer_empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn answer_entry(found: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match found {
        Ok(attributes) => reply.entry(&TIME_TO_LIVE, &attributes, GENERATION),
        Err(error) => reply.error(error),
    }
}

fn answer_attributes(found: Result<FileAttr, Errno>, reply: ReplyAttr) {
    match found {
        Ok(attributes) => reply.attr(&TIME_TO_LIVE, &attributes),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Requests {
    fn init(&mut self, _: &Request, _: &mut KernelConfig) -> io::Result<()> {
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.disk().find(parent.0, name);
        answer_entry(found.and_then(|inode| self.attributes(inode)), reply);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(self.attributes(inode.0), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let permissions = |mode| self.disk().set_permissions(inode.0, (mode & PERMISSION_BITS) as u16);
        let resized = size.map_or(Ok(()), |size| self.disk().resize(inode.0, size));
        let done = resized.and_then(|()| mode.map_or(Ok(()), permissions));
        answer_attributes(done.and_then(|()| self.attributes(inode.0)), reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        answer_entry(self.make(parent, name, mode, true), reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.make(parent, name, mode, false);
        match made.and_then(|made| self.disk().open(made.ino.0).map(|()| made)) {
            Ok(made) => {
                reply.created(&TIME_TO_LIVE, &made, GENERATION, FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.disk().remove(parent.0, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.disk().remove(parent.0, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        answer_empty(self.disk().rename((parent.0, name), (new_parent.0, new_name)), reply);
    }

    fn link(&self, _: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.disk().link(inode.0, parent.0, name);
        answer_entry(linked.and_then(|()| self.attributes(inode.0)), reply);
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.disk().open(inode.0) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.disk().close(inode.0);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // a close is no sync
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().read(inode.0, offset, size as usize) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(inode.0, offset, bytes) {
            // fits: the kernel gives no more than it can count
            Ok(()) => reply.written(bytes.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer_empty(self.disk().sync(inode.0), reply);
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer_empty(self.disk().sync_directory(inode.0), reply);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = self.disk();
        let entries = match disk.entries(inode.0) {
            Ok(entries) => entries,
            Err(error) => return reply.error(error),
        };
        for (number, (name, named)) in entries.iter().enumerate().skip(offset as usize) {
            let is_directory = disk.entries(*named).is_ok();
            let kind = if is_directory { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(*named), number as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (blocks, free) = self.disk().blocks();
        let block_bytes = BLOCK_BYTES as u32;
        reply.statfs(blocks, free, free, u64::MAX, u64::MAX, block_bytes, MAX_NAME_BYTES, block_bytes);
    }
}
