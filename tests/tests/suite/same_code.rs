//! Each program is copied alone, so some code stands in more than one. It has to be the same, or a
//! fix could be made in one of them only. This holds for every pair, so that another one cannot lack
//! what protects it.

use crate::support::*;
use tests::copying::source;

/// Returns a function of a program, with the comments above it.
fn function(program: &str, name: &str) -> Option<String> {
    let (_, source) = source(program).unwrap();
    let lines: Vec<&str> = source.lines().collect();
    let is_start = |line: &&str| line.trim_start().starts_with(&format!("fn {name}("));
    let start = lines.iter().position(is_start)?;
    let indentation = lines[start].len() - lines[start].trim_start().len();
    let end = format!("{}}}", " ".repeat(indentation));
    let is_comment = |line: &&&str| line.trim_start().starts_with("///");
    let comments = lines[..start].iter().rev().take_while(is_comment).count();
    let length = lines[start..].iter().position(|line| *line == end)?;
    Some(lines[start - comments..=start + length].join("\n"))
}

/// Returns a part of a function, both ends included.
fn part(program: &str, name: &str, from: &str, to: &str) -> Option<String> {
    let function = function(program, name)?;
    let start = function.find(from)?;
    let length = function[start..].find(to)? + to.len();
    Some(function[start..start + length].into())
}

/// Asserts that texts are the same in all programs.
fn assert_same(
    names: &[&str],
    programs: impl Iterator<Item = String>,
    text: impl Fn(&str, &str) -> Option<String>,
) {
    let programs: Vec<String> = programs.collect();
    let lines = |program: &str, name: &str| -> Vec<String> {
        let text = text(program, name).unwrap_or_else(|| panic!("{program}: no {name}"));
        text.lines().map(|line| line.trim().into()).collect()
    };
    for (program, name) in
        programs[1..].iter().flat_map(|it| names.iter().map(move |name| (it, name)))
    {
        let (model, other) = (lines(&programs[0], name), lines(program, name));
        let same = model.iter().zip(&other).take_while(|(model, other)| model == other).count();
        let [first, second] = [&model, &other].map(|lines| lines.get(same));
        assert!(model == other, "{name}: {} has {first:?}, {program} has {second:?}", programs[0]);
    }
}

/// Returns the pairs over UDP whose servers reply; the first is `udp-echo`.
fn replying_over_udp() -> impl Iterator<Item = &'static Pair> {
    PAIRS.iter().filter(|pair| pair.replies() && pair.protocol() == Protocol::Udp)
}

/// The resend, the list of recent ports, and the check that a socket is not connected to itself.
#[test]
fn udp_clients_share_functions() {
    let names = ["new", "request", "connect", "connect_to", "receive", "is_transient"];
    assert_same(&names, replying_over_udp().map(Pair::client), function);
}

#[test]
fn udp_servers_share_check_of_own_port() {
    assert_same(&["receive"], replying_over_udp().map(Pair::server), |program, name| {
        part(program, name, "// Spoofed", "=> continue,")
    });
}

#[test]
fn servers_share_back_off() {
    assert_same(&["delay after an error"], servers(), |program, _| {
        let name = if program.starts_with("tcp-") { "accept" } else { "receive" };
        let start = part(program, name, "let mut delay_ms", ";")?;
        let text = start + "\n" + &part(program, name, "// A system error", ".min(1000);")?;
        Some(text.replace("EMFILE", "ENOMEM").replace("cannot accept", "cannot receive"))
    });
}
