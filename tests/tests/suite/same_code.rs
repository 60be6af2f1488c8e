//! Each program is copied alone, so some code stands in more than one. It has to be the same, or a
//! fix could be made in one of them only. This holds for every pair, so that another one cannot lack
//! what protects it.

use crate::support::*;
use predicates::Predicate;
use predicates::reflection::Case;
use predicates::str::diff;
use tests::copying::source;

/// Returns a function of a program, with what stands above it up to an empty line, and without
/// indentation.
fn function(program: &str, name: &str) -> Option<String> {
    let (_, source) = source(program);
    let (above, function) = source.split_once(&format!("fn {name}("))?;
    let indentation = above.rsplit('\n').next()?;
    let length = function.find(&format!("\n{indentation}}}\n"))?;
    let (start, end) = (above.rfind("\n\n")?, source.len() - function.len() + length);
    Some(source[start..end].lines().map(str::trim).collect::<Vec<&str>>().join("\n"))
}

/// Returns a part of a function, both ends included.
fn part(program: &str, name: &str, from: &str, to: &str) -> Option<String> {
    let function = function(program, name)?;
    let start = function.find(from)?;
    let length = function[start..].find(to)? + to.len();
    Some(function[start..start + length].into())
}

/// Returns how a text of the programs differs from that of the first of them.
fn differences(what: &str, programs: &[String], text: impl Fn(&str) -> Option<String>) -> String {
    let model = &programs[0];
    let is_same = diff(text(model).unwrap_or_else(|| panic!("{model}: no {what}")));
    let mut differences = String::new();
    for program in &programs[1..] {
        let other = text(program).unwrap_or("(there is none)".into());
        for difference in is_same.find_case(false, &other).iter().flat_map(Case::products) {
            differences += &format!("{what} of {model} and of {program}: {difference}\n");
        }
    }
    differences
}

#[test]
fn programs_share_what_protects_them() {
    let mut errors = String::new();
    // The first of these pairs is `udp-echo`.
    let (udp_servers, udp_clients): (Vec<String>, Vec<String>) =
        udp_pairs().map(|pair| (pair.server(), pair.client())).unzip();
    errors += &differences("the check of the own port", &udp_servers, |server| {
        part(server, "receive", "// Spoofed", "=> continue,")
    });
    let (threaded, single): (Vec<String>, Vec<String>) =
        udp_servers.into_iter().partition(|server| function(server, "work").is_some());
    // The clients resend, list recent ports, and check that a socket is not connected to itself.
    for (programs, names) in [
        (udp_clients, &["new", "request", "connect", "connect_to", "receive", "is_transient"][..]),
        (single, &["serve", "receive"]),
        (threaded, &["serve", "work", "receive", "stop"]),
    ] {
        for name in names {
            errors += &differences(name, &programs, |program| function(program, name));
        }
    }
    errors += &differences("the delay after an error", &Vec::from_iter(servers()), |program| {
        let name = if program.starts_with("tcp-") { "accept" } else { "receive" };
        let start = part(program, name, "let mut delay_ms", ";")?;
        let text = start + "\n" + &part(program, name, "// A system error", ".min(1000);")?;
        Some(text.replace("EMFILE", "ENOMEM").replace("cannot accept", "cannot receive"))
    });
    assert!(errors.is_empty(), "{errors}");
}
