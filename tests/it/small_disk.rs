//! A small file system of its own under a server's data directory.

use std::{path::PathBuf, process::Command};

use crate::daemon::Site;

/// Mounted while it lives.
pub(crate) struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// So large, at the site's data directory. `None`, with a reason on stdout, where nothing may be mounted.
    pub(crate) fn under(site: &Site, mib: u64) -> Option<Self> {
        let path = site.path("data");
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={mib}m,mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { path }),
            other => {
                println!("skipped: a small file system cannot be mounted here: {other:?}");
                None
            }
        }
    }

    /// Someone else's file, which takes so much.
    pub(crate) fn take(&self, mib: usize) {
        std::fs::write(self.path.join("someone-elses"), vec![1; mib << 20]).unwrap();
    }

    /// All that is left goes to someone else.
    pub(crate) fn take_rest(&self) {
        let file = std::fs::File::create(self.path.join("someone-elses-too")).unwrap();
        let mut zeros = &file;
        while std::io::Write::write(&mut zeros, &[1; 4096]).is_ok_and(|written| written > 0) {}
    }

    /// Someone else's files go.
    pub(crate) fn give_back(&self) {
        for name in ["someone-elses", "someone-elses-too"] {
            let _ = std::fs::remove_file(self.path.join(name));
        }
    }

    pub(crate) fn has_ballast(&self) -> bool {
        self.path.join("ballast").exists()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // lazily: a daemon that a failed test left may still be ending
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
