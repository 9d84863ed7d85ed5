//! Processor time of processes and of neighbours, and whose child each is, as `/proc` says it.

use std::fs;

/// Ticks of a second of processor time.
pub(crate) const TICKS_PER_SECOND: f64 = 100.0;

// Fields of `/proc/<pid>/stat` after the name of the program, which is in brackets and may have blanks.
const PARENT_FIELD: usize = 1;
const USER_FIELD: usize = 11;
const SYSTEM_FIELD: usize = 12;

/// In the line of all cores of `/proc/stat`, its name counted.
const STOLEN_FIELD: usize = 8;

/// Processor time of a process, in ticks; none once it has ended.
pub(crate) fn ticks(pid: u32) -> Option<u64> {
    let fields = stat(pid)?;
    Some(fields.get(USER_FIELD)?.parse::<u64>().ok()? + fields.get(SYSTEM_FIELD)?.parse::<u64>().ok()?)
}

/// Who started a process; none once it has ended.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(PARENT_FIELD)?.parse().ok()
}

/// Ticks that a virtual machine's host gave to others while this one had work, of all cores.
pub(crate) fn stolen_ticks() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let field = text.lines().next().and_then(|all_cores| all_cores.split_whitespace().nth(STOLEN_FIELD));
    field.unwrap().parse().unwrap()
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}
