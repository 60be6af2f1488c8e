//! What Linux reports about processes. `/proc` is read only here.
//!
//! On other systems, and after a process has exited, the functions return `None` or nothing. The id
//! of a thread may stand for that of a process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fs, iter};

/// Returns the content of a file below `/proc`.
pub fn read(path: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{path}")).ok()
}

/// Returns the entries of a folder below `/proc`.
fn entries(path: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let folder = fs::read_dir(format!("/proc/{path}"));
    folder.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// Returns the entries of a folder whose names are numbers.
fn ids(path: &str) -> impl Iterator<Item = u32> + use<> {
    entries(path).filter_map(|path| path.file_name()?.to_str()?.parse().ok())
}

/// Returns a field of `/proc/ID/stat`, numbered from 3 on as in the manual page proc(5).
fn stat(id: u32, field: usize) -> Option<String> {
    let line = read(&format!("{id}/stat"))?;
    // The name, in parentheses, may contain anything.
    line.rsplit_once(')')?.1.split_whitespace().nth(field - 3).map(String::from)
}

/// Returns a number from `/proc/ID/stat`, numbered as in the manual page proc(5).
pub fn number(id: u32, field: usize) -> Option<u64> {
    stat(id, field)?.parse().ok()
}

/// Returns the state of a process's main thread, or of a thread: `S` while it waits in a system call,
/// `T` while it is suspended.
pub fn state(id: u32) -> Option<char> {
    stat(id, 3)?.chars().next()
}

/// Returns a number from `/proc/ID/status`, such as `Threads` or `VmHWM` (peak memory in KiB).
pub fn status(id: u32, field: &str) -> Option<u64> {
    let status = read(&format!("{id}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Returns the ids of a process's threads.
pub fn threads(id: u32) -> Vec<u32> {
    ids(&format!("{id}/task")).collect()
}

/// Returns for how many nanoseconds a thread has run, and has waited for a core.
pub fn schedstat(thread: u32) -> Option<(u64, u64)> {
    let text = read(&format!("{thread}/schedstat"))?;
    let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Returns the number of a process's open file descriptors.
pub fn descriptors(id: u32) -> usize {
    ids(&format!("{id}/fd")).count()
}

/// Returns a process and its descendants.
pub fn family(id: u32) -> Vec<u32> {
    let parents: BTreeMap<u32, u32> =
        ids("").filter_map(|id| Some((id, number(id, 4)? as u32))).collect();
    let ancestors = |id| iter::successors(Some(id), |id| parents.get(id).copied());
    parents.keys().copied().filter(|&it| ancestors(it).any(|ancestor| ancestor == id)).collect()
}
