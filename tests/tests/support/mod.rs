//! What the tests share beyond the harness.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::env;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::panic;
use std::process::{Child, Command, Output};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use tests::DEADLINE;

/// A client (or any example) to run to its end under the deadline.
pub fn client(name: &str) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(tests::program(name));
    command.timeout(DEADLINE);
    command
}

/// A child without the harness, which holds its pipes open; killed when it is dropped.
pub struct Killed(pub Child);

impl Killed {
    /// Waits until it has ended; returns the exit code, -1 for a signal.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("it does not end");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does what has no deadline of its own, such as to read from a pipe, and fails when the deadline
/// has passed.
#[track_caller]
pub fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    let worker = thread::spawn(move || tell.send(work()));
    match told.recv_timeout(DEADLINE) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("not done before the DEADLINE"),
        Err(RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panicked) => panic::resume_unwind(panicked),
            Ok(_) => unreachable!("what it sent would have come"),
        },
    }
}

/// Asks over UDP and returns the answer.
#[track_caller]
pub fn ask(socket: &UdpSocket, request: &[u8]) -> Vec<u8> {
    let mut answer = vec![0; 65_535];
    socket.send(request).unwrap();
    let length = in_deadline(uninterrupted(|| socket.recv(&mut answer)));
    answer.truncate(length);
    answer
}

/// Asks over TCP and returns the answer, which is as long as the request.
#[track_caller]
pub fn exchange(mut stream: &TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).unwrap();
    let mut answer = vec![0; request.len()];
    in_deadline(stream.read_exact(&mut answer));
    answer
}

/// What was received by a socket of the harness, which waits until the deadline.
#[track_caller]
fn in_deadline<T>(received: io::Result<T>) -> T {
    match received {
        Ok(received) => received,
        // Unix's name and Windows's.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("no answer before the DEADLINE")
        }
        Err(error) => panic!("no answer: {error}"),
    }
}

/// What a call gives, however often the test itself is stopped and continued, as by a debugger.
///
/// On Linux that interrupts calls with a timeout: `read`, `peek`, `recv`. Those that loop, such as
/// `read_exact` and `write_all`, go on by themselves.
#[track_caller]
pub fn resumed<T>(call: impl FnMut() -> io::Result<T>) -> T {
    uninterrupted(call).unwrap()
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Processor time that a process has used, in hundredths of a second: fields 14 and 15, and the
/// name before them, in parentheses, may hold anything. Linux only.
pub fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11);
    fields.take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

/// What a command says, or why it says nothing.
pub fn said(command: &mut Command) -> String {
    let both = |output: Output| [output.stdout, output.stderr].concat();
    let said = command.output().map_or_else(|why| why.to_string().into_bytes(), both);
    String::from_utf8_lossy(&said).into_owned()
}

/// Says so aloud, past the test runner, which captures what a test prints; in CI it is a failure.
pub fn not_run(wanted: &str, why: &str) -> bool {
    let test = thread::current().name().unwrap_or_default().to_string();
    let why = why.trim().replace('\n', "; ");
    let report = format!("NOT RUN: {test}: needs {wanted}: {why}\n");
    assert!(env::var_os("CI").is_none(), "{report}");
    io::stderr().write_all(report.as_bytes()).unwrap();
    false
}

/// strace, to be followed by a program.
pub fn strace(arguments: &[&str]) -> Command {
    let mut command = Command::new("strace");
    // The program is our child, and strace its child: who ends the one ends both.
    command.args(["-D", "-f", "-q", "-e", "signal=none"]).args(arguments);
    command
}

/// Whether strace is here and may trace; it must where `CI` is set.
pub fn can_trace() -> bool {
    let mut echo = strace(&["-o", "/dev/null", "-e", "inject=recvfrom:error=EINTR"]);
    let says = said(echo.args(["echo", "traced"]));
    says == "traced\n" || not_run("strace", &says)
}
