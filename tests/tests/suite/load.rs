//! Many clients at once, and the fault kit. These tests keep all cores busy, so they take turns.

use crate::support::*;
use tests::candidates::{CANDIDATES, Candidate};
use tests::faults::{Fault, faults};

/// Asserts that our servers survive the faults that are `selected` by their descriptions.
///
/// The kit is a process of its own, because a burst needs many descriptors. Ours end with it: the
/// end of standard input stops the threaded servers. An edit of tests/mutations.txt needs only the
/// faults in the environment variable `FAULTS`.
fn assert_survive(selected: fn(&Fault) -> bool) {
    let named = env::var("FAULTS").ok();
    let is_named =
        |name: &str| named.as_ref().is_none_or(|named| named.split(' ').any(|other| other == name));
    thread::scope(|scope| {
        for server in CANDIDATES.into_iter().filter(Candidate::is_ours) {
            let faults = faults(server.protocol);
            let names = faults.filter(|fault| selected(fault) && is_named(fault.name));
            let names: Vec<&str> = names.map(|fault| fault.name).collect();
            // Several kits at the same time, since a kit mostly waits.
            for names in names.chunks(6).map(<[_]>::to_vec) {
                scope.spawn(move || {
                    let mut kit = Command::new(env!("CARGO_BIN_EXE_fault-kit"));
                    kit.arg(server.protocol.name());
                    kit.args(names.iter().flat_map(|name| ["--only", name]));
                    kit.arg("--").arg(program(&format!("{}-server", server.name))).arg(":{port}");
                    kit.args(server.name.contains("threaded").then_some("--until-eof"));
                    let mut kit = Process::spawn(&mut kit);
                    kit.limit = Some(Instant::now() + 4 * DEADLINE);
                    let (code, output) = (kit.exit_code(), kit.stdout());
                    let survived = output.ends_with(" survived, 0 failed, 0 not tried\n");
                    assert!(survived, "{code}: {output}");
                });
            }
        }
    });
}

#[test]
fn ours_survive_every_fault() {
    let _lock = use_all_cores();
    assert_survive(|Fault { name, summary, .. }| {
        // A client that keeps sending keeps its worker: the survival table says so. The burst is below.
        let is_left_out = ["slow-clients", "burst-of-connections"].contains(name);
        let needs_more = summary.contains("root") || summary.contains("python3");
        !is_left_out && !needs_more && (cfg!(target_os = "linux") || !summary.contains("Linux"))
    });
}

/// On a busy machine, clients would pause for longer than a server short of workers allows.
#[test]
fn ours_survive_burst_of_connections() {
    let _lock = use_all_cores();
    assert_survive(|fault| fault.name == "burst-of-connections");
}

mod needs_root {
    #[test]
    #[ignore = "needs root and python3"]
    fn ours_survive_forged_datagrams() {
        let _lock = super::use_all_cores();
        super::assert_survive(|fault| fault.summary.contains("python3"));
    }
}

#[test]
fn udp_clients_get_their_own_replies() {
    let _lock = use_all_cores();
    for name in UDP_SERVERS {
        let server = Process::start(name, &["--quiet"]);
        let address = server.address();
        thread::scope(|scope| {
            // A socket's receive buffer holds one request of each client, so none is dropped.
            for client in 0..64 {
                scope.spawn(move || {
                    let socket = udp(address);
                    for number in 0..200 {
                        let message = format!("request {number} of client {client}");
                        let reply = request(&socket, message.as_bytes());
                        assert_eq!(reply, message.to_uppercase().as_bytes(), "{name}");
                    }
                });
            }
        });
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use crate::support::*;

    #[test]
    fn short_connections_leave_nothing_behind() {
        let _lock = use_all_cores();
        let server = Process::start("tcp-threaded-server", &["--workers", "64", "--quiet"]);
        let (process, address) = (server.id(), server.address());
        wait_until("all workers run", || status(process, "Threads") == 64);
        let descriptors = || tests::proc::descriptors(process);
        let before = descriptors();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..250 {
                        let mut stream = tcp(address);
                        match number % 3 {
                            0 => drop(stream),
                            1 => {
                                stream.write_all(b"reset").unwrap();
                                reset(stream);
                            }
                            _ => {
                                stream.write_all(b"x").unwrap();
                                stream.shutdown(Shutdown::Write).unwrap();
                                assert_eq!(read_to_end(&stream), b"X");
                            }
                        }
                    }
                });
            }
        });
        // The last connections may still be open on the server's side.
        wait_until("all descriptors are closed", || descriptors() == before);
        assert_eq!(status(process, "Threads"), 64);
    }

    #[test]
    fn connections_at_same_time_get_their_own_bytes() {
        const CHUNK: usize = 64 << 10;
        let _lock = use_all_cores();
        if !can_open_files("load::linux::connections_at_same_time_get_their_own_bytes") {
            return;
        }
        let server = Process::start("tcp-threaded-server", &["--workers", "600", "--quiet"]);
        let request = letters(0, 1 << 20);
        let response = request.to_ascii_uppercase();
        let streams: Vec<TcpStream> = (0..400).map(|_| tcp(server.address())).collect();
        // All of them have a worker after the first byte.
        for length in [1, CHUNK, CHUNK] {
            for (number, mut stream) in streams.iter().enumerate() {
                stream.write_all(&request[number * 997..][..length]).unwrap();
            }
            for (number, mut stream) in streams.iter().enumerate() {
                let mut received = vec![0; length];
                stream.read_exact(&mut received).unwrap();
                assert!(received == response[number * 997..][..length], "client {number}");
            }
        }
    }
}
