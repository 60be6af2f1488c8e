//! The fault kit on our own servers. Nothing else in the gate injects its faults into them.

use crate::support::*;
use std::process::Command;
use std::{env, thread};
use tests::candidates::CANDIDATES;
use tests::faults::{Fault, faults};
use tests::survival::{cell, committed};

/// Asserts that the verdicts on the servers that reply are those of the survival table. A fault that it has
/// no cell for must be survived.
///
/// An edit of tests/mutations.txt needs only the faults in the environment variable `FAULTS`.
fn assert_verdicts(selected: fn(&Fault) -> bool) {
    let named = env::var("FAULTS").ok();
    let is_named =
        |name: &str| named.as_ref().is_none_or(|named| named.split(' ').any(|other| other == name));
    thread::scope(|scope| {
        for pair in PAIRS.iter().filter(|pair| pair.replies()) {
            let faults = faults(pair.protocol());
            let names = faults.filter(|fault| selected(fault) && is_named(fault.name));
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
    let mut ours = CANDIDATES.iter().filter(|candidate| candidate.is_ours());
    // A pair that has no column must survive what the others of its protocol do.
    let own = ours.clone().find(|candidate| candidate.name == pair.name);
    let column = own.or_else(|| ours.find(|candidate| candidate.protocol == pair.protocol()));
    if own.is_none() {
        let end = if pair.protocol() == Protocol::Tcp { "\\n" } else { "" };
        kit.arg("--request").arg(pair.messages[0].to_string() + end);
    }
    kit.arg("--").arg(program(&pair.server())).arg("127.0.0.1:{port}");
    let ((_, output), table) = (finish(&mut kit), committed());
    for name in names {
        let cell = column.and_then(|column| cell(&table, column, name));
        let expected = match cell.map(|cell| cell.trim_matches('*')) {
            None | Some("survives") => "survives".to_string(),
            Some(symptom) => format!("FAILS: {symptom}"),
        };
        let mut lines = output.lines();
        let verdict = lines.find(|line| line.split(' ').next() == Some(name)).unwrap_or("");
        // Behind the name and the duration.
        let is_expected = verdict.contains(&format!("  {expected}"));
        assert!(is_expected, "{}, {name}: expected {expected:?}: {output}", pair.name);
    }
}

/// Returns whether a fault needs more than Rust and this system.
fn needs_more(fault: &Fault) -> bool {
    fault.summary.contains("root") || fault.summary.contains("python3")
}

#[test]
fn verdicts_on_ours_are_those_of_table() {
    let _lock = use_all_cores();
    assert_verdicts(|fault| {
        let is_possible = cfg!(target_os = "linux") || !fault.summary.contains("Linux");
        is_possible && fault.name != "burst-of-connections" && !needs_more(fault) // the burst is below
    });
}

/// On a busy computer, clients would pause for longer than a server short of workers allows.
#[test]
fn burst_of_connections_is_served() {
    let _lock = use_all_cores();
    assert_verdicts(|fault| fault.name == "burst-of-connections");
}

mod needs_root {
    use super::*;

    #[test]
    #[ignore = "needs root and python3"]
    fn verdicts_on_ours_are_those_of_table() {
        assert_verdicts(needs_more);
    }
}
