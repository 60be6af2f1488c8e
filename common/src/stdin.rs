//! Standard input: messages for the UDP clients, and its end for the servers.

use crate::Error;
use std::io::{self, BufRead, ErrorKind, Read};
use std::net::SocketAddr;
use std::{iter, thread};

/// Returns the payloads of datagrams to `addresses`: each message is one, but `-` stands for
/// standard input, of which each line, without its newline, is one.
///
/// A payload has at most 65,507 bytes over IPv4 and 65,527 over IPv6: the length of an IPv4 packet
/// and of a UDP datagram are fields of 16 bits (RFC 791 section 3.1, RFC 768), the IPv4 header has
/// 20 bytes and the UDP header 8. (macOS sends at most 9,216 bytes unless
/// `sysctl net.inet.udp.maxdgram` is raised.)
///
/// # Errors
///
/// An item is an error if a message does not fit, or if standard input cannot be read.
///
/// # Examples
///
/// ```
/// let addresses = [([127, 0, 0, 1], 8888).into()];
/// let mut payloads = common::payloads(vec![b"hello".into(), vec![0; 65_508]], &addresses);
/// assert_eq!(payloads.next().unwrap().unwrap(), b"hello");
/// assert!(payloads.next().unwrap().is_err());
/// assert!(payloads.next().is_none());
/// ```
pub fn payloads(
    messages: Vec<Vec<u8>>,
    addresses: &[SocketAddr],
) -> impl Iterator<Item = io::Result<Vec<u8>>> + Send + use<> {
    let max = if addresses.iter().all(SocketAddr::is_ipv6) { 65_535 - 8 } else { 65_535 - 20 - 8 };
    let mut messages = messages.into_iter().peekable();
    iter::from_fn(move || {
        while messages.peek()? == b"-" {
            match read_line(&mut io::stdin().lock(), max) {
                Ok(None) => messages.next(),
                line => return line.transpose(),
            };
        }
        let message = messages.next()?;
        if message.len() > max {
            let text = format!("message \"{}\"", message.escape_ascii());
            return Some(Err(too_long(&text, &message.len().to_string(), max)));
        }
        Some(Ok(message))
    })
}

/// Reads a line without its newline. A longer one than `max` is an error, and not read to its end.
fn read_line(input: &mut impl BufRead, max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    match input.take(max as u64 + 1).read_until(b'\n', &mut line) {
        Err(error) => Err(io::Error::new(error.kind(), format!("standard input: {error}"))),
        Ok(0) => Ok(None),
        Ok(_) if line.last() == Some(&b'\n') => {
            line.truncate(line.len() - 1);
            Ok(Some(line))
        }
        Ok(length) if length > max => {
            let text = format!("standard input: line \"{}…\"", line[..32].escape_ascii());
            Err(too_long(&text, &format!("more than {max}"), max))
        }
        Ok(_) => Ok(Some(line)),
    }
}

fn too_long(what: &str, length: &str, max: usize) -> io::Error {
    let text = format!("{what} has {length} bytes; a datagram carries at most {max}");
    io::Error::new(ErrorKind::InvalidInput, text)
}

/// Calls `f` when standard input ends, on a thread that the program does not wait for.
///
/// # Errors
///
/// The system has no thread left.
pub fn on_eof(f: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let wait = move || {
        // An input that cannot be read has ended.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
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
        let longest = [vec![b'a'; 65_507], b"\n".to_vec()].concat();
        for mut input in [&longest[..], &longest[..65_507]] {
            assert_eq!(read_line(&mut input, 65_507).unwrap().unwrap().len(), 65_507);
        }
        let mut endless = io::BufReader::new(io::repeat(b'a'));
        let error = read_line(&mut endless, 65_507).unwrap_err().to_string();
        assert!(error.starts_with("standard input: line \"aaa"), "{error}");
        assert!(error.ends_with("more than 65507 bytes; a datagram carries at most 65507"));
    }

    #[test]
    fn payload_limit_depends_on_address_family() {
        let (v4, v6) = (([127, 0, 0, 1], 1).into(), ([0; 8], 1).into());
        for (addresses, max) in [(&[v4][..], 65_507), (&[v6], 65_527), (&[v6, v4], 65_507)] {
            let messages = vec![vec![b'a'; max], vec![b'a'; max + 1]];
            let mut payloads = payloads(messages, addresses);
            assert_eq!(payloads.next().unwrap().unwrap().len(), max);
            let error = payloads.next().unwrap().unwrap_err().to_string();
            let text = format!("aaa\" has {} bytes; a datagram carries at most {max}", max + 1);
            assert!(error.ends_with(&text), "{error}");
        }
    }
}
