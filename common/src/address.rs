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
            match bracketed.split_once(']') {
                Some((host, "")) if is_v6(host) => (host, None),
                Some((host, port)) if is_v6(host) && port.starts_with(':') => (host, port.get(1..)),
                _ => return Err("neither [V6] nor [V6]:PORT"),
            }
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
    !zone.is_empty()
        && zone.chars().all(|c| is_part(c) || c == '.')
        && address.parse::<Ipv6Addr>().is_ok()
}

/// Rejects names that can never be valid. The resolver decides whether one exists.
fn host_name(name: &str) -> Result<&str, &'static str> {
    let relative = name.strip_suffix('.').unwrap_or(name);
    // RFC 1035 section 2.3.4.
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(is_part);
    // The last label of a name is never a number, so that names and IPv4 addresses differ (RFC 1123
    // section 2.1). Resolvers also take hexadecimal numbers for IPv4 addresses.
    let last = relative.rsplit('.').next().unwrap_or(relative);
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"))
            && last[2..].bytes().all(|byte| byte.is_ascii_hexdigit());
    if name.starts_with('-') || relative.len() > 253 || !relative.split('.').all(is_label) {
        Err("not a host name or an IP address")
    } else if is_number && name.parse::<Ipv4Addr>().is_err() {
        Err("neither a host name nor an IPv4 address")
    } else {
        Ok(name)
    }
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_every_form() {
        let (label, longest) = ("a".repeat(63), format!("{}a", "a.".repeat(126)));
        for (text, address) in [
            ("example.org:80", "example.org:80"),
            ("example.org", "example.org:8888"),
            (":80", "127.0.0.1:80"),
            ("0", "127.0.0.1:0"),
            ("65535", "127.0.0.1:65535"),
            ("[::1]", "[::1]:8888"),
            ("::1", "[::1]:8888"),
            ("2001:db8::1:80", "[2001:db8::1:80]:8888"),
            ("fe80::1%lo", "[fe80::1%lo]:8888"),
            ("[fe80::1%2]:80", "[fe80::1%2]:80"),
            ("my_host-1", "my_host-1:8888"),
            ("b\u{fc}cher.example", "b\u{fc}cher.example:8888"),
            ("localhost.", "localhost.:8888"),
            ("0x7f.example", "0x7f.example:8888"),
            (&format!("{label}.{label}.{label}"), &format!("{label}.{label}.{label}:8888")),
            (&longest, &format!("{longest}:8888")),
        ] {
            for text in [text, address] {
                assert_eq!(Address::parse(text).unwrap().to_string(), address);
            }
        }
        assert_eq!(Address::default().to_string(), "127.0.0.1:8888");
    }

    #[test]
    fn names_what_is_wrong() {
        let (long_label, long) = (&"a".repeat(64), &("a.".repeat(127) + "a"));
        for (problem, texts) in [
            ("the address is empty", &[""][..]),
            ("the port is not a number from 0 to 65535", &["65536", ":", "h:", "h:-1", "h:http"]),
            ("the port has a sign", &["h:+80"]),
            ("neither [V6] nor [V6]:PORT", &["[::1", "[h]:80", "[]:80", "[fe80::1%]", "[::1]80"]),
            ("not an IPv6 address; with a port, write [V6]:PORT", &["1:::1", "a:b:c", "::1]:80"]),
            ("not a host name or an IP address", &["-", "-x", "a b", "a\nb", "user@host", "h]"]),
            ("not a host name or an IP address", &[".", ".x", "a..b", "a..", long_label, long]),
            ("neither a host name nor an IPv4 address", &["256.0.0.1", "127.1", "0x7f", "1.0X7F"]),
        ] {
            for text in texts {
                assert_eq!(Address::parse(text), Err(problem), "{text:?}");
            }
        }
    }
}
