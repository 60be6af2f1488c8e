//! What Linux reports about processes. `/proc` is read only here.
//!
//! On other systems, and after a process has exited, the functions return `None` or nothing. The id
//! of a thread may stand for that of a process.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, iter};

/// Returns the content of a file below `/proc`.
pub fn read(path: &str) -> Option<String> {
    // These files have no length, without which std would begin with reads of 32 bytes.
    let mut text = String::with_capacity(4_096);
    fs::File::open(format!("/proc/{path}")).ok()?.read_to_string(&mut text).ok()?;
    Some(text)
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
pub fn stat<T: FromStr>(id: u32, field: usize) -> Option<T> {
    let line = read(&format!("{id}/stat"))?;
    // The name, in parentheses, may contain anything.
    line.rsplit_once(')')?.1.split_whitespace().nth(field - 3)?.parse().ok()
}

/// Returns the state of a process's main thread, or of a thread: `S` while it waits in a system call,
/// `T` while it is suspended.
pub fn state(id: u32) -> Option<char> {
    stat(id, 3)
}

/// Returns a number from `/proc/ID/status`, such as `Threads` or `VmHWM` (peak memory in KiB).
pub fn status(id: u32, field: &str) -> Option<usize> {
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
    let parents: BTreeMap<u32, u32> = ids("").filter_map(|id| Some((id, stat(id, 4)?))).collect();
    let ancestors = |id| iter::successors(Some(id), |id| parents.get(id).copied());
    parents.keys().copied().filter(|&it| ancestors(it).any(|ancestor| ancestor == id)).collect()
}

/// Returns the CPU time that a process and the children that it has waited for have used, including
/// threads that have exited.
pub fn cpu_time(id: u32) -> Duration {
    let ticks: u64 = (14..=17).filter_map(|field| stat::<u64>(id, field)).sum();
    Duration::from_millis(10 * ticks)
}

/// A socket of any process.
pub struct Socket {
    /// Its local port.
    pub port: u16,
    /// The port of its peer; 0 if it has none.
    pub peer: u16,
    /// Whether both ends know that it is connected; true of UDP sockets.
    pub is_established: bool,
    /// The number of bytes that its process has written, and that its peer has not acknowledged yet.
    pub unsent: usize,
    /// The number of bytes that its process has not read yet.
    pub unread: usize,
    inode: String,
}

/// Returns the sockets of a protocol, `tcp` or `udp`, of which one of both ends has this port. What
/// one of many threads lists, all those use that waited for it.
pub fn sockets_at(protocol: &str, port: u16) -> Arc<Vec<Socket>> {
    type Listing = (Instant, (String, u16), Arc<Vec<Socket>>);
    static LISTED: Mutex<Option<Listing>> = Mutex::new(None);
    let (called, place) = (Instant::now(), (protocol.into(), port));
    let mut listed = LISTED.lock().unwrap_or_else(PoisonError::into_inner);
    let listing = listed.take_if(|listing| listing.0 >= called && listing.1 == place);
    let listing = listing.unwrap_or_else(|| {
        let text = format!(":{port:04X} ");
        (Instant::now(), place, Arc::new(sockets_with(protocol, &text)))
    });
    Arc::clone(&listed.insert(listing).2)
}

/// Parses the lines that contain a text: there may be very many others.
fn sockets_with(protocol: &str, text: &str) -> Vec<Socket> {
    let hex = |digits: &str| usize::from_str_radix(digits, 16).ok();
    let port = |address: &str| Some(hex(address.rsplit_once(':')?.1)? as u16);
    let socket = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (unsent, unread) = words.get(4)?.split_once(':')?;
        Some(Socket {
            port: port(words[1])?,
            peer: port(words[2])?,
            is_established: words[3] != "03", // TCP_SYN_RECV
            unsent: hex(unsent)?,
            unread: hex(unread)?,
            inode: words.get(9)?.to_string(),
        })
    };
    let tables = ["", "6"].map(|version| read(&format!("net/{protocol}{version}")));
    let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    lines.filter(|line| line.contains(text)).filter_map(socket).collect()
}

/// Returns the ports on which a process listens.
pub fn listens_on(id: u32, protocol: &str) -> Vec<u16> {
    own_ports(id, &sockets_with(protocol, ""))
}

/// Returns the first process that listens on a port.
pub fn listener(protocol: &str, port: u16) -> Option<u32> {
    let sockets = sockets_at(protocol, port);
    ids("").find(|id| own_ports(*id, &sockets).contains(&port))
}

/// Returns the ports of the sockets without a peer that a process has opened.
fn own_ports(id: u32, sockets: &[Socket]) -> Vec<u16> {
    let links = entries(&format!("{id}/fd")).filter_map(|path| fs::read_link(path).ok());
    let links: Vec<PathBuf> = links.collect();
    let is_own = |socket: &&Socket| {
        socket.peer == 0 && links.contains(&format!("socket:[{}]", socket.inode).into())
    };
    sockets.iter().filter(is_own).map(|socket| socket.port).collect()
}
