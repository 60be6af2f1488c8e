//! The command line.

use crate::{Address, Error};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// The arguments of a program, which fit its help.
///
/// # Examples
///
/// ```
/// const HELP: &str = "\
/// Usage: client [OPTIONS] [ADDR [MESSAGE...]]
///
/// Options:
///   --attempts N      give up after N attempts
///   --timeout SECS    wait SECS seconds
///   --quiet           print nothing
/// ";
///
/// let args = ["--timeout=0.5", ":80", "--quiet", "hi"].map(Into::into);
/// let args = common::Args::parse(HELP, "1.0.0", args)?;
/// assert_eq!(args.address()?.to_string(), "127.0.0.1:80");
/// assert_eq!(args.messages(&["hello"]), [b"hi"]);
/// assert_eq!(args.timeout("--timeout", 5)?.as_millis(), 500);
/// assert_eq!(args.number("--attempts", 10)?, None);
/// assert!(args.flag("--quiet"));
/// # Ok::<(), common::Error>(())
/// ```
#[derive(Debug)]
pub struct Args {
    options: Vec<(&'static str, OsString)>,
    positionals: Vec<OsString>,
}

impl Args {
    /// Parses the arguments that follow the program's name.
    ///
    /// The help is the grammar. Its first line, such as `Usage: server [OPTIONS] [ADDR]`, names the
    /// program and its positional arguments: none, `ADDR`, or `ADDR` and any number of messages.
    /// Each line that begins with two spaces and `--` is an option; the word after its name, if one
    /// space separates them, stands for its value. Options may stand anywhere before `--`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] names the argument that does not fit. [`Error::EarlyExit`] is the text that
    /// `--help` or `--version` prints.
    pub fn parse(
        help: &'static str,
        version: &str,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Args, Error> {
        let (mut options, mut positionals) = (Vec::new(), Vec::new());
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_encoded_bytes() {
                b"-h" | b"--help" => return Err(Error::EarlyExit(help.into())),
                b"-V" | b"--version" => {
                    return Err(Error::EarlyExit(format!("{} {version}\n", program(help))));
                }
                b"--" => positionals.extend(args.by_ref()),
                [b'-', _, ..] => options.push(parse_option(help, &arg, &mut args)?),
                _ => positionals.push(arg),
            }
        }
        let usage = help.lines().next().unwrap_or_default();
        let max_positionals = match () {
            () if usage.contains("MESSAGE") => usize::MAX,
            () => usize::from(usage.contains("ADDR")),
        };
        match positionals.get(max_positionals) {
            Some(extra) => Err(Error::Usage(format!("unexpected argument {}", quote(extra)))),
            None => Ok(Args { options, positionals }),
        }
    }

    /// Returns the address, or the default if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if it is not an [`Address`].
    pub fn address(&self) -> Result<Address, Error> {
        match self.positionals.first() {
            None => Ok(Address::default()),
            Some(address) => match address.to_str() {
                Some(text) => text.parse(),
                None => Err(Error::Usage(format!("ADDR {}: not UTF-8", quote(address)))),
            },
        }
    }

    /// Returns the messages, which follow the address, or `default` if there are none.
    pub fn messages(&self, default: &[&str]) -> Vec<Vec<u8>> {
        match self.positionals.get(1..) {
            None | Some([]) => default.iter().map(|message| message.as_bytes().to_vec()).collect(),
            Some(messages) => {
                messages.iter().map(|message| message.as_encoded_bytes().to_vec()).collect()
            }
        }
    }

    /// Returns whether an option without a value is present.
    pub fn flag(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Returns the value of an option that is a whole number from 1 to `max`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the value is anything else.
    pub fn number(&self, name: &str, max: u64) -> Result<Option<u64>, Error> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match value.to_str().and_then(|text| text.parse().ok()) {
            Some(number) if (1..=max).contains(&number) => Ok(Some(number)),
            _ if max == u64::MAX => Err(invalid_value(name, value, "a whole number above zero")),
            _ => Err(invalid_value(name, value, &format!("a whole number from 1 to {max}"))),
        }
    }

    /// Returns the value of an option in seconds, which may be a fraction, or `default` seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if the value is negative, not a number, or too large for a [`Duration`].
    pub fn seconds(&self, name: &str, default: u64) -> Result<Duration, Error> {
        let Some(value) = self.value(name) else {
            return Ok(Duration::from_secs(default));
        };
        let seconds = value.to_str().and_then(|text| text.parse().ok());
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| invalid_value(name, value, "a number of seconds"))
    }

    /// Like [`seconds`](Args::seconds), but above zero.
    ///
    /// # Errors
    ///
    /// As for `seconds`, and if the value is less than a nanosecond.
    pub fn timeout(&self, name: &str, default: u64) -> Result<Duration, Error> {
        match (self.value(name), self.seconds(name, default)?) {
            (Some(value), Duration::ZERO) => {
                Err(invalid_value(name, value, "a number of seconds above zero"))
            }
            (_, timeout) => Ok(timeout),
        }
    }

    /// The last occurrence of a repeated option wins.
    fn value(&self, name: &str) -> Option<&OsString> {
        self.options.iter().rev().find(|(option, _)| *option == name).map(|(_, value)| value)
    }
}

/// Returns the program's name, the word after `Usage:`.
pub(crate) fn program(help: &'static str) -> &'static str {
    help.split_whitespace().nth(1).unwrap_or_default()
}

/// Returns an option's name and its value, which may be the next argument.
fn parse_option(
    help: &'static str,
    arg: &OsStr,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<(&'static str, OsString), Error> {
    let unknown = || Error::Usage(format!("unknown option {}", quote(arg)));
    // Names are ASCII, so only a value can lose bytes here, and no such value is valid.
    let text = arg.to_string_lossy();
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (&*text, None),
    };
    // A line such as `  --count N    exit after N datagrams` has three parts.
    let mut options = help.lines().filter(|line| line.starts_with("  --")).map(|line| {
        let option = line.trim_start().split("  ").next().unwrap_or_default();
        option.split_once(' ').unwrap_or((option, ""))
    });
    let (name, placeholder) = options.find(|(option, _)| *option == name).ok_or_else(unknown)?;
    match value {
        None if placeholder.is_empty() => Ok((name, OsString::new())),
        Some(_) if placeholder.is_empty() => Err(Error::Usage(format!("{name} takes no value"))),
        Some(value) => Ok((name, value.into())),
        None => {
            let missing = || Error::Usage(format!("{name} needs a value: {name} {placeholder}"));
            Ok((name, rest.next().ok_or_else(missing)?))
        }
    }
}

fn invalid_value(name: &str, value: &OsStr, expected: &str) -> Error {
    Error::Usage(format!("{name} {}: not {expected}", quote(value)))
}

fn quote(arg: &OsStr) -> String {
    format!("\"{}\"", arg.as_encoded_bytes().escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "\
Usage: program [OPTIONS] [ADDR [MESSAGE...]]

Options:
  --count N       exit after N
  --workers N     1 to 9 workers
  --delay SECS    wait SECS seconds
  --quiet         print nothing
  -h, --help      print this help
";

    fn parse(args: &[&str]) -> Result<Args, Error> {
        Args::parse(HELP, "1.2.3", args.iter().map(OsString::from))
    }

    #[track_caller]
    fn assert_usage(args: &[&str], expected: &str) {
        let result = parse(args).and_then(|args| {
            args.address()?;
            args.number("--count", u64::MAX)?;
            args.number("--workers", 9)?;
            args.timeout("--delay", 1)
        });
        assert_eq!(result, Err(Error::Usage(expected.into())), "{args:?}");
    }

    #[test]
    fn accepts_options_anywhere_before_two_dashes() {
        let args = ["--quiet", ":80", "--count", "3", "-", "a", "--count=4", "--", "--count", ""];
        let args = parse(&args).unwrap();
        assert_eq!(args.number("--count", u64::MAX), Ok(Some(4)));
        assert!(args.flag("--quiet"));
        assert_eq!(args.address().unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(args.messages(&[]), [&b"-"[..], b"a", b"--count", b""]);
    }

    #[test]
    fn has_defaults() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.address(), Ok(Address::default()));
        assert_eq!(args.messages(&["hello"]), [b"hello"]);
        assert_eq!(args.number("--count", u64::MAX), Ok(None));
        assert_eq!(args.timeout("--delay", 7), Ok(Duration::from_secs(7)));
        assert!(!args.flag("--quiet"));
    }

    #[test]
    fn seconds_may_be_fractions_and_zero() {
        for (text, seconds) in [("0.25", 0.25), ("0", 0.0), ("3", 3.0), ("1e-3", 0.001)] {
            let args = parse(&["--delay", text]).unwrap();
            assert_eq!(args.seconds("--delay", 9), Ok(Duration::from_secs_f64(seconds)));
        }
    }

    #[test]
    fn help_and_version_end_parsing() {
        for flag in ["-h", "--help"] {
            let error = parse(&["--quiet", flag, "--bogus"]).unwrap_err();
            assert_eq!(error, Error::EarlyExit(HELP.into()));
        }
        for flag in ["-V", "--version"] {
            assert_eq!(parse(&[flag]).unwrap_err(), Error::EarlyExit("program 1.2.3\n".into()));
        }
        assert!(parse(&[":80", "--", "--help"]).is_ok());
    }

    #[test]
    fn names_argument_that_does_not_fit() {
        assert_usage(&["--bogus"], r#"unknown option "--bogus""#);
        assert_usage(&["--bogus=1"], r#"unknown option "--bogus=1""#);
        assert_usage(&["--quie"], r#"unknown option "--quie""#);
        assert_usage(&["-q"], r#"unknown option "-q""#);
        assert_usage(&["--quiet=yes"], "--quiet takes no value");
        assert_usage(&["--count"], "--count needs a value: --count N");
        assert_usage(&["--delay"], "--delay needs a value: --delay SECS");
        for value in ["0", "-1", "", "--quiet", "1.5", "18446744073709551616"] {
            let expected = format!("--count \"{value}\": not a whole number above zero");
            assert_usage(&["--count", value], &expected);
            assert_usage(&[&format!("--count={value}")], &expected);
        }
        assert_usage(&["--workers", "10"], r#"--workers "10": not a whole number from 1 to 9"#);
        for value in ["-1", "nan", "inf", "1e30", "x"] {
            let expected = format!("--delay \"{value}\": not a number of seconds");
            assert_usage(&["--delay", value], &expected);
        }
        for value in ["0", "1e-30"] {
            let expected = format!("--delay \"{value}\": not a number of seconds above zero");
            assert_usage(&["--delay", value], &expected);
        }
        for (help, args) in [("Usage: server [ADDR]", [":1", "x"]), ("Usage: server", ["x", "y"])] {
            let error = Args::parse(help, "", args.map(Into::into)).unwrap_err();
            assert_eq!(error, Error::Usage(r#"unexpected argument "x""#.into()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn accepts_any_bytes_in_messages_only() {
        use std::os::unix::ffi::OsStringExt;
        let parse = |args: &[&[u8]]| {
            Args::parse(HELP, "", args.iter().map(|arg| OsString::from_vec(arg.to_vec())))
        };
        assert_eq!(parse(&[b":80", b"\xff"]).unwrap().messages(&[]), [b"\xff"]);
        let error = parse(&[b"\xff"]).unwrap().address().unwrap_err();
        assert_eq!(error.to_string(), r#"ADDR "\xff": not UTF-8"#);
        let error = parse(&[b"--count", b"\xff"]).unwrap().number("--count", 9).unwrap_err();
        assert_eq!(error.to_string(), r#"--count "\xff": not a whole number from 1 to 9"#);
        let error = parse(&[b"--\xff"]).unwrap_err();
        assert_eq!(error.to_string(), r#"unknown option "--\xff""#);
    }
}
