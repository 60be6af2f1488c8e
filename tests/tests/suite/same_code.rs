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

/// Returns the lines in which two texts differ, or `None` if they are equal.
fn difference(what: &str, [one, other]: [(&str, Option<String>); 2]) -> Option<String> {
    let lines = [&one.1, &other.1].map(|text| {
        text.as_deref().unwrap_or("(there is none)").lines().map(str::trim).collect::<Vec<&str>>()
    });
    let equal = |(one, other): &(&&str, &&str)| one == other;
    let start = lines[0].iter().zip(&lines[1]).take_while(equal).count();
    let rests = lines.each_ref().map(|lines| &lines[start..]);
    let end = rests[0].iter().rev().zip(rests[1].iter().rev()).take_while(equal).count();
    let [minus, plus] = rests.map(|rest| &rest[..rest.len() - end]);
    if minus.is_empty() && plus.is_empty() {
        return None;
    }
    let show = |sign: &str, name: &str, lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| format!("{sign} {line}")).collect();
        format!("{sign}{sign}{sign} {name}\n{}\n", lines.join("\n"))
    };
    Some(format!("{what}:\n{}{}", show("-", one.0, minus), show("+", other.0, plus)))
}

/// Asserts that texts are the same in all programs.
fn assert_same(
    names: &[&str],
    programs: impl Iterator<Item = String>,
    text: impl Fn(&str, &str) -> Option<String>,
) {
    let programs: Vec<String> = programs.collect();
    let (model, mut differences) = (&programs[0], Vec::new());
    for name in names {
        assert!(text(model, name).is_some(), "{model}: no {name}");
        let texts = |program| (program, text(program, name));
        let others = programs[1..].iter();
        differences.extend(others.filter_map(|it| difference(name, [texts(model), texts(it)])));
    }
    assert!(differences.is_empty(), "not the same code\n{}", differences.join("\n"));
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

/// With one thread and with several, all of what protects a server from its clients.
#[test]
fn udp_servers_share_loop() {
    let is_threaded = |server: &String| function(server, "work").is_some();
    let (threaded, single): (Vec<String>, Vec<String>) =
        replying_over_udp().map(Pair::server).partition(is_threaded);
    assert_same(&["serve", "receive"], single.into_iter(), function);
    assert_same(&["serve", "work", "receive", "stop"], threaded.into_iter(), function);
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
