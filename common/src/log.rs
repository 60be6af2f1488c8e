//! Log lines and standard output.

use crate::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

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
/// It takes the arguments of [`format!`]. Lines of several threads do not mix, and a closed stream
/// is ignored. Of a line over 400 bytes, only the first 250 and the last 100 are kept.
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
        $crate::log::warn(&LAST, format!($($arg)+))
    }};
}

/// Logs a system error as one line on standard error, even with `--quiet`. A call site logs at most
/// one line per second. Otherwise like [`warn!`].
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => {{
        static LAST: $crate::log::Last = $crate::log::Last::new(None);
        $crate::log::error(&LAST, format!($($arg)+))
    }};
}

/// The last line of a call site, and when it was logged.
pub type Last = Mutex<Option<(Instant, String)>>;

pub fn info(line: fmt::Arguments<'_>) {
    if !QUIET.load(Relaxed) {
        let _ = print(shorten(format!("{line}\n")).as_bytes());
    }
}

pub fn warn(last: &Last, line: String) {
    if !QUIET.load(Relaxed) && is_due(last, &line, 0, Instant::now()) {
        write_error(&line);
    }
}

pub fn error(last: &Last, line: String) {
    if is_due(last, &line, 1, Instant::now()) {
        write_error(&line);
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
pub(crate) fn write_error(line: &str) {
    let program = PROGRAM.get().unwrap_or(&"error");
    let _ = io::stderr().write_all(shorten(format!("{program}: {line}\n")).as_bytes());
}

/// Keeps the first 250 and the last 100 bytes of a line over 400.
fn shorten(line: String) -> String {
    if line.len() <= 400 {
        return line;
    }
    let omitted = line.len() - 350;
    let (first, last) = (&line.as_bytes()[..250], &line.as_bytes()[line.len() - 100..]);
    let (first, last) = (String::from_utf8_lossy(first), String::from_utf8_lossy(last));
    format!("{first}… {omitted} bytes omitted …{last}")
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
    fn keeps_both_ends_of_long_line() {
        assert_eq!(shorten("a".repeat(400)), "a".repeat(400));
        let line = format!("{}{}{}", "a".repeat(250), "b".repeat(51), "c".repeat(100));
        let kept = format!("{}… 51 bytes omitted …{}", "a".repeat(250), "c".repeat(100));
        assert_eq!(shorten(line), kept);
        assert!(shorten("é".repeat(300)).contains("… 250 bytes omitted …"));
    }

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
