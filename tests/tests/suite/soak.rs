//! Honest clients among all faults of the kit, and what the servers use in the meantime.

use crate::support::*;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

mod needs_root {
    use super::*;

    /// Takes as long as the kit, or the seconds in the environment variable `SOAK`.
    #[test]
    #[ignore = "needs root and python3"]
    fn servers_serve_honest_clients_among_faults() {
        let _lock = use_all_cores();
        let seconds = env::var("SOAK").map_or(0, |seconds| seconds.parse().unwrap());
        let end = Instant::now() + Duration::from_secs(seconds);
        thread::scope(|scope| {
            for name in [UDP_SERVERS[0], UDP_SERVERS[1], "tcp-threaded-server"] {
                scope.spawn(move || soak(name, end));
            }
        });
    }
}

fn soak(name: &str, end: Instant) {
    let mut server = Process::start(name, &["--quiet"]);
    let (address, id) = (server.address(), server.id());
    let client = if name.starts_with("tcp") { send_stream } else { send_datagrams };
    // The stream is connected before the first fault.
    thread::scope(|scope| {
        let (running, until_end) = channel::<()>();
        let honest = scope.spawn(move || client(address, &until_end));
        let mut before = None;
        let mut rounds = 0;
        while rounds < 1 || Instant::now() < end {
            let mut kit = Command::new(env!("CARGO_BIN_EXE_fault-kit"));
            kit.args([&name[..3], &address.to_string()]);
            if name.starts_with("tcp") {
                // As the pages say, clients that send a byte now and then occupy all workers.
                kit.args(["--skip", "slow-clients"]);
            }
            let mut kit = Process::spawn(&mut kit);
            kit.limit = Some(Instant::now() + 3 * DEADLINE);
            assert_eq!(kit.exit_code(), 0, "{name}, round {rounds}: {}", kit.stdout());
            suspend_and_resume(id);
            let descriptors = || fs::read_dir(format!("/proc/{id}/fd")).unwrap().count();
            let used = || (status(id, "Threads"), descriptors());
            // Of the kit's last connections, some may still be open.
            let (threads_and_descriptors, memory) = *before.get_or_insert_with(|| {
                let mut last = used();
                wait_until("the kit's connections are closed", || {
                    thread::sleep(Duration::from_millis(100));
                    std::mem::replace(&mut last, used()) == last
                });
                (last, status(id, "VmRSS"))
            });
            let what = format!("{name}, round {rounds}: threads and descriptors");
            wait_until(&format!("{what} are {threads_and_descriptors:?}"), || {
                used() == threads_and_descriptors
            });
            let now = status(id, "VmRSS");
            assert!(now < memory + 16_384, "{name}, round {rounds}: {memory} KiB, then {now} KiB");
            rounds += 1;
        }
        drop(running);
        let served = honest.join().unwrap();
        println!("{name}: {rounds} rounds, {served} honest requests");
        assert!(served > 10 * rounds, "{name}: {served} honest requests in {rounds} rounds");
    });
    server.kill();
    assert!(!server.stderr().contains("panicked"), "{name}: {}", server.stderr());
}

/// Sends requests over one connection until the sender is dropped, and returns their number.
fn send_stream(address: SocketAddr, until_end: &Receiver<()>) -> usize {
    let stream = tcp(address);
    (0..)
        .take_while(|_| until_end.try_recv() == Err(TryRecvError::Empty))
        .map(|number| {
            let request = letters(number, 1 + number * 997 % 100_000);
            let response = exchange(&stream, &request);
            assert!(response == request.to_ascii_uppercase(), "request {number} over TCP");
            thread::sleep(Duration::from_millis(5)); // not to compete with the kit
        })
        .count()
}

/// Like [`send_stream`], from one socket. A request is repeated, because a flood drops some.
fn send_datagrams(address: SocketAddr, until_end: &Receiver<()>) -> usize {
    let (socket, mut reply) = (udp(address), vec![0; 65_535]);
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let request = |number: usize| {
        let text = letters(number, number * 997 % 8_000);
        [number.to_string().as_bytes(), b" ", &text].concat()
    };
    for number in 0.. {
        let start = Instant::now();
        loop {
            if until_end.try_recv() != Err(TryRecvError::Empty) {
                return number;
            }
            assert!(start.elapsed() < DEADLINE, "no reply to request {number} over UDP");
            socket.send(&request(number)).unwrap();
            let Ok(length) = retry_on_eintr(|| socket.recv(&mut reply)) else { continue };
            let text = String::from_utf8_lossy(&reply[..length]);
            // It may be that to a request which was repeated.
            let replied: usize = text.split_once(' ').unwrap().0.parse().unwrap();
            assert!(reply[..length] == request(replied).to_ascii_uppercase(), "request {replied}");
            if replied == number {
                break;
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    unreachable!()
}
