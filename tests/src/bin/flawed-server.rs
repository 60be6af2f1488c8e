//! A server with one defect, for the tests of the fault kit.
//!
//! ```sh
//! flawed-server udp|tcp PORT [DEFECT]
//! ```
//!
//! It replies in upper case, and exits when its standard input ends.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let words: Vec<String> = env::args().collect();
    let defect: &str = words.get(3).cloned().unwrap_or_default().leak();
    #[cfg(unix)]
    if words[1] == "child" {
        return children::serve(defect);
    }
    let address = format!("127.0.0.1:{}", words[2]);
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(1);
    });
    match words[1].as_str() {
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
    let (text, lines) = mpsc::sync_channel::<String>(1_000);
    thread::spawn(move || lines.iter().for_each(|line| println!("{line}")));
    let (mut buffer, mut last) = (vec![0; 65_535], Vec::new());
    for number in 0.. {
        let (length, client) = match socket.recv_from(&mut buffer) {
            Err(_) if defect != "times out" => continue, // For example, that a client has departed.
            received => received.unwrap(),
        };
        let mut reply = buffer[..length].to_ascii_uppercase();
        match defect {
            "needs 1 byte" => assert!(length >= 1),
            "needs 2 bytes" => assert!(length >= 2),
            "needs a line end" => assert!(reply.ends_with(b"\n")),
            "cuts" => reply.truncate(1_024),
            "echoes" => reply = buffer[..length].to_vec(),
            "prints once" if number == 40 => println!("ready"),
            "prints" => println!("{length:0100}"),
            "logs" => drop(writeln!(io::stdout(), "{length}")),
            "logs text" => {
                let line = format!("{:100}", String::from_utf8_lossy(&buffer[..length]));
                let _ = text.try_send(line);
            }
            "amplifies" => reply.resize(600, b'.'),
            "prints errors" => eprintln!("{length}"),
            "accepts pings only" if reply != b"PING" => continue,
            "never replies" => continue,
            "leaks" => std::mem::forget(socket.try_clone().unwrap()),
            "mixes clients" if length >= 100 => std::mem::swap(&mut last, &mut reply),
            "replies from another port" => {
                let other = UdpSocket::bind("127.0.0.1:0").unwrap();
                other.send_to(&reply, client).unwrap();
                continue;
            }
            "queues" => {
                queue.send((reply, client)).unwrap();
                continue;
            }
            "replies to itself" => {}
            _ if client == socket.local_addr().unwrap() => continue,
            _ => {}
        }
        let sent = socket.send_to(&reply, client);
        assert!(sent.is_ok() || defect != "exits on error", "{sent:?}");
    }
}

fn serve_connections(listener: &TcpListener, defect: &'static str) {
    #[cfg(unix)]
    if let Some(defect) = defect.strip_prefix("in 4 processes, ") {
        return children::supervise(listener, defect);
    }
    if defect.starts_with("has 32 workers") {
        return thread::scope(|scope| {
            for _ in 0..32 {
                scope
                    .spawn(|| listener.incoming().for_each(|it| drop(handle(it.unwrap(), defect))));
            }
        });
    }
    for number in 0.. {
        match listener.accept() {
            Ok(_) if defect == "refuses" && (60..160).contains(&number) => {}
            Ok(_) if defect == "wears out" && number > 80 => panic!("{number} clients"),
            Ok(_) if defect == "exits soon" && number > 1 => panic!("{number} clients"),
            Ok((stream, _)) if defect == "needs a peer" => {
                stream.peer_addr().unwrap();
                thread::spawn(move || handle(stream, ""));
            }
            #[cfg(unix)]
            Ok((stream, _)) if defect == "starts processes" => children::start(stream.into(), ""),
            Ok((stream, _)) => match defect {
                "exits on read error" | "exits on write error" | "needs UTF-8" => {
                    handle(stream, defect).unwrap();
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

fn handle(mut stream: TcpStream, defect: &str) -> io::Result<()> {
    static UNFINISHED: Mutex<()> = Mutex::new(());
    static EPOCH: AtomicUsize = AtomicUsize::new(0);
    static HARMED: AtomicBool = AtomicBool::new(false);
    static GARBAGE: Mutex<Vec<TcpStream>> = Mutex::new(Vec::new());
    let epoch = EPOCH.load(SeqCst);
    match defect {
        "times out" | "exits when resumed" => stream.set_read_timeout(Some(LIMIT))?,
        "collects garbage" => {
            let mut garbage = GARBAGE.lock().unwrap();
            garbage.push(stream.try_clone()?);
            if garbage.len() > 60 {
                garbage.clear();
            }
        }
        "has 32 workers" | "has 32 workers for 26 bytes" => {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?
        }
        "greets" => stream.write_all(b"220 welcome\r\n")?,
        "only greets" => return stream.write_all(b"220 welcome\r\n"),
        "leaks" => std::mem::forget(stream.try_clone()?),
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
            Ok(0) if defect == "spins at end" => continue,
            Ok(0) if defect == "exits at end" => process::exit(3),
            Ok(0) if defect == "stays at end" => loop {
                thread::park();
            },
            Ok(0) if defect == "leaks threads" => {
                drop(stream);
                loop {
                    thread::park();
                }
            }
            Ok(0) if defect == "burns threads at end" => burn(),
            Ok(0) if defect == "needs a byte" && total == 0 => process::exit(4),
            Ok(0) if defect == "closes all" && total == 0 => {
                EPOCH.fetch_add(1, SeqCst);
                return Ok(());
            }
            Err(error) if defect == "exits on read error" => return Err(error),
            Err(error) if defect == "exits when resumed" => match error.kind() {
                ErrorKind::Interrupted => process::exit(5),
                _ => return Ok(()),
            },
            Err(_) if defect == "replies with errors after a reset" => {
                HARMED.store(true, SeqCst);
                return Ok(());
            }
            Err(_) if defect == "leaks after a reset" => {
                std::mem::forget(stream);
                return Ok(());
            }
            Err(_) if defect.starts_with("exits once ") => {
                let file = Path::new(&defect["exits once ".len()..]);
                if !file.exists() {
                    fs::write(file, "").unwrap();
                    process::exit(6);
                }
                return Ok(());
            }
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => length,
        };
        if defect == "closes all" && EPOCH.load(SeqCst) != epoch {
            return Ok(());
        }
        total += length;
        let mut reply = buffer[..length].to_ascii_uppercase();
        if defect == "replies once after invalid UTF-8" && buffer[..length].contains(&0xff) {
            HARMED.store(true, SeqCst);
        }
        let harmed = HARMED.load(SeqCst);
        match defect {
            "sends CR" => reply = String::from_utf8_lossy(&reply).replace('\n', "\r\n").into(),
            "acknowledges" => reply = format!("{length} bytes\n").into(),
            "decodes each read" => reply = String::from_utf8_lossy(&reply).into_owned().into(),
            "drops what is not ASCII" => reply.retain(u8::is_ascii),
            "needs UTF-8" => drop(String::from_utf8(reply.clone()).unwrap()),
            "never replies" => continue,
            "replies to one request" if total > length => continue,
            "replies with errors after a reset" if harmed => reply = b"error 500\n".into(),
            "counts" => reply = format!("request {}\n", EPOCH.fetch_add(1, SeqCst)).into(),
            "has 32 workers for 26 bytes" if total < 26 => continue,
            "stores lines" => {
                line.extend(&reply);
                if !line.ends_with(b"\n") {
                    continue;
                }
                reply = std::mem::take(&mut line);
            }
            "waits for the rest" => {
                lock = lock.or_else(|| UNFINISHED.lock().ok());
                if !reply.ends_with(b"\n") {
                    continue;
                }
                lock = None;
            }
            "queues" => {
                queue.send(reply).unwrap();
                continue;
            }
            _ => {}
        }
        match stream.write_all(&reply) {
            Err(error) if defect == "exits on write error" => return Err(error),
            _ if defect == "reads once" => return Ok(()),
            _ if defect == "has 32 workers for 26 bytes" => return Ok(()),
            _ if defect == "replies once after invalid UTF-8" && harmed => return Ok(()),
            _ if defect == "ends late" => {
                thread::sleep(Duration::from_millis(300));
                return stream.write_all(b"more");
            }
            _ => {}
        }
    }
}

/// Uses more than a core, in threads of which none lives long.
fn burn() -> ! {
    loop {
        let spin = || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(20) {}
        };
        let threads = [thread::spawn(spin), thread::spawn(spin)];
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// A server of several processes, whose standard input is the socket that they serve.
#[cfg(unix)]
mod children {
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};
    use std::process::{Child, Command};

    pub fn start(socket: OwnedFd, defect: &str) {
        let mut child = spawn(socket, defect);
        thread::spawn(move || child.wait());
    }

    fn spawn(socket: OwnedFd, defect: &str) -> Child {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["child", "", defect]).stdin(socket).spawn().unwrap()
    }

    /// Runs as many processes, which are started again if that is the defect.
    pub fn supervise(listener: &TcpListener, defect: &str) {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut child = spawn(listener.try_clone().unwrap().into(), defect);
                    while child.wait().is_ok() && defect == "exits on read error" {
                        child = spawn(listener.try_clone().unwrap().into(), defect);
                    }
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
