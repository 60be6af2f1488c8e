//! Each program is copied alone, so some code stands in more than one. It has to be the same, or a
//! fix could be made in one of them only.

use tests::copying::source;

/// Returns a function of a program, with the comments above it.
fn function(program: &str, name: &str) -> String {
    let (_, source) = source(program).unwrap();
    let lines: Vec<&str> = source.lines().collect();
    let is_start = |line: &&str| line.trim_start().starts_with(&format!("fn {name}("));
    let start = lines.iter().position(is_start).unwrap_or_else(|| panic!("{program}: {name}"));
    let indentation = lines[start].len() - lines[start].trim_start().len();
    let end = format!("{}}}", " ".repeat(indentation));
    let is_comment = |line: &&&str| line.trim_start().starts_with("///");
    let comments = lines[..start].iter().rev().take_while(is_comment).count();
    let length = lines[start..].iter().position(|line| *line == end).unwrap();
    lines[start - comments..=start + length].join("\n")
}

#[test]
fn udp_clients_share_functions() {
    for name in ["new", "request", "connect", "connect_to", "receive", "is_transient"] {
        let [echo, threaded] = crate::support::UDP_CLIENTS.map(|program| function(program, name));
        assert_eq!(echo, threaded);
    }
}

#[test]
fn servers_share_back_off() {
    let back_off = |program| {
        let source =
            function(program, if program == "tcp-threaded-server" { "accept" } else { "receive" });
        let (_, errors) = source.split_once("// A system error").expect("system errors");
        let (errors, _) = errors.split_once(".min(1000);").expect("a maximum");
        errors.replace("EMFILE", "ENOMEM").replace("cannot accept", "cannot receive")
    };
    let basic = back_off("udp-basic-server");
    for program in ["udp-echo-server", "udp-threaded-server", "tcp-threaded-server"] {
        assert_eq!(back_off(program), basic, "{program}");
    }
}
