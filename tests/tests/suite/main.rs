//! The test suite, by subject.
//!
//! A test that needs more than Rust is ignored, with what it needs as the reason. Those that need
//! root are in modules named `needs_root`.

mod addresses;
mod command_line;
mod copying;
mod faults;
mod figures;
mod handlers;
#[cfg(target_os = "linux")]
mod interop;
#[cfg(target_os = "linux")]
mod limits;
mod mutations;
mod pages;
mod pitfalls;
mod recipes;
mod same_code;
#[cfg(target_os = "linux")]
mod signals;
mod stop;
mod streams;
mod support;
mod tcp_client;
mod tcp_server;
mod udp_client;
mod udp_network;
mod udp_server;
