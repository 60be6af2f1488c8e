//! The configuration of nginx: it balances the load, and servers may restart behind it.

use super::block;
use crate::support::*;
use std::cell::Cell;
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
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if Path::new(module).exists() {
        configuration = format!("load_module {module};\n{configuration}");
    }
    let directory = empty_folder("nginx");
    fs::write(directory.join("nginx.conf"), configuration).unwrap();

    let start = |address: &str| {
        let names = ["tcp-threaded-server", "udp-threaded-server"];
        names.map(|name| Process::start_at(name, address, &[]))
    };
    let (first, second) = (start(&one), start(&two));
    let mut nginx = Command::new("nginx");
    nginx.args(["-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;", "-p"]).arg(&directory);
    let _nginx = Process::guarded(&mut nginx, false).unwrap();
    wait_until("nginx listens", || TcpStream::connect(&front).is_ok());

    let lost = Cell::new(0);
    let request = || {
        for name in ["tcp-threaded-client", "udp-threaded-client"] {
            let output = start_client(name, &[&front, "balanced"]).output();
            // Requests in flight when servers exit, and those by which each process of nginx finds
            // out, once a second, that a server is still down.
            lost.set(lost.get() + usize::from(output.stdout != b"BALANCED\n"));
            assert!(lost.get() < 20, "{output:?}");
        }
    };
    let request_until_used = |servers: &[Process]| {
        wait_until("all servers are used", || {
            request();
            servers.iter().all(|server| server.stdout().contains("\"balanced\" from "))
        });
    };
    request_until_used(&first);
    request_until_used(&second);
    drop(first);
    (0..40).for_each(|_| request());
    request_until_used(&start(&one));
}
