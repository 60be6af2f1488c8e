//! The configuration of nginx: it balances the load, and servers may restart behind it.

use super::block;
use crate::support::*;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

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
    let directory = Folder::new("nginx");
    fs::write(directory.0.join("nginx.conf"), configuration).unwrap();

    let tcp = |address: &str| Process::start_at("tcp-threaded-server", address, &[]);
    let udp = |address: &str| Process::start_at("udp-threaded-server", address, &[]);
    let (tcp_one, tcp_two, udp_one, udp_two) = (tcp(&one), tcp(&two), udp(&one), udp(&two));
    let mut nginx = Command::new("nginx");
    nginx.args(["-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;", "-p"]).arg(&directory.0);
    let nginx = QuitOnDrop(Process::spawn(&mut nginx));
    wait_until("nginx listens", || TcpStream::connect(&front).is_ok());

    let mut lost = 0;
    let mut request = || {
        for name in ["tcp-threaded-client", "udp-threaded-client"] {
            let output = start_client(name, &[&front, "balanced"]).output();
            // Requests in flight when servers exit, and those by which each process of nginx finds
            // out, once a second, that a server is still down.
            lost += usize::from(output.stdout != b"BALANCED\n");
            assert!(lost < 20, "{output:?}");
        }
    };
    let is_used = |server: &Process| server.stdout().contains("\"balanced\" from ");
    wait_until("all servers are used", || {
        request();
        [&tcp_one, &tcp_two, &udp_one, &udp_two].into_iter().all(is_used)
    });
    drop((tcp_one, udp_one));
    (0..40).for_each(|_| request());
    let (tcp_one, udp_one) = (tcp(&one), udp(&one));
    wait_until("the restarted servers are used", || {
        request();
        is_used(&tcp_one) && is_used(&udp_one)
    });
    drop(nginx);
}

/// An nginx that exits with its worker processes, which it would leave behind if it were killed.
struct QuitOnDrop(Process);

impl Drop for QuitOnDrop {
    fn drop(&mut self) {
        signal("TERM", &[self.0.id()]);
        self.0.exit_code();
    }
}
