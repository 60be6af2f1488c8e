//! What a program says, and how bytes are shown.

use crate::error::{Error, reason};
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Received bytes as they may be shown on a terminal: in quotes, anything but printable ASCII
/// escaped as in a string literal, and cut after 128 bytes, with the length told.
///
/// # Examples
///
/// ```
/// use common::Bytes;
///
/// assert_eq!(Bytes(b"hello").to_string(), r#""hello""#);
/// assert_eq!(Bytes(b"\x1b[2J\"\xff\n").to_string(), r#""\x1b[2J\"\xff\n""#);
/// assert!(Bytes(&[b'a'; 1000]).to_string().ends_with(r#"aaa"... (1000 bytes)"#));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_at_checked(128) {
            Some((shown, rest)) if !rest.is_empty() => {
                write!(f, "\"{}\"... ({} bytes)", shown.escape_ascii(), self.0.len())
            }
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}

/// What a server says: lines on standard output for what it receives, on standard error for what
/// goes wrong.
///
/// Each line is written whole, also with many threads. A stream that is closed is no reason to stop
/// serving, so what cannot be written is lost.
///
/// # Examples
///
/// ```
/// let options = common::Options::parse("Usage: server [--quiet]", ["--quiet".into()])?;
/// options.log().line(format_args!("not shown, for `--quiet` was given"));
/// # Ok::<(), common::Error>(())
/// ```
#[derive(Debug)]
pub struct Log {
    program: &'static str,
    quiet: bool,
    troubled: AtomicUsize,
}

impl Log {
    pub(crate) fn new(program: &'static str, quiet: bool) -> Log {
        let troubled = AtomicUsize::new(0);
        Log { program, quiet, troubled }
    }

    /// Says `listening on IP:PORT`: the first line of a server's standard output.
    ///
    /// # Examples
    ///
    /// ```
    /// let log = common::Options::parse("Usage: server", [])?.log();
    /// log.listening(([127, 0, 0, 1], 8888).into());
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn listening(&self, address: SocketAddr) {
        let _ = print(format!("listening on {address}\n").as_bytes());
    }

    /// Says what was received, unless `--quiet`.
    ///
    /// # Examples
    ///
    /// ```
    /// let log = common::Options::parse("Usage: server", [])?.log();
    /// log.line(format_args!("{} from {}", common::Bytes(b"hello"), "127.0.0.1:40100"));
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn line(&self, line: fmt::Arguments<'_>) {
        if !self.quiet {
            let _ = print(format!("{line}\n").as_bytes());
        }
    }

    /// Reports the trouble with one client, unless `--quiet`: whoever can forge an address must not
    /// be able to fill a disk.
    ///
    /// # Examples
    ///
    /// ```
    /// let log = common::Options::parse("Usage: server", [])?.log();
    /// let error = std::io::Error::other("the handler panicked");
    /// log.client(([127, 0, 0, 1], 40100).into(), &error);
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn client(&self, client: SocketAddr, error: &io::Error) {
        if !self.quiet {
            self.warning(format_args!("{client}: {}", reason(error)));
        }
    }

    /// Reports what the person who runs the server should know, `--quiet` or not.
    ///
    /// # Examples
    ///
    /// ```
    /// let log = common::Options::parse("Usage: server", [])?.log();
    /// log.warning(format_args!("serving with 3 workers of 4"));
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn warning(&self, warning: fmt::Arguments<'_>) {
        complain(self.program, warning);
    }

    /// Reports the machine's trouble, `--quiet` or not: once for as long as it lasts, not once a
    /// try or a worker. It lasts until all the [`Trouble`]s that this returned are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// let log = common::Options::parse("Usage: server", [])?.log();
    /// let error = std::io::Error::other("Too many open files");
    /// let _first = log.trouble("accept", &error);
    /// let _silent = log.trouble("accept", &error);
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn trouble(&self, what: &str, error: &io::Error) -> Trouble<'_> {
        if self.troubled.fetch_add(1, Relaxed) == 0 {
            self.warning(format_args!("{what}: {}", reason(error)));
        }
        Trouble(self)
    }
}

/// Trouble of the machine that lasts: hold it until it is over. Made by [`Log::trouble`].
///
/// # Examples
///
/// ```
/// let log = common::Options::parse("Usage: server", [])?.log();
/// let mut trouble = None;
/// for _try in 0..3 {
///     let error = std::io::Error::other("Too many open files");
///     trouble.get_or_insert_with(|| log.trouble("accept", &error));
/// }
/// drop(trouble); // it is over; the next one is reported again
/// # Ok::<(), common::Error>(())
/// ```
#[derive(Debug)]
pub struct Trouble<'a>(&'a Log);

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        self.0.troubled.fetch_sub(1, Relaxed);
    }
}

/// Writes bytes to standard output, at once and as they are.
///
/// # Errors
///
/// [`Error::Done`] when whoever read them has left, as `head` does; [`Error::Failed`] for anything
/// else, a full disk, say.
///
/// # Examples
///
/// ```
/// common::print(b"HELLO\n")?;
/// # Ok::<(), common::Error>(())
/// ```
pub fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Error::Done(String::new())),
        written => written.map_err(|why| Error::failed("standard output", &why)),
    }
}

/// `eprintln!`, but whole, and it does not panic when standard error is closed.
pub(crate) fn complain(program: &str, complaint: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(format!("{program}: {complaint}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_bytes_are_printable_whatever_they_are() {
        let every: Vec<u8> = (0..=255).collect();
        for bytes in every.chunks(64) {
            let shown = Bytes(bytes).to_string();
            assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{shown:?}");
        }
    }

    #[test]
    fn shown_bytes_are_cut_after_128() {
        let whole = format!("\"{}\"", "a".repeat(128));
        assert_eq!(Bytes(&[b'a'; 128]).to_string(), whole);
        assert_eq!(Bytes(&[b'a'; 129]).to_string(), format!("{whole}... (129 bytes)"));
        assert_eq!(Bytes(b"").to_string(), "\"\"");
    }

    #[test]
    fn trouble_is_over_when_the_last_one_is() {
        let log = Log::new("test", true);
        let error = io::Error::other("a test's");
        let first = log.trouble("receive", &error);
        let second = log.trouble("receive", &error);
        drop(first);
        assert_eq!(log.troubled.load(Relaxed), 1);
        drop(second);
        assert_eq!(log.troubled.load(Relaxed), 0);
    }
}
