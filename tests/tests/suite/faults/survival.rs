//! The fault kit on our own servers. Nothing else in the gate injects its faults into them.

use crate::support::*;
use std::process::Command;
use std::{env, thread};
use tests::candidates::{CANDIDATES, Candidate};
use tests::faults::{Fault, faults};
use tests::survival::{cell, committed};

/// Asserts that the verdicts on the servers that reply are those of the survival table.
///
/// An edit of tests/mutations.txt needs only the faults in the environment variable `FAULTS`.
fn assert_verdicts(is_selected: fn(&Fault) -> bool) {
    let named = env::var("FAULTS").ok();
    let is_named = |fault: &Fault| {
        named.as_ref().is_none_or(|named| named.split(' ').any(|it| it == fault.name))
    };
    thread::scope(|scope| {
        for pair in PAIRS.iter().filter(|pair| pair.replies()) {
            let faults = faults(pair.protocol());
            let names = faults.filter(|fault| is_selected(fault) && is_named(fault));
            let names: Vec<&str> = names.map(|fault| fault.name).collect();
            // Several kits at the same time, since a kit mostly waits. Neighbors take long.
            let kits = names.len().div_ceil(4);
            for first in 0..kits {
                let names: Vec<&str> = names.iter().copied().skip(first).step_by(kits).collect();
                scope.spawn(move || inject(pair, &names));
            }
        }
    });
}

/// Injects faults into the server of a pair, and compares the verdicts with the survival table.
fn inject(pair: &Pair, names: &[&str]) {
    let mut kit = Command::new(env!("CARGO_BIN_EXE_fault-kit"));
    kit.arg(pair.protocol().name()).args(names.iter().flat_map(|name| ["--only", name]));
    let ours = || CANDIDATES.iter().filter(|it| it.is_ours() && it.protocol == pair.protocol());
    let own = ours().find(|candidate| candidate.name == pair.name);
    // A pair that has no column must survive what another one of its protocol does.
    let column = own.or_else(|| ours().next());
    if own.is_none() {
        let end = if pair.protocol() == Protocol::Tcp { "\\n" } else { "" };
        kit.arg("--request").arg(pair.messages[0].to_string() + end);
    }
    kit.arg("--").arg(program(&pair.server())).arg("127.0.0.1:{port}");
    let (_, output) = finish(&mut kit);
    for name in names {
        assert_verdict(&output, pair.name, column, name);
    }
}

/// Asserts that the output of the kit has the verdict of the committed table. A fault for which it has
/// no cell must be survived.
pub fn assert_verdict(output: &str, server: &str, column: Option<&Candidate>, fault: &str) {
    let table = committed();
    let cell = column.and_then(|column| cell(&table, column, fault)).unwrap_or("survives");
    let expected = match cell.trim_matches('*') {
        "survives" => "survives".into(),
        "–" => "not tried: ".into(),
        symptom => format!("FAILS: {symptom}: "),
    };
    let mut lines = output.lines();
    let line = lines.find(|line| line.split(' ').next() == Some(fault)).unwrap_or_default();
    // After the name and the duration.
    let is_expected = line.contains(&format!("  {expected}"));
    assert!(is_expected, "{server}, {fault}: expected {expected:?}: {output}");
}

/// Returns whether a fault needs more than Rust and this system.
fn needs_more(fault: &Fault) -> bool {
    fault.summary.contains("root") || fault.summary.contains("python3")
}

#[test]
fn verdicts_on_ours_are_those_of_table() {
    let _lock = open_many_files(); // the pipes of many kits
    assert_verdicts(|fault| {
        let is_possible = cfg!(target_os = "linux") || !fault.summary.contains("Linux");
        is_possible && !needs_more(fault) && fault.name != "burst-of-connections"
    });
    // Beside other kits, clients would pause for longer than a server short of workers allows.
    assert_verdicts(|fault| fault.name == "burst-of-connections");
}

mod needs_root {
    #[test]
    #[ignore = "needs root and python3"]
    fn verdicts_on_ours_are_those_of_table() {
        super::assert_verdicts(super::needs_more);
    }
}
