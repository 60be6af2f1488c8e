//! Addresses on the command line.

use crate::Error;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8888;

/// A host and a port: `HOST:PORT`, `HOST`, `:PORT`, `PORT`, `[V6]:PORT`, `[V6]` or a bare `V6`.
/// What is missing comes from `127.0.0.1:8888`, which is also the default.
///
/// # Errors
///
/// Parsing fails with an [`Error::Usage`] that quotes the input and says what is wrong with it.
///
/// # Examples
///
/// ```
/// use common::Address;
///
/// let address: Address = ":0".parse()?;
/// assert_eq!(address.to_string(), "127.0.0.1:0");
/// assert_eq!(address.resolve()?, [([127, 0, 0, 1], 0).into()]);
/// assert_eq!("::1".parse::<Address>()?.to_string(), "[::1]:8888");
/// assert!("::1]:80".parse::<Address>().is_err());
/// # Ok::<(), common::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Resolves the name, which may stand for several addresses.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the name has no address.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, Error> {
        match (self.host.as_str(), self.port).to_socket_addrs().map(Iterator::collect::<Vec<_>>) {
            Ok(addresses) if addresses.is_empty() => {
                Err(Error::Failed(format!("cannot resolve {self}: the name has no address")))
            }
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(Error::failed(format_args!("cannot resolve {self}"), &error)),
        }
    }
}

impl Default for Address {
    fn default() -> Address {
        Address { host: DEFAULT_HOST.into(), port: DEFAULT_PORT }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address, Error> {
        parse(text).map_err(|problem| {
            Error::Usage(format!("ADDR \"{}\": {problem}", text.as_bytes().escape_ascii()))
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn parse(text: &str) -> Result<Address, &'static str> {
    let (host, port) = if text.is_empty() {
        return Err("the address is empty");
    } else if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or("the closing bracket is missing")?;
        if !is_v6(host) {
            return Err("the brackets do not contain an IPv6 address");
        }
        match rest.strip_prefix(':') {
            None if rest.is_empty() => (host, None),
            None => return Err("only :PORT may follow the brackets"),
            port => (host, port),
        }
    } else if text.contains(']') {
        return Err("the opening bracket is missing");
    } else if is_v6(text) {
        (text, None)
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        (DEFAULT_HOST, Some(text))
    } else {
        match text.split_once(':') {
            Some(("", port)) => (DEFAULT_HOST, Some(port)),
            Some((host, port)) => (host_name(host)?, Some(port)),
            None => (host_name(text)?, None),
        }
    };
    let port = match port {
        None => DEFAULT_PORT,
        // `u16::from_str` also takes a plus sign.
        Some(port) if port.starts_with('+') => return Err("the port has a sign"),
        Some(port) => port.parse().map_err(|_| "the port is not a number from 0 to 65535")?,
    };
    let host = host.into();
    Ok(Address { host, port })
}

/// Returns whether `text` is an IPv6 address, with or without a zone such as that of `fe80::1%eth0`
/// (RFC 4007 section 11).
fn is_v6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "1"));
    !zone.is_empty() && zone.chars().all(is_part) && address.parse::<Ipv6Addr>().is_ok()
}

/// Rejects names that can never be valid. The resolver decides whether one exists.
fn host_name(name: &str) -> Result<&str, &'static str> {
    // The last label of a name is never a number, which distinguishes names from addresses in
    // dotted decimal (RFC 1123 section 2.1).
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or(name);
    if name.starts_with('-') || !name.chars().all(is_part) {
        Err("not a host name or an IP address")
    } else if last.bytes().all(|byte| byte.is_ascii_digit()) && name.parse::<Ipv4Addr>().is_err() {
        Err("neither a host name nor an IPv4 address")
    } else {
        Ok(name)
    }
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '.' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn display(text: &str) -> String {
        text.parse::<Address>().map_or_else(|error| error.to_string(), |ok| ok.to_string())
    }

    #[test]
    fn accepts_every_form() {
        for (text, address) in [
            ("example.org:80", "example.org:80"),
            ("example.org", "example.org:8888"),
            (":80", "127.0.0.1:80"),
            ("80", "127.0.0.1:80"),
            ("0", "127.0.0.1:0"),
            ("65535", "127.0.0.1:65535"),
            ("00080", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]", "[::1]:8888"),
            ("::1", "[::1]:8888"),
            ("::", "[::]:8888"),
            ("::ffff:127.0.0.1", "[::ffff:127.0.0.1]:8888"),
            ("2001:db8::1:80", "[2001:db8::1:80]:8888"),
            ("fe80::1%lo", "[fe80::1%lo]:8888"),
            ("[fe80::1%2]:80", "[fe80::1%2]:80"),
            ("127.0.0.2", "127.0.0.2:8888"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("my_host-1", "my_host-1:8888"),
            ("b\u{fc}cher.example", "b\u{fc}cher.example:8888"),
            ("localhost.", "localhost.:8888"),
        ] {
            assert_eq!(display(text), address, "{text:?}");
        }
        assert_eq!(Address::default().to_string(), "127.0.0.1:8888");
    }

    #[test]
    fn names_what_is_wrong() {
        for (text, error) in [
            ("", r#"ADDR "": the address is empty"#),
            ("65536", r#"ADDR "65536": the port is not a number from 0 to 65535"#),
            ("host:65536", r#"ADDR "host:65536": the port is not a number from 0 to 65535"#),
            (":", r#"ADDR ":": the port is not a number from 0 to 65535"#),
            ("host:", r#"ADDR "host:": the port is not a number from 0 to 65535"#),
            ("host:-1", r#"ADDR "host:-1": the port is not a number from 0 to 65535"#),
            ("host:http", r#"ADDR "host:http": the port is not a number from 0 to 65535"#),
            ("a:b:c", r#"ADDR "a:b:c": the port is not a number from 0 to 65535"#),
            ("host:80:", r#"ADDR "host:80:": the port is not a number from 0 to 65535"#),
            ("host:+80", r#"ADDR "host:+80": the port has a sign"#),
            ("[::1", r#"ADDR "[::1": the closing bracket is missing"#),
            ("[host]:80", r#"ADDR "[host]:80": the brackets do not contain an IPv6 address"#),
            ("[]:80", r#"ADDR "[]:80": the brackets do not contain an IPv6 address"#),
            ("[fe80::1%]", r#"ADDR "[fe80::1%]": the brackets do not contain an IPv6 address"#),
            (
                "[fe80::1%a b]",
                r#"ADDR "[fe80::1%a b]": the brackets do not contain an IPv6 address"#,
            ),
            ("::1]:80", r#"ADDR "::1]:80": the opening bracket is missing"#),
            ("::1]", r#"ADDR "::1]": the opening bracket is missing"#),
            ("[::1]80", r#"ADDR "[::1]80": only :PORT may follow the brackets"#),
            ("[::1]:", r#"ADDR "[::1]:": the port is not a number from 0 to 65535"#),
            ("-", r#"ADDR "-": not a host name or an IP address"#),
            ("-x", r#"ADDR "-x": not a host name or an IP address"#),
            ("a b", r#"ADDR "a b": not a host name or an IP address"#),
            ("a\nb", r#"ADDR "a\nb": not a host name or an IP address"#),
            ("user@host", r#"ADDR "user@host": not a host name or an IP address"#),
            ("256.0.0.1", r#"ADDR "256.0.0.1": neither a host name nor an IPv4 address"#),
            ("127.1", r#"ADDR "127.1": neither a host name nor an IPv4 address"#),
        ] {
            assert_eq!(display(text), error, "{text:?}");
        }
    }

    /// A xorshift generator (Marsaglia 2003), which yields the same inputs in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }
    }

    #[test]
    fn random_text_round_trips_or_is_quoted() {
        let pieces: Vec<&str> = "[ ] : :: . % - _ + 0 1 80 255 65535 65536 ffff fe80 localhost \
            127.0.0.1 ::1 a \u{e4} \u{1f980} \0 \n \" \\ / @"
            .split(' ')
            .collect();
        let mut random = Random(0x5eed);
        let (mut addresses, mut errors) = (0, 0);
        for _ in 0..200_000 {
            let length = random.below(7);
            let text: String = (0..length).map(|_| pieces[random.below(pieces.len())]).collect();
            match text.parse::<Address>() {
                Ok(address) => {
                    assert_eq!(display(&address.to_string()), address.to_string(), "{text:?}");
                    addresses += 1;
                }
                Err(error) => {
                    let quoted = format!("\"{}\"", text.as_bytes().escape_ascii());
                    assert!(error.to_string().contains(&quoted), "{text:?}: {error}");
                    errors += 1;
                }
            }
        }
        assert!(addresses > 1000 && errors > 1000, "{addresses} addresses, {errors} errors");
    }
}
