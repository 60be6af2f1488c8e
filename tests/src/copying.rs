//! Copies of the programs, as `docs/copying.md` describes them.
//!
//! The page is the source: what follows the part of a program before `const HELP` is a block of code
//! on that page or in `docs/recipes.md`, after a line such as `<!-- copy: run udp-echo-server -->`.

use crate::PAIRS;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The line of a server that imports the log macros.
const IMPORT: &str = "use common::{error, info, warn};\n";

/// Returns the names of the programs.
pub fn programs() -> impl Iterator<Item = String> {
    PAIRS.iter().flat_map(|pair| [pair.server(), pair.client()])
}

/// Returns the root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a folder").into()
}

fn read(path: &str) -> io::Result<String> {
    let error = |error| io::Error::other(format!("cannot read {path} of the checkout: {error}"));
    fs::read_to_string(root().join(path)).map_err(error)
}

/// Returns the path of a program in the checkout, and its source.
///
/// # Errors
///
/// The file cannot be read.
pub fn source(program: &str) -> io::Result<(String, String)> {
    let (pair, side) = program.rsplit_once('-').unwrap_or((program, ""));
    let path = format!("{pair}/src/{side}.rs");
    let source = read(&path)?;
    Ok((path, source))
}

/// Returns the code of the pages that follows a marker with this kind and word.
///
/// # Errors
///
/// There is none, or a page cannot be read.
pub fn block(kind: &str, word: &str) -> io::Result<String> {
    let pages = read("docs/copying.md")? + &read("docs/recipes.md")?;
    let code = pages.split("<!-- copy: ").skip(1).find_map(|rest| {
        let (marker, rest) = rest.split_once(" -->\n```rust\n")?;
        let mut words = marker.split(' ');
        let is_wanted = words.next() == Some(kind) && words.any(|found| found == word);
        is_wanted.then(|| rest.split_once("\n```").map(|(code, _)| format!("\n{code}\n")))?
    });
    code.ok_or(io::Error::other(format!("docs/copying.md has no {kind} for {word}")))
}

/// Returns the part of a program that is copied, with the macros of the page or those of `log`.
///
/// Of the comment at its top, how to run the original and where to read on are left out.
///
/// # Errors
///
/// A file of the checkout cannot be read.
pub fn head(program: &str, log: bool) -> io::Result<String> {
    let (path, source) = source(program)?;
    let (copied, _) = source.split_once("const HELP").unwrap_or((&source, ""));
    let (header, code) = copied.split_once("\n\n").unwrap_or(("", copied));
    let is_kept = |part: &&str| !part.starts_with("//! ```") && !part.starts_with("//! In Python");
    let header = header.split("\n//!\n").filter(is_kept).collect::<Vec<&str>>().join("\n//!\n");
    // What was an option is a field.
    let header = header.replace("`--", "`");
    let header = header.replace("//! Version", &format!("//! Copied from `{path}`, version"));
    let code = code.trim_end();
    Ok(match code.split_once(IMPORT) {
        None => format!("{header}\n\n{code}\n"),
        Some((_, code)) if log => format!("{header}\n\nuse log::{{error, info, warn}};\n{code}\n"),
        // Macros are defined before they are used.
        Some((_, code)) => format!("{header}\n{}\n{code}\n", block("macros", "std")?),
    })
}

/// Returns a copy of a program as a module with a function `run`, and its test if it is a server.
///
/// # Errors
///
/// A file of the checkout cannot be read.
pub fn module(program: &str, log: bool) -> io::Result<String> {
    let test = if program.ends_with("server") { block("test", program)? } else { String::new() };
    Ok(head(program, log)? + &block("run", program)? + &test)
}

/// Returns the files of a new package that consists of a copy of a program.
///
/// # Errors
///
/// A file of the checkout cannot be read.
pub fn package(program: &str, name: &str, log: bool) -> io::Result<[(&'static str, String); 2]> {
    let (dependencies, init) = match log {
        true => ("env_logger = \"0.11\"\nlog = \"0.4\"\n", "\n    env_logger::init();"),
        false => ("", ""),
    };
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         rust-version = \"1.85\"\n\n[dependencies]\n{dependencies}"
    );
    let (_, side) = program.rsplit_once('-').unwrap_or_default();
    let main = block("main", side)?.replacen(" {", &format!(" {{{init}"), 1);
    let test = if side == "server" { block("test", program)? } else { String::new() };
    let source = [head(program, log)?, main, block("run", program)?, test].concat();
    Ok([("Cargo.toml", manifest), ("src/main.rs", source)])
}
