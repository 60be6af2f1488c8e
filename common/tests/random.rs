//! Random command lines are parsed, or an error names one of their words.

use common::{Args, Error};
use std::ffi::OsString;

const HELP: &str = "\
Usage: program [OPTIONS] [ADDR [MESSAGE...]]

Options:
  --count N       exit after N
  --delay SECS    wait SECS seconds
  --quiet         print nothing
";

/// Returns 100,000 sequences of up to six words.
fn random_words<'a>(words: &'a [&str]) -> impl Iterator<Item = Vec<&'a str>> {
    let mut random = 1_u64; // xorshift (Marsaglia 2003)
    let sequence = move |_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let numbers = (0..random % 7).map(|n| (random >> (8 * n + 3)) as usize);
        numbers.map(|number| words[number % words.len()]).collect()
    };
    (0..100_000).map(sequence)
}

fn parse(words: &[&str]) -> Result<Args, Error> {
    Args::parse(HELP, "1.2.3", words.iter().map(OsString::from))
}

#[test]
fn arguments_are_parsed_or_one_is_named() {
    let words = ["--count", "--delay=5", "--quiet", "--", "-", "", "7", ":80", "--x", "a\nb"];
    let mut accepted = 0;
    for given in random_words(&words) {
        let parsed = parse(&given).and_then(|args| {
            args.number("--count", u64::MAX)?;
            args.messages(&[])?;
            args.address()
        });
        match parsed {
            Ok(_) => accepted += 1,
            Err(Error::Usage(error)) => {
                let is_named = |word: &&&str| error.contains(&word.escape_default().to_string());
                assert!(given.iter().any(|word| is_named(&word)), "{given:?}: {error}");
                assert_eq!(error.lines().count(), 1, "{given:?}: {error}");
            }
            other => panic!("{given:?}: {other:?}"),
        }
    }
    assert!(accepted > 5_000, "{accepted}");
}

#[test]
fn accepted_address_is_parsed_as_it_is_displayed() {
    let parts = ["1", "127.0.0.1", "::1", ":", "[", "]", ".", "-", "%", "0x", "+", "a", "\u{fc}"];
    let address = |text: &str| parse(&["--", text])?.address();
    let mut accepted = 0;
    for text in random_words(&parts).map(|words| words.concat()) {
        if let Ok(parsed) = address(&text) {
            accepted += 1;
            let shown = parsed.to_string();
            assert_eq!(address(&shown), Ok(parsed), "{text:?}");
            let is_name = !shown.starts_with('.') && !shown.contains("..");
            assert!(shown.starts_with('[') || is_name, "{text:?}");
        }
    }
    assert!(accepted > 10_000, "{accepted}");
}
