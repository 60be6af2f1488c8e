//! Addresses on the command line.

use crate::Error;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8888;

/// A host and a port, written as `HOST:PORT`, `HOST`, `:PORT`, `PORT`, `[V6]:PORT`, `[V6]` or `V6`.
/// What is missing comes from `127.0.0.1:8888`, which is also the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Parses an address, or returns what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Address, &'static str> {
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
        } else if text.matches(':').count() > 1 {
            return Err("not an IPv6 address; with a port, write [V6]:PORT");
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
            // `u16::from_str` accepts a plus sign.
            Some(port) if port.starts_with('+') => return Err("the port has a sign"),
            Some(port) => port.parse().map_err(|_| "the port is not a number from 0 to 65535")?,
        };
        Ok(Address { host: host.into(), port })
    }

    /// Resolves the host, which may have several addresses.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if it has none.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, Error> {
        match (self.host.as_str(), self.port).to_socket_addrs() {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err(Error::failed(format_args!("cannot resolve {self}"), &error)),
        }
    }
}

impl Default for Address {
    fn default() -> Address {
        Address { host: DEFAULT_HOST.into(), port: DEFAULT_PORT }
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

/// Returns whether `text` is an IPv6 address, perhaps with a zone, as in `fe80::1%eth0` (RFC 4007
/// section 11).
fn is_v6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "1"));
    !zone.is_empty() && zone.chars().all(is_part) && address.parse::<Ipv6Addr>().is_ok()
}

/// Rejects names that can never be valid. The resolver decides whether one exists.
fn host_name(name: &str) -> Result<&str, &'static str> {
    // The last label of a name is never a number, so that names and IPv4 addresses differ (RFC 1123
    // section 2.1).
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

    #[test]
    fn accepts_every_form() {
        for (text, address) in [
            ("example.org:80", "example.org:80"),
            ("example.org", "example.org:8888"),
            (":80", "127.0.0.1:80"),
            ("0", "127.0.0.1:0"),
            ("65535", "127.0.0.1:65535"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]", "[::1]:8888"),
            ("::1", "[::1]:8888"),
            ("2001:db8::1:80", "[2001:db8::1:80]:8888"),
            ("fe80::1%lo", "[fe80::1%lo]:8888"),
            ("[fe80::1%2]:80", "[fe80::1%2]:80"),
            ("127.0.0.2", "127.0.0.2:8888"),
            ("my_host-1", "my_host-1:8888"),
            ("b\u{fc}cher.example", "b\u{fc}cher.example:8888"),
            ("localhost.", "localhost.:8888"),
        ] {
            for text in [text, address] {
                assert_eq!(Address::parse(text).unwrap().to_string(), address);
            }
        }
        assert_eq!(Address::default().to_string(), "127.0.0.1:8888");
    }

    #[test]
    fn names_what_is_wrong() {
        for (problem, texts) in [
            ("the address is empty", &[""][..]),
            ("the port is not a number from 0 to 65535", &["65536", ":", "h:", "h:-1", "h:http"]),
            ("the port has a sign", &["h:+80"]),
            ("the closing bracket is missing", &["[::1"]),
            ("the opening bracket is missing", &["::1]:80", "::1]"]),
            ("the brackets do not contain an IPv6 address", &["[host]:80", "[]:80", "[fe80::1%]"]),
            ("only :PORT may follow the brackets", &["[::1]80"]),
            ("not an IPv6 address; with a port, write [V6]:PORT", &["1:::1", "a:b:c", "h:80:"]),
            ("not a host name or an IP address", &["-", "-x", "a b", "a\nb", "user@host"]),
            ("neither a host name nor an IPv4 address", &["256.0.0.1", "127.1"]),
        ] {
            for text in texts {
                assert_eq!(Address::parse(text), Err(problem), "{text:?}");
            }
        }
    }

    #[test]
    fn resolves_loopback() {
        let addresses = Address::parse(":0").unwrap().resolve().unwrap();
        assert_eq!(addresses, [([127, 0, 0, 1], 0).into()]);
    }
}
