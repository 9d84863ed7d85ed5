//! The whole disk: files and directories, what a power cut leaves of them, faults and a capacity.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
};

use fuser::Errno;

use super::{
    content::Content,
    faults::{Faults, Operation},
    names::{Entries, Names, ROOT, Rename},
};
use crate::random::Random;

/// The unit of the capacity.
pub(super) const BLOCK_BYTES: u64 = 4_096;

/// What a power cut does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// All of it is gone.
    Clean,
    /// A random part of it is there: some writes of a file, of one of them some sectors; and of the changes of
    /// names the first ones.
    Torn,
}

/// A disk.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) faults: Faults,
    names: Names,
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    capacity_bytes: u64,
}

#[derive(Debug)]
struct Inode {
    /// None for a directory.
    content: Option<Content>,
    permissions: u16,
    /// How many descriptors are open.
    open: u64,
}

/// What `stat` says.
pub(super) struct Status {
    pub(super) inode: u64,
    pub(super) is_directory: bool,
    pub(super) length: u64,
    pub(super) permissions: u16,
    pub(super) links: u32,
}

impl Disk {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let root = Inode { content: None, permissions: 0o755, open: 0 };
        let inodes = HashMap::from([(ROOT, root)]);
        Self { faults: Faults::default(), names: Names::new(), inodes, next_inode: ROOT + 1, capacity_bytes }
    }

    /// Leaves what a power cut leaves, and switches the power on again.
    pub(super) fn cut(&mut self, cut: Cut, random: &mut Random) {
        let kept = match cut {
            Cut::Clean => 0,
            Cut::Torn => random.below(self.names.unsynced() as u64 + 1) as usize,
        };
        self.names.cut(kept);
        let mut numbers: Vec<u64> = self.inodes.keys().copied().collect();
        // one order for one seed
        numbers.sort_unstable();
        for number in numbers {
            let Some(inode) = self.inodes.get_mut(&number) else { continue };
            inode.open = 0;
            match (&mut inode.content, cut) {
                (Some(content), Cut::Clean) => content.cut(),
                (Some(content), Cut::Torn) => content.tear(random),
                (None, _) => {}
            }
        }
        self.forget_nameless();
        self.faults.power_on();
    }

    pub(super) fn status(&self, inode: u64) -> Result<Status, Errno> {
        let found = self.inode(inode)?;
        let links = if found.content.is_some() { self.names.links(inode) } else { 2 };
        Ok(Status {
            inode,
            is_directory: found.content.is_none(),
            length: found.content.as_ref().map_or(0, Content::length),
            permissions: found.permissions,
            links: links as u32,
        })
    }

    pub(super) fn find(&self, directory: u64, name: &OsStr) -> Result<u64, Errno> {
        self.is_powered()?;
        self.names.find(directory, name).ok_or(Errno::ENOENT)
    }

    pub(super) fn entries(&self, directory: u64) -> Result<&Entries, Errno> {
        self.is_powered()?;
        self.names.entries(directory).ok_or(Errno::ENOTDIR)
    }

    pub(super) fn create(
        &mut self,
        directory: u64,
        name: &OsStr,
        permissions: u16,
        is_directory: bool,
    ) -> Result<u64, Errno> {
        self.check_name(directory, name)?;
        if self.names.find(directory, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        let content = (!is_directory).then(Content::default);
        self.inodes.insert(inode, Inode { content, permissions, open: 0 });
        if is_directory {
            self.names.add_directory(inode);
        }
        self.names.change(Rename(vec![(directory, name.to_owned(), Some(inode))]));
        Ok(inode)
    }

    pub(super) fn link(&mut self, inode: u64, directory: u64, name: &OsStr) -> Result<(), Errno> {
        self.check_name(directory, name)?;
        if self.names.find(directory, name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.names.change(Rename(vec![(directory, name.to_owned(), Some(inode))]));
        Ok(())
    }

    pub(super) fn remove(&mut self, directory: u64, name: &OsStr) -> Result<(), Errno> {
        self.check_name(directory, name)?;
        let inode = self.names.find(directory, name).ok_or(Errno::ENOENT)?;
        if self.names.entries(inode).is_some_and(|entries| !entries.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.names.change(Rename(vec![(directory, name.to_owned(), None)]));
        self.forget_nameless();
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Errno> {
        self.check_name(from.0, from.1)?;
        let inode = self.names.find(from.0, from.1).ok_or(Errno::ENOENT)?;
        let replaced = self.names.find(to.0, to.1);
        if replaced == Some(inode) {
            return Ok(());
        }
        if let Some(entries) = replaced.and_then(|replaced| self.names.entries(replaced))
            && !entries.is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        let names: [(u64, OsString, Option<u64>); 2] =
            [(from.0, from.1.to_owned(), None), (to.0, to.1.to_owned(), Some(inode))];
        self.names.change(Rename(names.to_vec()));
        self.forget_nameless();
        Ok(())
    }

    pub(super) fn set_permissions(&mut self, inode: u64, permissions: u16) -> Result<(), Errno> {
        self.inode_mut(inode)?.permissions = permissions;
        Ok(())
    }

    pub(super) fn open(&mut self, inode: u64) -> Result<(), Errno> {
        self.inode_mut(inode)?.open += 1;
        Ok(())
    }

    pub(super) fn close(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            // a descriptor from before a cut may be closed after it
            inode.open = inode.open.saturating_sub(1);
        }
        self.forget_nameless();
    }

    pub(super) fn read(&self, inode: u64, offset: u64, size: usize) -> Result<&[u8], Errno> {
        Ok(self.content(inode)?.read(offset, size))
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.check(Operation::Write, inode)?;
        let grown = (offset + bytes.len() as u64).saturating_sub(self.content(inode)?.length());
        self.has_room_for(inode, grown)?;
        self.content_mut(inode)?.write(offset, bytes);
        Ok(())
    }

    pub(super) fn resize(&mut self, inode: u64, length: u64) -> Result<(), Errno> {
        self.check(Operation::Write, inode)?;
        let grown = length.saturating_sub(self.content(inode)?.length());
        self.has_room_for(inode, grown)?;
        self.content_mut(inode)?.resize(length);
        Ok(())
    }

    pub(super) fn sync(&mut self, inode: u64) -> Result<(), Errno> {
        let checked = self.check(Operation::Sync, inode);
        let (is_off, is_left_out) = (self.faults.is_off(), self.faults.are_syncs_left_out);
        let content = self.inodes.get_mut(&inode).and_then(|inode| inode.content.as_mut());
        match (checked, content) {
            (Ok(()), Some(content)) if !is_left_out => content.sync(),
            (Err(_), Some(content)) if !is_off => content.fail_to_sync(),
            _ => {}
        }
        checked
    }

    pub(super) fn sync_directory(&mut self, inode: u64) -> Result<(), Errno> {
        self.check(Operation::SyncDirectory, inode)?;
        if !self.faults.are_syncs_left_out {
            self.names.sync(inode);
            self.forget_nameless();
        }
        Ok(())
    }

    /// The capacity and what of it is free, in blocks.
    pub(super) fn blocks(&self) -> (u64, u64) {
        let used =
            self.inodes.iter().filter(|(number, inode)| inode.open > 0 || self.names.links(**number) > 0);
        let used = used.filter_map(|(_, inode)| inode.content.as_ref());
        let used: u64 = used.map(|content| content.length().div_ceil(BLOCK_BYTES)).sum();
        let capacity = self.capacity_bytes / BLOCK_BYTES;
        (capacity, capacity.saturating_sub(used))
    }

    fn has_room_for(&self, inode: u64, grown_bytes: u64) -> Result<(), Errno> {
        if grown_bytes == 0 {
            return Ok(());
        }
        let length = self.content(inode)?.length();
        let grown = (length + grown_bytes).div_ceil(BLOCK_BYTES) - length.div_ceil(BLOCK_BYTES);
        if grown <= self.blocks().1 { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    fn check_name(&mut self, directory: u64, name: &OsStr) -> Result<(), Errno> {
        let path = format!("{}/{}", self.path(directory), name.to_string_lossy());
        self.faults.check(Operation::Name, &path)
    }

    fn check(&mut self, operation: Operation, inode: u64) -> Result<(), Errno> {
        let path = self.path(inode);
        self.faults.check(operation, &path)
    }

    fn is_powered(&self) -> Result<(), Errno> {
        if self.faults.is_off() { Err(Errno::EIO) } else { Ok(()) }
    }

    fn path(&self, inode: u64) -> String {
        self.names.path(inode).unwrap_or_default()
    }

    fn inode(&self, inode: u64) -> Result<&Inode, Errno> {
        self.is_powered()?;
        self.inodes.get(&inode).ok_or(Errno::ESTALE)
    }

    fn inode_mut(&mut self, inode: u64) -> Result<&mut Inode, Errno> {
        self.is_powered()?;
        self.inodes.get_mut(&inode).ok_or(Errno::ESTALE)
    }

    fn content(&self, inode: u64) -> Result<&Content, Errno> {
        self.inode(inode)?.content.as_ref().ok_or(Errno::EISDIR)
    }

    fn content_mut(&mut self, inode: u64) -> Result<&mut Content, Errno> {
        self.inode_mut(inode)?.content.as_mut().ok_or(Errno::EISDIR)
    }

    /// What nobody can reach any more, now or after a cut.
    fn forget_nameless(&mut self) {
        let named = self.names.named();
        let names = &mut self.names;
        self.inodes.retain(|number, inode| {
            let is_kept = inode.open > 0 || named.contains(number);
            if !is_kept {
                names.forget(*number);
            }
            is_kept
        });
    }
}
