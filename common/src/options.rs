//! The command line.

use crate::{Address, Bytes, Error, Log};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// A command line that fits its usage line.
///
/// # Examples
///
/// ```
/// use common::Options;
///
/// const HELP: &str = "Usage: client [--timeout S] [ADDR [MESSAGE...]]\n\nSends and waits.\n";
///
/// let options = Options::parse(HELP, ["--timeout=0.5", ":80", "hi"].map(Into::into))?;
/// assert_eq!(options.address()?.to_string(), "127.0.0.1:80");
/// assert_eq!(options.timeout("--timeout", 5)?.as_millis(), 500);
/// assert_eq!(options.messages(&["hello"]), [b"hi"]);
/// # Ok::<(), common::Error>(())
/// ```
#[derive(Debug)]
pub struct Options {
    program: &'static str,
    given: Vec<(&'static str, OsString)>,
    arguments: Vec<OsString>,
}

impl Options {
    /// Reads the arguments that follow the program's name.
    ///
    /// The first line of `help` is the grammar, such as
    /// `Usage: server [--workers N] [--quiet] [ADDR]`: an option with a word behind it takes a
    /// value, one without takes none. `ADDR` may be given once; where the line has a `MESSAGE`, any
    /// number of arguments may follow it. Options may stand anywhere before a `--`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] names the argument that does not fit; [`Error::Done`] is what `--help`
    /// and `--version` have to say.
    ///
    /// # Examples
    ///
    /// ```
    /// use common::{Error, Options};
    ///
    /// let help = "Usage: server [--count N] [ADDR]\n";
    /// assert_eq!(Options::parse(help, ["-h".into()]).unwrap_err(), Error::Done(help.into()));
    /// let error = Options::parse(help, ["--cuont".into()]).unwrap_err();
    /// assert_eq!(error, Error::Usage(r#"unknown option "--cuont""#.into()));
    /// ```
    pub fn parse(
        help: &'static str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Options, Error> {
        let usage = help.lines().next().unwrap_or_default();
        let (program, given, rest) = (program(help), Vec::new(), Vec::new());
        let mut options = Options { program, given, arguments: rest };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_encoded_bytes() {
                b"-h" | b"--help" => return Err(Error::Done(help.into())),
                b"-V" | b"--version" => {
                    return Err(Error::Done(format!("{program} {}\n", env!("CARGO_PKG_VERSION"))));
                }
                b"--" => options.arguments.extend(arguments.by_ref()),
                b"-" => options.arguments.push(argument),
                [b'-', ..] => options.given.push(option(usage, &argument, &mut arguments)?),
                _ => options.arguments.push(argument),
            }
        }
        let most = match usage {
            _ if usage.contains("MESSAGE") => usize::MAX,
            _ => usize::from(usage.contains("ADDR")),
        };
        match options.arguments.get(most) {
            Some(extra) => Err(Error::Usage(format!("unexpected argument {}", shown(extra)))),
            None => Ok(options),
        }
    }

    /// The address, or the default when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when it is not an [`Address`].
    ///
    /// # Examples
    ///
    /// ```
    /// let options = common::Options::parse("Usage: server [ADDR]", [])?;
    /// assert_eq!(options.address()?.to_string(), "127.0.0.1:8888");
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn address(&self) -> Result<Address, Error> {
        match self.arguments.first() {
            None => Ok(Address::default()),
            Some(address) => match address.to_str() {
                Some(text) => text.parse(),
                None => Err(Error::Usage(format!("ADDR {}: not UTF-8", shown(address)))),
            },
        }
    }

    /// The messages: the arguments behind the address, to the byte, or `default`.
    ///
    /// # Examples
    ///
    /// ```
    /// let help = "Usage: client [ADDR [MESSAGE...]]";
    /// let options = common::Options::parse(help, [":80", "--", "-x", ""].map(Into::into))?;
    /// assert_eq!(options.messages(&["hello"]), [&b"-x"[..], &b""[..]]);
    /// let options = common::Options::parse(help, [])?;
    /// assert_eq!(options.messages(&["hello"]), [b"hello"]);
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn messages(&self, default: &[&str]) -> Vec<Vec<u8>> {
        match self.arguments.get(1..) {
            None | Some([]) => default.iter().map(|message| message.as_bytes().to_vec()).collect(),
            Some(given) => {
                given.iter().map(|message| message.as_encoded_bytes().to_vec()).collect()
            }
        }
    }

    /// Where the program speaks: a [`Log`] that knows the program's name and whether it was told to
    /// be `--quiet`.
    ///
    /// # Examples
    ///
    /// ```
    /// let log = common::Options::parse("Usage: server [--quiet]", [])?.log();
    /// log.line(format_args!("shown, for `--quiet` was not given"));
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn log(&self) -> Log {
        Log::new(self.program, self.value("--quiet").is_some())
    }

    /// A whole number above zero, if it was given: `--count`, `--workers`, `--attempts`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when it is anything else.
    ///
    /// # Examples
    ///
    /// ```
    /// let help = "Usage: server [--workers N]";
    /// let options = common::Options::parse(help, ["--workers", "8"].map(Into::into))?;
    /// assert_eq!(options.count("--workers")?, Some(8));
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn count(&self, name: &str) -> Result<Option<usize>, Error> {
        let number = |value: &OsString| value.to_str().and_then(|text| text.parse().ok());
        match self.value(name).map(|value| (value, number(value))) {
            None => Ok(None),
            Some((_, Some(count))) if count > 0 => Ok(Some(count)),
            Some((value, _)) => Err(wrong(name, value, "a whole number above zero")),
        }
    }

    /// Seconds, which may be fractions and may be zero: `--delay`, `--idle-timeout`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when they are negative, not a number, or too many to count.
    ///
    /// # Examples
    ///
    /// ```
    /// let help = "Usage: server [--delay S]";
    /// let options = common::Options::parse(help, ["--delay", "0.25"].map(Into::into))?;
    /// assert_eq!(options.seconds("--delay", 0)?.as_millis(), 250);
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn seconds(&self, name: &str, default: u64) -> Result<Duration, Error> {
        let Some(value) = self.value(name) else {
            return Ok(Duration::from_secs(default));
        };
        let number = value.to_str().and_then(|text| text.parse().ok());
        number
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| wrong(name, value, "a number of seconds"))
    }

    /// Seconds above zero: `--timeout`.
    ///
    /// # Errors
    ///
    /// As for [`seconds`](Options::seconds), and when they are zero or less than a nanosecond.
    ///
    /// # Examples
    ///
    /// ```
    /// let help = "Usage: client [--timeout S]";
    /// let options = common::Options::parse(help, ["--timeout", "0"].map(Into::into))?;
    /// let error = options.timeout("--timeout", 5).unwrap_err();
    /// assert_eq!(error.to_string(), r#"--timeout "0": not a number of seconds above zero"#);
    /// # Ok::<(), common::Error>(())
    /// ```
    pub fn timeout(&self, name: &str, default: u64) -> Result<Duration, Error> {
        match (self.value(name), self.seconds(name, default)?) {
            (Some(value), Duration::ZERO) => {
                Err(wrong(name, value, "a number of seconds above zero"))
            }
            (_, timeout) => Ok(timeout),
        }
    }

    /// Of a repeated option the last one holds.
    fn value(&self, name: &str) -> Option<&OsString> {
        self.given.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value)
    }
}

/// The program's name: the word behind `Usage:`.
pub(crate) fn program(help: &'static str) -> &'static str {
    help.split_whitespace().nth(1).unwrap_or_default()
}

/// The name of the option that `argument` is, and its value, which may be the next argument.
fn option(
    usage: &'static str,
    argument: &OsStr,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<(&'static str, OsString), Error> {
    let unknown = || Error::Usage(format!("unknown option {}", shown(argument)));
    // Names are ASCII, so that only a value can be damaged by this; it is then no number either.
    let text = argument.to_string_lossy();
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (&*text, None),
    };
    // `[--count N] [--quiet]`: the words between brackets that begin with this name.
    let mut bracketed =
        usage.split(['[', ']']).map(|words| words.split_once(' ').unwrap_or((words, "")));
    let known = bracketed.find(|(option, _)| *option == name && name.starts_with("--"));
    match (known.ok_or_else(unknown)?, value) {
        ((name, ""), None) => Ok((name, OsString::new())),
        ((name, ""), Some(_)) => Err(Error::Usage(format!("{name} takes no value"))),
        ((name, _), Some(value)) => Ok((name, value.into())),
        ((name, value), None) => {
            let missing = || Error::Usage(format!("{name} needs a value: {name} {value}"));
            Ok((name, rest.next().ok_or_else(missing)?))
        }
    }
}

fn wrong(name: &str, value: &OsStr, expected: &str) -> Error {
    Error::Usage(format!("{name} {}: not {expected}", shown(value)))
}

fn shown(argument: &OsStr) -> Bytes<'_> {
    Bytes(argument.as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str =
        "Usage: program [--count N] [--delay S] [--quiet] [ADDR [MESSAGE...]]\n\nDoes things.\n";

    fn parse(arguments: &[&str]) -> Result<Options, Error> {
        Options::parse(HELP, arguments.iter().map(OsString::from))
    }

    fn error(arguments: &[&str]) -> String {
        let result = parse(arguments).and_then(|options| {
            options.address()?;
            options.count("--count")?;
            options.timeout("--delay", 1)
        });
        match result {
            Err(Error::Usage(text)) => text,
            other => panic!("{arguments:?} is taken for {other:?}"),
        }
    }

    #[test]
    fn options_may_stand_anywhere_until_two_dashes_end_them() {
        let options = parse(&["--quiet", ":80", "--count", "3", "a", "--count=4", "--", "--count"]);
        let options = options.unwrap();
        assert_eq!(options.count("--count"), Ok(Some(4)));
        assert!(options.value("--quiet").is_some());
        assert_eq!(options.address().unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(options.messages(&[]), [&b"a"[..], &b"--count"[..]]);
    }

    #[test]
    fn a_dash_is_a_message() {
        assert_eq!(parse(&[":80", "-"]).unwrap().messages(&[]), [b"-"]);
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.address(), Ok(Address::default()));
        assert_eq!(options.messages(&["hello"]), [b"hello"]);
        assert_eq!(options.count("--count"), Ok(None));
        assert_eq!(options.timeout("--delay", 7), Ok(Duration::from_secs(7)));
        assert!(options.value("--quiet").is_none());
    }

    #[test]
    fn seconds_may_be_fractions_and_zero() {
        for (text, seconds) in [("0.25", 0.25), ("0", 0.0), ("3", 3.0), ("1e-3", 0.001)] {
            let options = parse(&["--delay", text]).unwrap();
            assert_eq!(options.seconds("--delay", 9), Ok(Duration::from_secs_f64(seconds)));
        }
    }

    #[test]
    fn help_and_version_are_answered_where_they_stand() {
        assert_eq!(parse(&["--quiet", "-h", "--bogus"]).unwrap_err(), Error::Done(HELP.into()));
        let version = format!("program {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(parse(&["-V"]).unwrap_err(), Error::Done(version.clone()));
        assert_eq!(parse(&["--version"]).unwrap_err(), Error::Done(version));
        assert!(parse(&[":80", "--", "--help"]).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_command_line_is_said() {
        for (arguments, expected) in [
            (&["--bogus"][..], r#"unknown option "--bogus""#),
            (&["--bogus=1"], r#"unknown option "--bogus=1""#),
            (&["-q"], r#"unknown option "-q""#),
            (&["--quiet=yes"], "--quiet takes no value"),
            (&["--quie"], r#"unknown option "--quie""#),
            (&["--count"], "--count needs a value: --count N"),
            (&["--count", "0"], r#"--count "0": not a whole number above zero"#),
            (&["--count", "-1"], r#"--count "-1": not a whole number above zero"#),
            (&["--count="], r#"--count "": not a whole number above zero"#),
            (&["--count", "--quiet"], r#"--count "--quiet": not a whole number above zero"#),
            (
                &["--count=99999999999999999999"],
                r#"--count "99999999999999999999": not a whole number above zero"#,
            ),
            (&["--delay", "-1"], r#"--delay "-1": not a number of seconds"#),
            (&["--delay", "nan"], r#"--delay "nan": not a number of seconds"#),
            (&["--delay", "inf"], r#"--delay "inf": not a number of seconds"#),
            (&["--delay", "1e30"], r#"--delay "1e30": not a number of seconds"#),
            (&["--delay", "x"], r#"--delay "x": not a number of seconds"#),
            (&["--delay", "0"], r#"--delay "0": not a number of seconds above zero"#),
            (&["--delay", "1e-30"], r#"--delay "1e-30": not a number of seconds above zero"#),
            (&[""], r#"ADDR "": is empty"#),
        ] {
            assert_eq!(error(arguments), expected);
        }
        let extra = Options::parse("Usage: server [ADDR]", [":1", "x"].map(Into::into));
        assert_eq!(extra.unwrap_err(), Error::Usage(r#"unexpected argument "x""#.into()));
        let extra = Options::parse("Usage: server", [":1".into()]);
        assert_eq!(extra.unwrap_err(), Error::Usage(r#"unexpected argument ":1""#.into()));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf8_is_a_message_to_the_byte_and_an_error_elsewhere() {
        use std::os::unix::ffi::OsStringExt;
        let odd = || OsString::from_vec(b"\xff".to_vec());
        let options = Options::parse(HELP, [":80".into(), odd()]).unwrap();
        assert_eq!(options.messages(&[]), [b"\xff"]);
        let options = Options::parse(HELP, [odd()]).unwrap();
        let error = options.address().unwrap_err();
        assert_eq!(error, Error::Usage(r#"ADDR "\xff": not UTF-8"#.into()));
        let options = Options::parse(HELP, ["--count".into(), odd()]).unwrap();
        let error = options.count("--count").unwrap_err();
        let expected = r#"--count "\xff": not a whole number above zero"#;
        assert_eq!(error, Error::Usage(expected.into()));
        let error = Options::parse(HELP, [OsString::from_vec(b"--\xff".to_vec())]).unwrap_err();
        assert_eq!(error, Error::Usage(r#"unknown option "--\xff""#.into()));
    }
}
