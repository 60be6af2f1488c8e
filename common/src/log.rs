//! Log lines and standard output.

use crate::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

static PROGRAM: OnceLock<&str> = OnceLock::new();
pub(crate) static QUIET: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_program(name: &'static str) {
    let _ = PROGRAM.set(name);
}

/// Logs an event as one line on standard output, unless `--quiet`.
///
/// It takes the arguments of [`format!`]. Lines of several threads do not mix, and a closed stream
/// is ignored.
#[macro_export]
macro_rules! info {
    ($($arg:tt)+) => { $crate::log::info(format_args!($($arg)+)) };
}

/// Logs an error that a client caused as one line on standard error, unless `--quiet`, with which
/// no client can fill a disk. While a call site repeats its last line, it logs that line once per
/// minute. Otherwise like [`info!`].
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => {{
        static LAST: $crate::log::Last = $crate::log::Last::new(None);
        $crate::log::warn(&LAST, format_args!($($arg)+))
    }};
}

/// Logs a system error as one line on standard error, even with `--quiet`. A call site logs at most
/// one line per second. Otherwise like [`warn!`].
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => {{
        static LAST: $crate::log::Last = $crate::log::Last::new(None);
        $crate::log::error(&LAST, format_args!($($arg)+))
    }};
}

/// The last line of a call site, and when it was logged.
pub type Last = Mutex<Option<(Instant, String)>>;

pub fn info(line: fmt::Arguments<'_>) {
    if !QUIET.load(Relaxed) {
        let _ = print(format!("{line}\n").as_bytes());
    }
}

pub fn warn(last: &Last, line: fmt::Arguments<'_>) {
    if !QUIET.load(Relaxed) && is_due(last, &line.to_string(), 0, Instant::now()) {
        write_error(line);
    }
}

pub fn error(last: &Last, line: fmt::Arguments<'_>) {
    if is_due(last, &line.to_string(), 1, Instant::now()) {
        write_error(line);
    }
}

/// Returns whether a line is to be logged: `pause` seconds after another one, and a minute after the
/// same one.
fn is_due(last: &Last, line: &str, pause: u64, now: Instant) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((time, last_line)) = &*last {
        let pause = if last_line == line { 60 } else { pause };
        if now.duration_since(*time) < Duration::from_secs(pause) {
            return false;
        }
    }
    *last = Some((now, line.into()));
    true
}

/// Writes `PROGRAM: LINE` to standard error. Unlike `eprintln!`, it does not panic if that is closed.
pub(crate) fn write_error(line: fmt::Arguments<'_>) {
    let program = PROGRAM.get().unwrap_or(&"error");
    let _ = io::stderr().write_all(format!("{program}: {line}\n").as_bytes());
}

/// Prints `listening on IP:PORT`, the first line of a server's standard output.
pub fn listening(address: SocketAddr) {
    // A server runs on if its output is closed.
    let _ = print(format!("listening on {address}\n").as_bytes());
}

/// Writes bytes to standard output unchanged and flushes them.
///
/// # Errors
///
/// The error contains an [`Error`]: [`EarlyExit`](Error::EarlyExit) if the reader, such as `head`, has
/// closed the pipe, and otherwise [`Failed`](Error::Failed).
pub fn print(bytes: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => io::Error::other(Error::EarlyExit(String::new())),
        _ => io::Error::other(Error::Failed(format!("standard output: {error}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_repeated_lines() {
        let start = Instant::now();
        for (pause, lines, logged) in
            [(1, "aabbaaa", [0, 2, 4].as_slice()), (0, "aababba", &[0, 2, 3, 4, 6])]
        {
            let last = Last::new(None);
            // Half a second apart.
            let now = |n| start + Duration::from_millis(500 * n as u64);
            let is_due = |n: &usize| is_due(&last, &lines[*n..=*n], pause, now(*n));
            assert_eq!((0..lines.len()).filter(is_due).collect::<Vec<_>>(), logged);
        }
        let last = Last::new(None);
        let after = |seconds| is_due(&last, "a", 1, start + Duration::from_secs(seconds));
        assert_eq!([0, 59, 60, 119, 120].map(after), [true, false, true, false, true]);
    }
}
