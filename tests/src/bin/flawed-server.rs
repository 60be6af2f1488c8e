//! A server with one defect, for the tests of the fault kit.
//!
//! ```sh
//! flawed-server udp|tcp PORT [DEFECT]
//! ```
//!
//! It replies in upper case, and exits when its standard input ends.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let [_, protocol, port, rest @ ..] = &*env::args().collect::<Vec<_>>().leak() else { return };
    let defect = rest.first().map_or("", String::as_str);
    #[cfg(unix)]
    if protocol == "child" {
        return children::serve(defect);
    }
    let address = format!("127.0.0.1:{port}");
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(1);
    });
    match protocol.as_str() {
        "udp" => serve_datagrams(&UdpSocket::bind(address).unwrap(), defect),
        _ => serve_connections(&TcpListener::bind(address).unwrap(), defect),
    }
}

fn serve_datagrams(socket: &UdpSocket, defect: &str) {
    socket.set_read_timeout((defect == "times out").then_some(LIMIT)).unwrap();
    let (queue, replies) = mpsc::channel::<(Vec<u8>, _)>();
    let sender = socket.try_clone().unwrap();
    thread::spawn(move || {
        for (reply, client) in replies {
            thread::sleep(Duration::from_millis(50)); // A database, for example.
            let _ = sender.send_to(&reply, client);
        }
    });
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (text, lines) = mpsc::sync_channel::<String>(1_000);
    thread::spawn(move || lines.iter().for_each(|line| println!("{line:100}")));
    let (mut buffer, mut last) = (vec![0; 65_535], Vec::new());
    for number in 0.. {
        let (length, client) = match socket.recv_from(&mut buffer) {
            Err(_) if defect != "times out" => continue, // For example, that a client has departed.
            received => received.unwrap(),
        };
        let mut reply = buffer[..length].to_ascii_uppercase();
        match defect {
            "replies late at first" if number == 0 => thread::sleep(Duration::from_millis(1_200)),
            "needs 1 byte" => assert!(length >= 1),
            "needs 2 bytes" => assert!(length >= 2),
            "needs a line end" => assert!(reply.ends_with(b"\n")),
            "cuts" => reply.truncate(1_024),
            "echoes" => reply = buffer[..length].to_vec(),
            "prints once" if number == 40 => println!("ready"),
            "prints" => println!("{length:0100}"),
            "logs" => drop(writeln!(io::stdout(), "{length}")),
            "logs text" => drop(text.try_send(String::from_utf8_lossy(&buffer[..length]).into())),
            "amplifies" => reply.resize(600, b'.'),
            "prints errors" => eprintln!("{length}"),
            "accepts pings only" if reply != b"PING" => continue,
            "never replies" => continue,
            "leaks" => std::mem::forget(socket.try_clone().unwrap()),
            "mixes clients" if length >= 100 => std::mem::swap(&mut last, &mut reply),
            "replies to itself" => {}
            _ if client == socket.local_addr().unwrap() => continue,
            _ => {}
        }
        let sent = match defect {
            "replies from another port" => other.send_to(&reply, client),
            "queues" => queue.send((reply, client)).map(|()| 0).map_err(io::Error::other),
            _ => socket.send_to(&reply, client),
        };
        assert!(sent.is_ok() || defect != "exits on error", "{sent:?}");
    }
}

fn serve_connections(listener: &TcpListener, defect: &'static str) {
    #[cfg(unix)]
    if let Some(defect) = defect.strip_prefix("in 4 processes, ") {
        return children::supervise(listener, defect);
    }
    if defect.starts_with("has 32 workers") {
        let work = || listener.incoming().for_each(|it| drop(handle(it.unwrap(), defect)));
        return thread::scope(|scope| (0..32).for_each(|_| drop(scope.spawn(work))));
    }
    for number in 0.. {
        match listener.accept() {
            Ok(_) if defect == "refuses" && (60..160).contains(&number) => {}
            Ok(_) if defect == "wears out" && number > 80 => panic!("{number} clients"),
            Ok(_) if defect == "exits soon" && number > 1 => panic!("{number} clients"),
            Ok((stream, _)) => match defect {
                "exits on read error" | "exits on write error" | "needs UTF-8" => {
                    handle(stream, defect).unwrap();
                }
                "needs a peer" if stream.peer_addr().is_err() => panic!("NotConnected"),
                #[cfg(unix)]
                "starts processes" => {
                    thread::spawn(|| children::spawn(stream.into(), "").wait());
                }
                "serves in turn" => drop(handle(stream, defect)),
                _ => drop(thread::spawn(move || handle(stream, defect))),
            },
            Err(error) if defect == "exits on accept error" => panic!("{error}"),
            Err(_) if defect == "spins on accept error" => {}
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Counts requests, or events that end all connections.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static IS_HARMED: AtomicBool = AtomicBool::new(false);

fn handle(mut stream: TcpStream, defect: &str) -> io::Result<()> {
    static UNFINISHED: Mutex<()> = Mutex::new(());
    static GARBAGE: Mutex<Vec<TcpStream>> = Mutex::new(Vec::new());
    let count = COUNT.load(SeqCst);
    match defect {
        "times out" | "exits when resumed" => stream.set_read_timeout(Some(LIMIT))?,
        "collects garbage" => {
            let mut garbage = GARBAGE.lock().unwrap();
            garbage.push(stream.try_clone()?);
            if garbage.len() > 60 {
                garbage.clear();
            }
        }
        _ if defect.starts_with("has 32 workers") => stream.set_read_timeout(Some(LIMIT / 12))?,
        "greets" => stream.write_all(b"220 welcome\r\n")?,
        "only greets" => return stream.write_all(b"220 welcome\r\n"),
        _ => {}
    }
    let (queue, replies) = mpsc::channel::<Vec<u8>>();
    if defect == "queues" {
        let mut writer = stream.try_clone()?;
        thread::spawn(move || replies.iter().try_for_each(|reply| writer.write_all(&reply)));
    }
    let (mut buffer, mut line, mut total, mut lock) = ([0; 1024], Vec::new(), 0, None);
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(length @ 1..) => length,
            end => return finish(stream, defect, total, end),
        };
        if defect == "closes all" && COUNT.load(SeqCst) != count {
            return Ok(());
        }
        total += length;
        let mut reply = buffer[..length].to_ascii_uppercase();
        if defect == "replies once after invalid UTF-8" && buffer[..length].contains(&0xff) {
            IS_HARMED.store(true, SeqCst);
        }
        let harmed = IS_HARMED.load(SeqCst);
        match defect {
            "sends CR" => reply = String::from_utf8_lossy(&reply).replace('\n', "\r\n").into(),
            "acknowledges" => reply = format!("{length} bytes\n").into(),
            "decodes each read" => reply = String::from_utf8_lossy(&reply).into_owned().into(),
            "drops what is not ASCII" => reply.retain(u8::is_ascii),
            "needs UTF-8" => drop(String::from_utf8(reply.clone()).unwrap()),
            "never replies" => continue,
            "stops reading" if total > 1_024 => thread::sleep(LIMIT),
            "replies to one request" if total > length => continue,
            "replies with errors after a reset" if harmed => reply = b"error 500\n".into(),
            "counts" => reply = format!("request {}\n", COUNT.fetch_add(1, SeqCst)).into(),
            "has 32 workers for 26 bytes" if total < 26 => continue,
            "stores lines" | "waits for the rest" => {
                if defect == "waits for the rest" {
                    lock = lock.or_else(|| UNFINISHED.lock().ok());
                }
                line.extend(&reply);
                if !line.ends_with(b"\n") {
                    continue;
                }
                (reply, lock) = (std::mem::take(&mut line), None);
            }
            "queues" => {
                queue.send(reply).unwrap();
                continue;
            }
            _ => {}
        }
        match stream.write_all(&reply) {
            Err(error) if defect == "exits on write error" => return Err(error),
            _ if ["reads once", "has 32 workers for 26 bytes"].contains(&defect) => return Ok(()),
            _ if defect == "replies once after invalid UTF-8" && harmed => return Ok(()),
            _ if defect == "ends late" => {
                thread::sleep(Duration::from_millis(300));
                return stream.write_all(b"more");
            }
            _ => {}
        }
    }
}

/// Handles the end of a connection, after which `total` bytes have been received, or its error.
fn finish(
    mut stream: TcpStream,
    defect: &str,
    total: usize,
    end: io::Result<usize>,
) -> io::Result<()> {
    let is_new = |file| fs::File::create_new(file).is_ok();
    match (defect, end) {
        ("spins at end", Ok(_)) => while stream.read(&mut [0]).is_ok() {},
        ("exits at end", Ok(_)) => process::exit(3),
        ("needs a byte", Ok(_)) if total == 0 => process::exit(4),
        ("closes all", Ok(_)) if total == 0 => drop(COUNT.fetch_add(1, SeqCst)),
        ("stays at end", Ok(_)) | ("leaks after a reset", Err(_)) => std::mem::forget(stream),
        // 20 in the first, second and fifth round of the fault.
        ("fills a pool", Err(_)) if [0, 1, 4].contains(&(COUNT.fetch_add(1, SeqCst) / 20)) => {
            std::mem::forget(stream)
        }
        ("leaks threads", Ok(_)) => {
            drop(stream);
            thread::sleep(Duration::MAX);
        }
        // A core, in threads of which none lives long.
        ("burns threads at end", Ok(_)) if COUNT.fetch_add(1, SeqCst) == 0 => loop {
            let start = Instant::now();
            let spin = move || while start.elapsed() < Duration::from_millis(20) {};
            thread::spawn(spin).join().unwrap();
        },
        ("exits on read error", Err(error)) => return Err(error),
        ("exits when resumed", Err(error)) if error.kind() == ErrorKind::Interrupted => {
            process::exit(5)
        }
        ("replies with errors after a reset", Err(_)) => IS_HARMED.store(true, SeqCst),
        (_, Err(_)) if defect.strip_prefix("exits once ").is_some_and(is_new) => process::exit(6),
        _ => {}
    }
    Ok(())
}

/// A server of several processes, whose standard input is the socket that they serve.
#[cfg(unix)]
mod children {
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};
    use std::process::{Child, Command};

    pub fn spawn(socket: OwnedFd, defect: &str) -> Child {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["child", "", defect]).stdin(socket).spawn().unwrap()
    }

    /// Runs as many processes, which are started again if that is the defect.
    pub fn supervise(listener: &TcpListener, defect: &str) {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let run = || spawn(listener.try_clone().unwrap().into(), defect).wait();
                    while run().is_ok() && defect == "exits on read error" {}
                });
            }
        });
    }

    pub fn serve(defect: &'static str) {
        let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
        match defect {
            "" => drop(handle(TcpStream::from(socket), "")),
            _ => serve_connections(&TcpListener::from(socket), defect),
        }
    }
}
