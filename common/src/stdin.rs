//! Standard input: messages for the UDP clients, and its end for the servers.

use crate::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::SocketAddr;
use std::time::Duration;
use std::{fmt, iter, thread};

/// Standard input, which is also waited for if it is non-blocking: another program may have set this
/// for a terminal, which all of its programs share.
struct Stdin;

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match io::stdin().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(100));
                }
                result => return result,
            }
        }
    }
}

/// Returns the payloads to send to `addresses`: the messages, or, if there are none, the lines of
/// standard input without their newlines. The first error is the last item.
///
/// A payload has at most 65,507 bytes over IPv4 (65,535 less 20 for the IP header and 8 for the UDP
/// header: RFC 791 section 3.1, RFC 768) and 65,527 over IPv6, whose length field does not count its
/// own header (RFC 8200 section 3). macOS sends at most 9,216 bytes unless
/// `sysctl net.inet.udp.maxdgram` is raised.
///
/// # Errors
///
/// An item is an error if a message does not fit into a datagram or standard input cannot be read.
pub fn payloads(
    messages: Option<Vec<Vec<u8>>>,
    addresses: &[SocketAddr],
) -> impl Iterator<Item = io::Result<Vec<u8>>> + Send + use<> {
    let max = if addresses.iter().all(SocketAddr::is_ipv6) { 65_527 } else { 65_507 };
    let mut messages = messages.map(Vec::into_iter);
    let mut stdin = BufReader::new(Stdin);
    let mut failed = false;
    iter::from_fn(move || {
        if failed {
            return None;
        }
        let payload = match &mut messages {
            Some(messages) => messages.next().map(|message| check_length(message, max)),
            None => read_line(&mut stdin, max).transpose(),
        };
        failed = matches!(payload, Some(Err(_)));
        payload
    })
}

fn check_length(message: Vec<u8>, max: usize) -> io::Result<Vec<u8>> {
    if message.len() <= max {
        return Ok(message);
    }
    let (start, length) = (message[..250].escape_ascii(), message.len());
    let limit = format!("a datagram carries at most {max}");
    Err(io::Error::other(format!("message \"{start}\" has {length} bytes; {limit}")))
}

/// Reads a line without its newline. A line of more than `max` bytes is an error.
fn read_line(input: &mut impl BufRead, max: usize) -> io::Result<Option<Vec<u8>>> {
    let failed = |error: &dyn fmt::Display| io::Error::other(format!("standard input: {error}"));
    let mut line = Vec::new();
    let length = input.take(max as u64 + 1).read_until(b'\n', &mut line);
    if length.map_err(|error| failed(&error))? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() > max {
        return Err(failed(&format_args!("a line has more than the {max} bytes of a datagram")));
    }
    Ok(Some(line))
}

/// Calls `f` when standard input ends, on a detached thread.
///
/// # Errors
///
/// [`Error::Failed`] if no thread can be started.
pub fn on_eof(f: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let wait = move || {
        // Input that cannot be read has ended.
        let _ = io::copy(&mut Stdin, &mut io::sink());
        f();
    };
    match thread::Builder::new().spawn(wait) {
        Ok(_detached) => Ok(()),
        Err(error) => Err(Error::failed("cannot start a thread", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_at_newline() {
        let mut input: &[u8] = b"one\n\ntwo\r\nthree";
        let mut next = || read_line(&mut input, 8).unwrap();
        for line in ["one", "", "two\r", "three"] {
            assert_eq!(next().unwrap(), line.as_bytes());
        }
        assert_eq!(next(), None);
    }

    #[test]
    fn line_may_be_as_long_as_datagram() {
        for mut input in [&b"12345678\n"[..], b"12345678"] {
            assert_eq!(read_line(&mut input, 8).unwrap().unwrap(), b"12345678");
        }
        let mut endless = io::BufReader::new(io::repeat(b'a'));
        let error = read_line(&mut endless, 8).unwrap_err().to_string();
        assert_eq!(error, "standard input: a line has more than the 8 bytes of a datagram");
    }

    #[test]
    fn payload_limit_depends_on_address_family() {
        let (v4, v6) = (([127, 0, 0, 1], 1).into(), ([0; 8], 1).into());
        for (addresses, max) in [(&[v4][..], 65_507), (&[v6], 65_527), (&[v6, v4], 65_507)] {
            let messages = vec![vec![b'a'; max], vec![b'a'; max + 1], b"unsent".into()];
            let mut payloads = payloads(Some(messages), addresses);
            assert_eq!(payloads.next().unwrap().unwrap().len(), max);
            let error = payloads.next().unwrap().unwrap_err().to_string();
            let text = format!("aaa\" has {} bytes; a datagram carries at most {max}", max + 1);
            assert!(error.ends_with(&text), "{error}");
            assert!(payloads.next().is_none());
        }
    }
}
