//! Copies a program into a package.
//!
//! ```sh
//! cargo run --bin copy -- tcp-threaded-server ../my-server
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tests::{PAIRS, copying};

const HELP: &str = "\
Copies a program into a package of your own.

Usage: copy [OPTIONS] PROGRAM FOLDER

PROGRAM is PAIR-server or PAIR-client, where PAIR is one of:
  {pairs}
If FOLDER contains a package, the program becomes its module src/server.rs or
src/client.rs. Otherwise FOLDER becomes a package, which is named like the
folder. No file is overwritten.

Options:
  --log       log by the crates log and env_logger instead of macros
  -h, --help  print this help

Exit code: 0 if the program was copied, 1 if not, 2 for a wrong command line.
";

fn main() -> ExitCode {
    let arguments: Result<Vec<String>, OsString> =
        std::env::args_os().skip(1).map(OsString::into_string).collect();
    let invalid = |argument| (2, format!("the argument {argument:?} is not UTF-8"));
    let (code, text) = match arguments.map_err(invalid).and_then(|arguments| run(&arguments)) {
        Ok(text) => (0, text),
        Err((code, error)) => (code, format!("copy: {error}\n")),
    };
    // Either may be closed.
    let _ = match code {
        0 => io::stdout().write_all(text.as_bytes()),
        _ => io::stderr().write_all(text.as_bytes()),
    };
    ExitCode::from(code)
}

/// Copies a program and returns what to do next; an error is an exit code and a message.
fn run(arguments: &[String]) -> Result<String, (u8, String)> {
    let usage = |error: String| (2, format!("{error}; see --help"));
    let (mut operands, mut log) = (Vec::new(), false);
    for argument in arguments {
        match argument.as_str() {
            "-h" | "--help" => {
                let pairs = PAIRS.iter().map(|pair| pair.name).collect::<Vec<&str>>();
                return Ok(HELP.replace("{pairs}", &pairs.join(", ")));
            }
            "--log" => log = true,
            option if option.starts_with('-') => {
                return Err(usage(format!("unknown option {option:?}")));
            }
            operand => operands.push(operand),
        }
    }
    let [program, folder] = operands[..] else {
        return Err(usage("expected a PROGRAM and a FOLDER".into()));
    };
    if !copying::programs().any(|name| name == program) {
        let names = copying::programs().collect::<Vec<String>>().join(", ");
        return Err(usage(format!("unknown program {program:?}, expected one of {names}")));
    }
    let folder = Path::new(folder);
    if folder.is_file() {
        return Err(usage(format!("{} is not a folder", folder.display())));
    }
    let manifest = folder.join("Cargo.toml");
    if !manifest.exists() {
        let around = manifests_around(folder);
        let is_package = |text| has_table(text, "[package]") && !has_table(text, "[workspace]");
        if let Some((package, _)) = around.first().filter(|(_, text)| is_package(text)) {
            let (shown, package) = (folder.display(), package.display());
            return Err(usage(format!("{shown} is inside of the package {package}: name that")));
        }
        let name = package_name(folder).map_err(usage)?;
        return new_package(program, folder, &name, log).map_err(|error| (1, error.to_string()));
    }
    match fs::read_to_string(&manifest) {
        Ok(text) if has_table(&text, "[package]") => {
            add_module(program, folder, log).map_err(|error| (1, error.to_string()))
        }
        Ok(_) => Err(usage(format!("{} has no [package]: name a member", manifest.display()))),
        Err(error) => Err((1, format!("cannot read {}: {error}", manifest.display()))),
    }
}

/// Returns whether a manifest has a table such as `[package]`.
fn has_table(manifest: &str, name: &str) -> bool {
    manifest.lines().any(|line| line.split('#').next().is_some_and(|line| line.trim() == name))
}

/// Returns the packages and workspaces around a folder, which may not exist: folders and manifests.
fn manifests_around(folder: &Path) -> Vec<(PathBuf, String)> {
    let absolute = std::path::absolute(folder).unwrap_or_default();
    let existing = absolute.ancestors().find_map(|folder| folder.canonicalize().ok());
    let manifest = |folder: &Path| {
        let text = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        Some((folder.into(), text))
    };
    existing.unwrap_or_default().ancestors().filter_map(manifest).collect()
}

/// Returns the name of a folder if a package may have it.
fn package_name(folder: &Path) -> Result<String, String> {
    // `.` and `..` exist and have a name of their own.
    let resolved = if folder.file_name().is_none() { folder.canonicalize().ok() } else { None };
    let name = resolved.as_deref().unwrap_or(folder).file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    let is_valid = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if !is_valid {
        let rule = "a package name begins with a letter and has only letters, digits, - and _";
        Err(format!("the folder {name:?}: {rule}"))
    } else if matches!(&*name, "build" | "deps" | "examples" | "incremental") {
        Err(format!("the folder {name:?}: Cargo reserves this name for its own folders"))
    } else {
        Ok(name.into())
    }
}

fn new_package(program: &str, folder: &Path, name: &str, log: bool) -> io::Result<String> {
    let [(manifest, mut content), main] = copying::package(program, name, log)?;
    let around = manifests_around(folder);
    let workspace = around.iter().find(|(_, text)| has_table(text, "[workspace]"));
    let this = copying::root().canonicalize()?;
    if workspace.is_some_and(|(root, _)| *root == this) {
        content += "\n# Not a member of the workspace around it.\n[workspace]\n";
    }
    let mut text = create(folder, &[(manifest, content), main])?;
    let (shown, address) = (folder.display(), "127.0.0.1:8888");
    text += &format!("\nNext, in {shown}:\n");
    if program.ends_with("client") {
        text += &format!("  cargo run -- {address} hello\n");
        return Ok(text + &advice(program, ""));
    }
    text += &format!("  cargo run    # on {address}, or on the address after `--`\n");
    text += "  cargo test   # runs the server in the process of the test\n";
    if log {
        text += "\nIt logs only errors unless the environment variable RUST_LOG is `info`.\n";
    }
    Ok(text + &advice(program, &format!("{shown}/target/debug/{name}")))
}

/// Returns what to change in a copy, and how to check the server of a binary.
fn advice(program: &str, binary: &str) -> String {
    if program == "tcp-threaded-client" {
        return "\nIt expects each response to be as long as its message: docs/copying.md#clients.\n".into();
    } else if program.ends_with("client") {
        return "\nThen replace `run`. docs/recipes.md has more.\n".into();
    }
    let mut text =
        "\nThen replace `handle` and adapt the test; docs/recipes.md has handlers.\n".to_string();
    if program != "udp-basic-server" {
        let (protocol, _) = program.split_once('-').unwrap_or_default();
        text += "To inject faults into the server that `cargo build` makes, in this checkout:\n";
        text += "  cargo run -p tests --bin fault-kit -- \\\n";
        text += &format!("    {protocol} -- {binary} \"127.0.0.1:{{port}}\"\n");
    }
    text
}

fn add_module(program: &str, folder: &Path, log: bool) -> io::Result<String> {
    let (_, side) = program.rsplit_once('-').unwrap_or_default();
    let file = format!("src/{side}.rs");
    let mut text = create(folder, &[(&file, copying::module(program, log)?)])?;
    let has_main = folder.join("src/main.rs").exists();
    let (root, public) = if has_main { ("main.rs", "") } else { ("lib.rs", "pub ") };
    let messages = if side == "client" { ", vec![b\"hello\".to_vec()]" } else { "" };
    let root = folder.join("src").join(root);
    text += &format!("\nAdd to {}:\n  {public}mod {side};\n", root.display());
    text += "and inside a function that returns a Result, such as `fn main() -> std::io::Result<()>`:\n";
    let returns = if side == "server" { " // returns when the server stops" } else { "" };
    text += &format!("  {side}::run(\"127.0.0.1:8888\"{messages})?;{returns}\n");
    text += "The address may be an option of your own.\n";
    if log && side == "server" {
        text += "\nThe module uses the crate `log` (cargo add log). With tracing, change `use log::` to\n";
        text += "`use tracing::`.\n";
    }
    Ok(text + &advice(program, &folder.join("target/debug/PROGRAM").display().to_string()))
}

/// Creates files in a folder, unless one of them exists, and returns a line for each.
fn create(folder: &Path, files: &[(&str, String)]) -> io::Result<String> {
    let paths = || files.iter().map(|(file, _)| folder.join(file));
    // A module may also be a folder.
    let existing = paths().flat_map(|path| [path.with_extension("").join("mod.rs"), path]);
    let existing = existing.filter(|path| path.exists()).map(|path| path.display().to_string());
    let existing = existing.collect::<Vec<String>>().join(", ");
    if !existing.is_empty() {
        let error = format!("in the way: {existing} (delete or rename it to copy again)");
        return Err(io::Error::other(error));
    }
    let mut lines = String::new();
    for (path, (_, content)) in paths().zip(files) {
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| File::create_new(&path)?.write_all(content.as_bytes()))
            .map_err(|error| {
                io::Error::other(format!("cannot create {}: {error}", path.display()))
            })?;
        lines += &format!("created {}\n", path.display());
    }
    Ok(lines)
}
