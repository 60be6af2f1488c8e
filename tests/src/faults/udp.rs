//! Faults for UDP servers.

use super::Verdict::{Fails, NotTried, Survives};
use super::target::{PATIENCE, is_timeout, retry};
use super::{Outcome, Target, grouped, symptom};
use crate::LARGEST;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Forges datagrams and counts those with the same ports that arrive, its own included. Arguments:
/// the address of both ends, their ports, how many to send, for how many seconds to count.
const FORGER: &str = "\
import socket, struct, sys, time
address, source_port, port, copies, seconds = sys.argv[1:]
v6 = ':' in address
header = struct.pack('!HHHH', int(source_port), int(port), 14, 0)
with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
    if v6:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, 6)
    raw.bind((address, 0))
    for _ in range(int(copies)):
        raw.sendto(header + b'forged', (address, 0))
    count, end = 0, time.monotonic() + float(seconds)
    raw.settimeout(float(seconds))
    while time.monotonic() < end:
        try:
            packet = raw.recv(65535)
            count += packet[0 if v6 else 4 * (packet[0] & 15):][:4] == header[:4]
        except OSError:
            pass
print('counted', count)
";

pub(super) fn empty_datagram(target: &mut Target) -> Outcome {
    let socket = target.socket(Duration::from_secs(1))?;
    socket.send(b"")?;
    // Whether it deserves a reply is for the server to decide.
    match retry(|| socket.recv(&mut [0; 16])) {
        Err(error) if is_timeout(&error) => Err(Survives("no reply to it".into())),
        _ => Ok(()),
    }
}

pub(super) fn largest_datagram(target: &mut Target) -> Outcome {
    let length = if target.address.is_ipv4() { LARGEST } else { 65_527 };
    target.exchange(&vec![b'x'; length])
}

pub(super) fn departed_client(target: &mut Target) -> Outcome {
    for _ in 0..10 {
        let socket = target.socket(PATIENCE)?;
        // The last of many is certainly not replied to before the socket is closed.
        for _ in 0..20 {
            let _ = socket.send(b"Goodbye"); // It fails after the server has exited.
        }
    }
    Ok(())
}

pub(super) fn flood(target: &mut Target) -> Outcome {
    let socket = target.socket(PATIENCE)?;
    for _ in 0..20_000 {
        // It fails while the queue of the system is full, and after the server has exited.
        let _ = socket.send(&[b'x'; 1_000]);
    }
    Ok(())
}

pub(super) fn source_port_0(target: &mut Target) -> Outcome {
    forge(target, 0, 4, 0.2).map(|_| ())
}

pub(super) fn own_address(target: &mut Target) -> Outcome {
    let port = target.address.port();
    let count = forge(target, port, 1, 0.5)?;
    if count == 1 {
        return Ok(());
    }
    // The datagram circulates until it meets a full queue.
    let stopped = (0..5).any(|_| flood(target).is_ok() && forge(target, port, 0, 0.3) == Ok(0));
    let advice = if stopped { "" } else { " and still does: restart it" };
    let details = format!("replied to itself {} times in 0.5 s{advice}", grouped(count - 1));
    Err(Fails(symptom::SPINS, details))
}

/// Forges datagrams to the server and returns how many with these ports arrived.
fn forge(target: &Target, port: u16, copies: usize, seconds: f64) -> Outcome<usize> {
    let address = target.address.ip().to_string();
    let ports = [port.to_string(), target.address.port().to_string()];
    let mut reason = String::new();
    for command in [&["python3"][..], &["sudo", "-n", "python3"]] {
        let mut forger = Command::new(command[0]);
        forger.args(&command[1..]).args(["-c", FORGER, &address, &ports[0], &ports[1]]);
        forger.args([copies.to_string(), seconds.to_string()]).stdin(Stdio::null());
        let output = match forger.output() {
            Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into(),
            Err(error) => error.to_string(),
        };
        match output.trim().strip_prefix("counted ").and_then(|count| count.parse().ok()) {
            Some(count) if count >= copies.min(1) => return Ok(count),
            _ => reason += &format!("; {}", output.trim().lines().last().unwrap_or("")),
        }
    }
    Err(NotTried(format!("needs root and python3{reason}")))
}
