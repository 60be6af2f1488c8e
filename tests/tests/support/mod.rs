//! What the tests share beyond the harness.

#![allow(dead_code, reason = "no test file uses all of it")]

use assert_cmd::Command;
use std::panic;
use std::process::Child;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use tests::DEADLINE;

/// A client (or any example) to run to its end under the deadline.
pub fn client(name: &str) -> Command {
    let mut command = Command::new(tests::program(name));
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

/// Does what has no deadline of its own, such as to read from a pipe, and fails when it takes longer.
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
