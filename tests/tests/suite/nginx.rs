//! The configuration of nginx: it balances the load, and servers may restart behind it.

use super::block;
use crate::support::{command, signal, wait_until};
use std::net::TcpStream;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::{fs, thread};
use tests::{Process, Server, unused_address};

#[test]
#[ignore = "needs nginx with its stream module"]
fn nginx_balances_over_restart_of_server() {
    let [front, one, two] = [(); 3].map(|()| unused_address().to_string());
    let mut configuration = block("nginx");
    for (shown, free) in [("8000", &front), ("8001", &one), ("8002", &two)] {
        configuration = configuration.replace(&format!("127.0.0.1:{shown}"), free);
    }
    // A distribution's nginx may have the module as a file to load.
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    if module.exists() {
        configuration.insert_str(0, &format!("load_module {};\n", module.display()));
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nginx");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("nginx.conf"), configuration).unwrap();

    let tcp = |address: &str| Server::start_at("tcp-threaded-server", address, &[]);
    let udp = |address: &str| Server::start_at("udp-threaded-server", address, &[]);
    let (tcp_one, tcp_two, udp_one, udp_two) = (tcp(&one), tcp(&two), udp(&one), udp(&two));
    let mut nginx = Command::new("nginx");
    nginx.args(["-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;", "-p"]).arg(&directory);
    let nginx = QuitOnDrop(Process::spawn(&mut nginx));
    wait_until("nginx listens", || TcpStream::connect(&front).is_ok());

    let (is_done, lost, served) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for name in ["tcp-threaded-client", "udp-threaded-client"] {
            let (front, is_done, lost, served) = (&front, &is_done, &lost, &served);
            scope.spawn(move || {
                while !is_done.load(SeqCst) {
                    let output = command(name).args([front, "balanced"]).output().unwrap();
                    if output.stdout == b"BALANCED\n" && output.status.success() {
                        served.fetch_add(1, SeqCst);
                    } else {
                        // Requests in flight when servers exit, and those by which each process of
                        // nginx finds out, once a second, that a server is still down.
                        assert!(lost.fetch_add(1, SeqCst) < 20, "{output:?}");
                    }
                }
            });
        }
        let wait_for_replies = |more: usize| {
            let start = served.load(SeqCst);
            wait_until("requests are served", || served.load(SeqCst) >= start + more);
        };
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            wait_for_replies(80);
            assert!(tcp_one.wait_for("connected").is_some());
            assert!(tcp_two.wait_for("connected").is_some());
            assert!(udp_one.wait_for("balanced").is_some());
            assert!(udp_two.wait_for("balanced").is_some());
            drop((tcp_one, udp_one));
            wait_for_replies(80);
            let (tcp_one, udp_one) = (tcp(&one), udp(&one));
            assert!(tcp_one.wait_for("connected").is_some());
            assert!(udp_one.wait_for("balanced").is_some());
        }));
        is_done.store(true, SeqCst);
        result.unwrap();
    });
    drop(nginx);
}

/// An nginx that exits with its worker processes, which it would leave behind if it were killed.
struct QuitOnDrop(Process);

impl Drop for QuitOnDrop {
    fn drop(&mut self) {
        signal("TERM", self.0.id());
        self.0.exit_code();
    }
}
