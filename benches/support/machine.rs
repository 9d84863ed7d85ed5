//! Where the figures were taken.

use std::{fs, path::Path, process::Command, thread};

use super::{first_line, scratch};

/// Lines of the page's head.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or("?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let said =
        |command: &mut Command| first_line(command).unwrap_or_else(|error| format!("? ({})", error.trim()));
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let dir = scratch();
    let hypervisor = if read("/proc/cpuinfo").contains(" hypervisor") { ", a virtual machine" } else { "" };
    let build = if cfg!(debug_assertions) { "dev profile: **the figures mean nothing**" } else { "release" };
    vec![
        ("build", build.to_owned()),
        ("date", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()),
        ("CPU", format!("{}{hypervisor}", field(&read("/proc/cpuinfo"), "model name"))),
        ("cores", format!("{cores}, shared by servers and load")),
        ("memory", field(&read("/proc/meminfo"), "MemTotal")),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
        ("file system", file_system(dir.path())),
        ("rustc", said(Command::new("rustc").arg("--version"))),
        ("commit", said(Command::new("git").args(["describe", "--always", "--dirty"]))),
        ("busy before", format!("load average {}", read("/proc/loadavg").trim())),
    ]
}

/// Type, options and device of the mount that a directory is on.
fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mount = (mounts.lines())
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (device, point, kind, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
            dir.starts_with(point).then_some((point.len(), format!("{kind} on {device} ({options})")))
        })
        .max_by_key(|(length, _)| *length);
    mount.map_or("?".to_owned(), |(_, text)| text)
}
