//! Log lines and standard output.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two lines of the same `error!`.
const ERROR_INTERVAL: Duration = Duration::from_secs(1);

static PROGRAM: OnceLock<&str> = OnceLock::new();
static QUIET: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_program(name: &'static str) {
    let _ = PROGRAM.set(name);
}

pub(crate) fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Relaxed);
}

/// Logs an event as one line on standard output, unless `--quiet`.
///
/// Like the `log` crate's macro, it takes what [`format!`] takes. The line is written whole, also
/// when several threads log, and a closed stream is ignored. Of a line over 400 bytes only the
/// first 250 and the last 100 are kept.
#[macro_export]
macro_rules! info {
    ($($arg:tt)+) => { $crate::log::info(format_args!($($arg)+)) };
}

/// Logs an error that one client caused as one line on standard error, unless `--quiet`: a client
/// must not be able to fill a disk.
///
/// In all else it is like [`info!`].
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => { $crate::log::warn(format_args!($($arg)+)) };
}

/// Logs a system error as one line on standard error, `--quiet` or not.
///
/// An error that repeats is written about once a second. In all else this is like [`info!`].
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => {{
        static LIMIT: $crate::log::Limit = $crate::log::Limit::new();
        $crate::log::error(&LIMIT, format_args!($($arg)+))
    }};
}

pub fn info(line: fmt::Arguments<'_>) {
    if !QUIET.load(Relaxed) {
        let _ = print(shorten(format!("{line}\n")).as_bytes());
    }
}

pub fn warn(line: fmt::Arguments<'_>) {
    if !QUIET.load(Relaxed) {
        write_error(line);
    }
}

pub fn error(limit: &Limit, line: fmt::Arguments<'_>) {
    if limit.allows(Instant::now()) {
        write_error(line);
    }
}

/// When an `error!` last wrote a line.
#[derive(Debug)]
pub struct Limit(Mutex<Option<Instant>>);

impl Limit {
    #[expect(clippy::new_without_default, reason = "only for a static")]
    pub const fn new() -> Limit {
        Limit(Mutex::new(None))
    }

    fn allows(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let allows = last.is_none_or(|last| now.duration_since(last) >= ERROR_INTERVAL);
        if allows {
            *last = Some(now);
        }
        allows
    }
}

/// Writes `PROGRAM: LINE` to standard error. Unlike `eprintln!`, it does not panic when the stream
/// is closed.
pub(crate) fn write_error(line: fmt::Arguments<'_>) {
    let program = PROGRAM.get().unwrap_or(&"error");
    let _ = io::stderr().write_all(shorten(format!("{program}: {line}\n")).as_bytes());
}

/// Keeps the first 250 and the last 100 bytes of a line over 400.
fn shorten(line: String) -> String {
    let Some(omitted) = line.len().checked_sub(400 + 1).map(|_| line.len() - 350) else {
        return line;
    };
    let (first, last) = (&line.as_bytes()[..250], &line.as_bytes()[line.len() - 100..]);
    let (first, last) = (String::from_utf8_lossy(first), String::from_utf8_lossy(last));
    format!("{first}… {omitted} bytes omitted …{last}")
}

/// Prints `listening on IP:PORT`, the first line of a server's standard output.
pub fn listening(address: SocketAddr) {
    // A server whose output is closed serves all the same.
    let _ = print(format!("listening on {address}\n").as_bytes());
}

/// Writes bytes to standard output unchanged and flushes them.
///
/// # Errors
///
/// The error names standard output. Its kind is [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the
/// reader has closed the pipe; as an [`Error`](crate::Error) it is then an early exit.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .map_err(|error| io::Error::new(error.kind(), format!("standard output: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_both_ends_of_long_line() {
        assert_eq!(shorten("a".repeat(400)), "a".repeat(400));
        let line = format!("{}{}{}", "a".repeat(250), "b".repeat(51), "c".repeat(100));
        let kept = format!("{}… 51 bytes omitted …{}", "a".repeat(250), "c".repeat(100));
        assert_eq!(shorten(line), kept);
        assert!(shorten("é".repeat(300)).contains("… 250 bytes omitted …"));
    }

    #[test]
    fn limits_repeated_error_to_one_line_per_second() {
        let (limit, start) = (Limit::new(), Instant::now());
        let allowed = |millis: &u64| limit.allows(start + Duration::from_millis(*millis));
        let lines: Vec<u64> =
            [0, 1, 999, 1000, 1500, 2000, 5000].into_iter().filter(allowed).collect();
        assert_eq!(lines, [0, 1000, 2000, 5000]);
    }
}
