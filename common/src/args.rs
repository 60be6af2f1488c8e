//! The command line.

use crate::{Address, Error};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

/// The parsed arguments of a program.
///
/// Each accessor fails with an [`Error::Usage`] that names the argument if its value is not valid.
///
/// # Examples
///
/// ```
/// const HELP: &str = "\
/// Usage: client [OPTIONS] [ADDR [MESSAGE...]]
///
/// Options:
///   --timeout SECS  wait SECS seconds
/// ";
///
/// let args = common::Args::parse(HELP, "1.0.0", ["--timeout=0.5", ":80"].map(Into::into))?;
/// assert_eq!(args.address()?.to_string(), "127.0.0.1:80");
/// assert_eq!(args.timeout("--timeout", 5)?.as_millis(), 500);
/// # Ok::<(), common::Error>(())
/// ```
#[derive(Debug)]
pub struct Args {
    options: Vec<(&'static str, OsString)>,
    positionals: Vec<OsString>,
    /// How many of the positional arguments stand before `--`.
    before_dashes: usize,
}

impl Args {
    /// Parses the arguments that follow the program's name.
    ///
    /// `help` is the grammar. Its first line, such as `Usage: server [OPTIONS] [ADDR]`, contains the
    /// program's name and a word for each positional argument; with `...` there may be any number. A
    /// line that begins with two spaces and `--` declares an option; if its name is followed by a
    /// space and a placeholder, the option takes a value. Options may stand anywhere before `--`.
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
        let (mut options, mut positionals, mut before_dashes) = (Vec::new(), Vec::new(), None);
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_encoded_bytes() {
                b"-h" | b"--help" => return Err(Error::EarlyExit(help.into())),
                b"-V" | b"--version" => {
                    return Err(Error::EarlyExit(format!("{} {version}\n", program(help))));
                }
                b"--" => {
                    before_dashes = Some(positionals.len());
                    positionals.extend(args.by_ref());
                }
                [b'-', _, ..] => options.push(parse_option(help, &arg, &mut args)?),
                _ => positionals.push(arg),
            }
        }
        let usage = help.lines().next().unwrap_or_default();
        let words = usage.split_whitespace().skip(2).filter(|word| *word != "[OPTIONS]");
        let max_positionals = if usage.contains("...") { usize::MAX } else { words.count() };
        if let Some(extra) = positionals.get(max_positionals) {
            return Err(Error::Usage(format!("unexpected argument {}", quote(extra))));
        }
        let before_dashes = before_dashes.unwrap_or(positionals.len());
        Ok(Args { options, positionals, before_dashes })
    }

    /// Returns the positional arguments before `--`, and those after it.
    pub fn positionals(&self) -> Result<(Vec<&str>, Vec<&str>), Error> {
        let texts = self.positionals.iter().map(|arg| text("argument", arg));
        let mut before = texts.collect::<Result<Vec<_>, _>>()?;
        let after = before.split_off(self.before_dashes);
        Ok((before, after))
    }

    /// Returns the address, or the default if there is none.
    pub fn address(&self) -> Result<Address, Error> {
        let Some(arg) = self.positionals.first() else {
            return Ok(Address::default());
        };
        let parsed = Address::parse(text("ADDR", arg)?);
        parsed.map_err(|problem| Error::Usage(format!("ADDR {}: {problem}", quote(arg))))
    }

    /// Returns the messages, which follow the address, or `default` if there are none. `None` means
    /// standard input, for which a single `-` stands.
    pub fn messages(&self, default: &[&str]) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let mut messages: Vec<_> =
            self.positionals.iter().skip(1).map(|m| m.as_encoded_bytes().to_vec()).collect();
        if messages == [b"-"] {
            return Ok(None);
        }
        if messages.iter().any(|message| message == b"-") {
            return Err(Error::Usage("MESSAGE \"-\" must be the only message".into()));
        }
        if messages.is_empty() {
            messages.extend(default.iter().map(|message| message.as_bytes().to_vec()));
        }
        Ok(Some(messages))
    }

    /// Returns the values of an option that may be repeated.
    pub fn values(&self, name: &str) -> Result<Vec<&str>, Error> {
        let values = self.options.iter().filter(|(option, _)| *option == name);
        values.map(|(option, value)| text(option, value)).collect()
    }

    /// Returns whether an option without a value is present.
    pub fn flag(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Returns the value of an option that takes a whole number from 1 to `max`.
    pub fn number(&self, name: &str, max: u64) -> Result<Option<u64>, Error> {
        let parse = |text: &str| text.parse().ok().filter(|number| (1..=max).contains(number));
        match max {
            u64::MAX => self.parsed(name, "a whole number above zero", parse),
            _ => self.parsed(name, &format!("a whole number from 1 to {max}"), parse),
        }
    }

    /// Returns the value of an option in seconds, which may be a fraction or zero, or `default`.
    pub fn seconds(&self, name: &str, default: u64) -> Result<Duration, Error> {
        let seconds = self.parsed(name, "a number of seconds", parse_seconds)?;
        Ok(seconds.unwrap_or(Duration::from_secs(default)))
    }

    /// Like [`seconds`](Args::seconds), but rejects zero.
    pub fn timeout(&self, name: &str, default: u64) -> Result<Duration, Error> {
        let parse = |text: &str| parse_seconds(text).filter(|seconds| !seconds.is_zero());
        let timeout = self.parsed(name, "a number of seconds above zero", parse)?;
        Ok(timeout.unwrap_or(Duration::from_secs(default)))
    }

    fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let invalid_value = || Error::Usage(format!("{name} {}: not {expected}", quote(value)));
        value.to_str().and_then(parse).map(Some).ok_or_else(invalid_value)
    }

    /// Returns the value of the last occurrence of an option.
    fn value(&self, name: &str) -> Option<&OsString> {
        self.options.iter().rev().find(|(option, _)| *option == name).map(|(_, value)| value)
    }
}

fn parse_seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// Returns the program's name, the word after `Usage:`.
pub(crate) fn program(help: &'static str) -> &'static str {
    help.split_whitespace().nth(1).unwrap_or_default()
}

/// Parses an option. If it has no `=`, its value is the next argument.
fn parse_option(
    help: &'static str,
    arg: &OsStr,
    rest: &mut impl Iterator<Item = OsString>,
) -> Result<(&'static str, OsString), Error> {
    let unknown = || Error::Usage(format!("unknown option {}", quote(arg)));
    // Names are ASCII, and no valid value loses bytes here.
    let text = arg.to_string_lossy();
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (&*text, None),
    };
    // Two spaces separate an option from its description.
    let mut options = help.lines().filter(|line| line.starts_with("  --")).map(|line| {
        let option = line.trim_start().split("  ").next().unwrap_or_default();
        option.split_once(' ').unwrap_or((option, ""))
    });
    let (name, placeholder) = options.find(|(option, _)| *option == name).ok_or_else(unknown)?;
    match (value, placeholder) {
        (None, "") => Ok((name, OsString::new())),
        (Some(_), "") => Err(Error::Usage(format!("{name} takes no value"))),
        (Some(value), _) => Ok((name, value.into())),
        (None, _) => {
            let missing = || Error::Usage(format!("{name} needs a value: {name} {placeholder}"));
            Ok((name, rest.next().ok_or_else(missing)?))
        }
    }
}

fn text<'a>(name: &str, value: &'a OsStr) -> Result<&'a str, Error> {
    let not_utf8 = || Error::Usage(format!("{name} {}: not UTF-8", quote(value)));
    value.to_str().ok_or_else(not_utf8)
}

/// Quotes the beginning of an argument.
fn quote(arg: &OsStr) -> String {
    let bytes = arg.as_encoded_bytes();
    format!("\"{}\"", bytes[..bytes.len().min(250)].escape_ascii())
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

    #[test]
    fn accepts_options_anywhere_before_two_dashes() {
        let args = ["--quiet", ":80", "--count", "3", "b", "a", "--count=4", "--", "--count", ""];
        let args = parse(&args).unwrap();
        assert_eq!(args.number("--count", u64::MAX), Ok(Some(4)));
        assert!(args.flag("--quiet"));
        assert_eq!(args.address().unwrap().to_string(), "127.0.0.1:80");
        let messages = args.messages(&["unused"]).unwrap().unwrap();
        assert_eq!(messages, [&b"b"[..], b"a", b"--count", b""]);
        let positionals = (vec![":80", "b", "a"], vec!["--count", ""]);
        assert_eq!(args.positionals(), Ok(positionals));
        assert_eq!(args.values("--count"), Ok(vec!["3", "4"]));
    }

    #[test]
    fn seconds_may_be_fractions_and_zero() {
        for (text, millis) in [("0.25", 250), ("0", 0), ("3", 3000), ("1e-3", 1)] {
            let args = parse(&["--delay", text]).unwrap();
            assert_eq!(args.seconds("--delay", 9), Ok(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn help_and_version_end_parsing() {
        for (flag, text) in [("-h", HELP), ("--help", HELP), ("--version", "program 1.2.3\n")] {
            let error = parse(&["--quiet", flag, "--bogus"]).unwrap_err();
            assert_eq!(error, Error::EarlyExit(text.into()));
        }
        assert!(parse(&[":80", "--", "--help"]).is_ok());
    }

    #[test]
    fn names_argument_that_does_not_fit() {
        for (args, expected) in [
            (&["--bogus"][..], r#"unknown option "--bogus""#),
            (&["-q"], r#"unknown option "-q""#),
            (&["--quiet=yes"], "--quiet takes no value"),
            (&["--count"], "--count needs a value: --count N"),
            (&["--count", "0"], r#"--count "0": not a whole number above zero"#),
            (&["--count", "--quiet"], r#"--count "--quiet": not a whole number above zero"#),
            (&["--workers", "10"], r#"--workers "10": not a whole number from 1 to 9"#),
            (&["--delay", "1e30"], r#"--delay "1e30": not a number of seconds above zero"#),
            (&["--delay", "0"], r#"--delay "0": not a number of seconds above zero"#),
            (&["[::1"], r#"ADDR "[::1": neither [V6] nor [V6]:PORT"#),
            (&[":80", "hello", "-"], r#"MESSAGE "-" must be the only message"#),
        ] {
            let result = parse(args).and_then(|args| {
                args.number("--count", u64::MAX)?;
                args.number("--workers", 9)?;
                args.timeout("--delay", 1)?;
                args.messages(&[])?;
                args.address()
            });
            assert_eq!(result, Err(Error::Usage(expected.into())), "{args:?}");
        }
        let args = parse(&["--delay", "-1"]).unwrap();
        let error = args.seconds("--delay", 1).unwrap_err();
        assert_eq!(error.to_string(), r#"--delay "-1": not a number of seconds"#);
        let error =
            Args::parse("Usage: server [ADDR]", "", [":1", "x"].map(Into::into)).unwrap_err();
        assert_eq!(error, Error::Usage(r#"unexpected argument "x""#.into()));
        assert!(Args::parse("Usage: copy [OPTIONS] A B", "", ["1", "2"].map(Into::into)).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn accepts_any_bytes_in_messages_only() {
        use std::os::unix::ffi::OsStringExt;
        let parse = |args: &[&[u8]]| {
            Args::parse(HELP, "", args.iter().map(|arg| OsString::from_vec(arg.to_vec())))
        };
        let messages = parse(&[b":80", b"\xff"]).unwrap().messages(&[]).unwrap().unwrap();
        assert_eq!(messages, [b"\xff"]);
        let error = parse(&[b"\xff"]).unwrap().address().unwrap_err();
        assert_eq!(error.to_string(), r#"ADDR "\xff": not UTF-8"#);
        let error = parse(&[b"--count", b"\xff"]).unwrap().number("--count", 9).unwrap_err();
        assert_eq!(error.to_string(), r#"--count "\xff": not a whole number from 1 to 9"#);
        let args = parse(&[b"--count", b"\xff", b"--", b"\xff"]).unwrap();
        let error = args.values("--count").unwrap_err();
        assert_eq!(error.to_string(), r#"--count "\xff": not UTF-8"#);
        let error = args.positionals().unwrap_err();
        assert_eq!(error.to_string(), r#"argument "\xff": not UTF-8"#);
        let error = parse(&[b"--\xff"]).unwrap_err();
        assert_eq!(error.to_string(), r#"unknown option "--\xff""#);
    }
}
