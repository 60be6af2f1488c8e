//! What a client sends.

use crate::{Bytes, Error};
use std::io::{self, BufRead, Read};
use std::iter;

/// The most bytes that one datagram carries, over IPv4 as over IPv6: the length of an IPv4 packet
/// is a field of 16 bits (RFC 791 section 3.1), and 20 bytes of it are its own header, 8 that of
/// UDP (RFC 768).
///
/// # Examples
///
/// ```
/// assert_eq!(common::MAX_PAYLOAD, 65_507);
/// ```
pub const MAX_PAYLOAD: usize = 65_535 - 20 - 8;

/// Turns messages into the payloads of datagrams: each message is one, but `-` is standard input,
/// where each line, without its newline, is one.
///
/// # Errors
///
/// An item is an [`Error::Failed`] when a message is longer than [`MAX_PAYLOAD`] or standard input
/// cannot be read.
///
/// # Examples
///
/// ```
/// let mut payloads = common::datagrams(vec![b"hello".into(), vec![0; 65_508]]);
/// assert_eq!(payloads.next(), Some(Ok(b"hello".into())));
/// let error = payloads.next().unwrap().unwrap_err();
/// assert!(error.to_string().ends_with("(65508 bytes): a datagram carries at most 65507"));
/// assert_eq!(payloads.next(), None);
/// ```
pub fn datagrams(messages: Vec<Vec<u8>>) -> impl Iterator<Item = Result<Vec<u8>, Error>> + Send {
    let mut messages = messages.into_iter().peekable();
    iter::from_fn(move || {
        while messages.peek()? == b"-" {
            match line(&mut io::stdin().lock()) {
                Ok(None) => messages.next(),
                read => return read.transpose(),
            };
        }
        let message = messages.next()?;
        if message.len() > MAX_PAYLOAD {
            let why = format!("{}: a datagram carries at most {MAX_PAYLOAD}", Bytes(&message));
            return Some(Err(Error::Failed(why)));
        }
        Some(Ok(message))
    })
}

/// The next line without its newline; it is not read further than a datagram can carry.
fn line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, Error> {
    let mut line = Vec::new();
    match input.take(MAX_PAYLOAD as u64 + 1).read_until(b'\n', &mut line) {
        Err(why) => return Err(Error::failed("standard input", &why)),
        Ok(0) => return Ok(None),
        Ok(_) if line.last() == Some(&b'\n') => line.truncate(line.len() - 1),
        Ok(_) if line.len() > MAX_PAYLOAD => {
            let why =
                format!("a line of more than the {MAX_PAYLOAD} bytes that a datagram carries");
            return Err(Error::Failed(format!("standard input: {why}: {}", Bytes(&line[..32]))));
        }
        Ok(_) => {}
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_stands_between_newlines() {
        let mut input: &[u8] = b"one\n\ntwo\r\nthree";
        let mut next = || line(&mut input).unwrap().map(|line| String::from_utf8(line).unwrap());
        assert_eq!(next().as_deref(), Some("one"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("two\r"));
        assert_eq!(next().as_deref(), Some("three"));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_line_may_be_as_long_as_a_datagram_and_no_longer() {
        let longest = [vec![b'a'; MAX_PAYLOAD], b"\n".to_vec()].concat();
        assert_eq!(line(&mut longest.as_slice()).unwrap().unwrap().len(), MAX_PAYLOAD);
        assert_eq!(line(&mut &longest[..MAX_PAYLOAD]).unwrap().unwrap().len(), MAX_PAYLOAD);
        let longer = vec![b'a'; MAX_PAYLOAD + 1];
        let error = line(&mut longer.as_slice()).unwrap_err().to_string();
        assert!(
            error.starts_with("standard input: a line of more than the 65507 bytes"),
            "{error}"
        );
        let endless = &mut io::BufReader::new(io::repeat(b'a'));
        assert!(line(endless).is_err());
    }
}
