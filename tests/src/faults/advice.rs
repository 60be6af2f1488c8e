//! What the kit advises.

use super::Verdict::{self, Fails, Flaky};
use super::client::Client;
use super::{FAULTS, Target};

/// Returns what to change in a server that does not survive a fault, and where to read more. Another
/// symptom than usual has another cause.
pub fn advice(fault: &str, verdict: &Verdict) -> Vec<String> {
    let (Fails(symptom, details) | Flaky(symptom, details)) = verdict else { return Vec::new() };
    let listed = FAULTS.iter().find(|it| it.name == fault);
    let is_about = |texts: &[&str]| texts.iter().any(|text| details.contains(text));
    let hint = match (fault, *symptom) {
        (_, "exits") if is_about(&["Error: read E", "Error: write E", "'error' event"]) => {
            "Handle the event `error` of each socket: in Node, socket.on(\"error\", …)."
        }
        ("client-that-never-reads", "exits") => {
            "The reset at the end is an error of one connection. In C, also ignore SIGPIPE."
        }
        ("half-close", "hangs") if is_about(&["stays open"]) => {
            "Close the connection when a read returns 0; after fork, in the parent as well."
        }
        ("half-close", "loses data") if is_about(&["closed without"]) => {
            "Reply although the client's end has come. In hyper: http1::Builder::half_close(true)."
        }
        ("line-without-an-end", "hangs") => {
            "While it writes, it does not read. Between pipes, read and write in two threads."
        }
        ("flood", "loses data") => {
            "A buffer belongs to one request until its reply is sent. Do not share it."
        }
        ("silent-clients" | "unfinished-requests" | "slow-clients", "drops clients") => {
            "Close connections that are idle for long, and limit them per client, not only in all."
        }
        ("descriptors-exhausted", "loses data") => {
            "Accept fewer connections, so that descriptors remain for what a request opens."
        }
        (_, "leaks") => {
            "Close connections on every path, after fork in the parent too, and reap children."
        }
        ("repeat", _) => "Each fault alone is survived. Look for what one of them leaves behind.",
        _ => listed.map_or("", |fault| fault.hint),
    };
    let link = listed.map(|_| format!("docs/pitfalls.md#{fault}"));
    [hint.to_string()].into_iter().chain(link).collect()
}

/// What a server that survives everything may still lack.
pub const LIMITS: &str =
    "The kit cannot show a missing timeout, threads without a limit, or an unwrap of a rare error.";

/// Returns a warning if `--reply` is also contained in the reply to a request that no protocol has.
pub fn warning(target: &Target) -> Option<String> {
    const ODD: &[u8] = b"????????\r\n\r\n";
    let client = Client { patience: target.client.patience / 5, ..target.client.clone() };
    let may_pass = client.options.reply.is_some() && !target.speaks_first();
    let is_weak = may_pass && client.exchange(ODD).is_ok();
    let text = "contains --reply as well, so an error may pass for a reply.";
    is_weak.then(|| format!("The reply to \"{}\" {text}", ODD.escape_ascii()))
}
