//! Copies a program into a package.
//!
//! ```sh
//! cargo run --bin copy -- tcp-threaded-server ../my-server
//! cargo run --bin copy -- chat ../my-chat
//! ```

use common::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use tests::PAIRS;
use tests::copying::{self, Copy};

const HELP: &str = "\
Usage: copy [OPTIONS] NAME... FOLDER

Copies a program into a package of your own.

NAME is PAIR-server or PAIR-client, where PAIR is one of:
  {pairs}
Or it is a recipe, which changes a copy of tcp-threaded-server:
  {recipes}
Several recipes can be named if they change different parts of it.
If FOLDER contains a package, the program becomes its module src/server.rs or
src/client.rs. Otherwise FOLDER becomes a package, which is named like the
folder. No file is overwritten.

Options:
  --log          log by the crate log, in a new package with env_logger, instead
                 of macros; a module logs by tracing or log if its package does
  -h, --help     print this help
  -V, --version  print the version

Exit code: 0 if the program was copied, 1 if not, 2 for a wrong command line.
";

fn main() -> std::process::ExitCode {
    let pairs: Vec<&str> = PAIRS.iter().map(|pair| pair.name).collect();
    let recipes = copying::recipes().join(", ");
    let help = HELP.replace("{pairs}", &pairs.join(", ")).replace("{recipes}", &recipes);
    common::main(help.leak(), env!("CARGO_PKG_VERSION"), |args| {
        let (names, _) = args.positionals()?;
        Ok(common::print(copy(&names, args.flag("--log"))?.as_bytes())?)
    })
}

/// Copies a program and returns what to do next.
fn copy(names: &[&str], log: bool) -> Result<String, Error> {
    let (names, folder) = match names {
        [names @ .., folder] if !names.is_empty() => (names, Path::new(folder)),
        _ => return Err(Error::Usage("expected a NAME and a FOLDER".into())),
    };
    let (path, shown) = (folder.join("Cargo.toml"), folder.display());
    let manifest = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
    let logger = match log {
        _ if depends_on(&manifest, "tracing") => Some("tracing"),
        _ if log || depends_on(&manifest, "log") => Some("log"),
        _ => None,
    };
    let copy = Copy::new(names, logger).map_err(Error::Usage)?;
    let around = manifests_around(folder);
    let workspace = around.iter().find(|(_, text)| has_table(text, "[workspace]"));
    let workspace = workspace.map(|(root, _)| root.as_path());
    let is_package = |text| has_table(text, "[package]") && !has_table(text, "[workspace]");
    if folder.is_file() {
        Err(Error::Usage(format!("{shown} is not a folder")))
    } else if has_table(&manifest, "[package]") {
        add_module(&copy, folder, &manifest, workspace.unwrap_or(folder))
    } else if path.exists() {
        Err(Error::Usage(format!("{} has no [package]: name a member", path.display())))
    } else if let Some((package, _)) = around.first().filter(|(_, text)| is_package(text)) {
        let package = package.display();
        Err(Error::Usage(format!("{shown} is inside of the package {package}: name that")))
    } else {
        new_package(&copy, folder, workspace)
    }
}

/// Returns whether the dependencies of a manifest include a crate.
fn depends_on(manifest: &str, name: &str) -> bool {
    let is_key = |line: &str| line.trim_start().split(['=', '.', ' ']).next() == Some(name);
    manifest.split("\n[").any(|table| match table.trim_start_matches('[').split_once(']') {
        Some(("dependencies", keys)) => keys.lines().any(is_key),
        Some((table, _)) => table.strip_prefix("dependencies.") == Some(name),
        None => false,
    })
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

/// Returns the name of a folder if a package may have it. Cargo reports the names that it reserves.
fn package_name(folder: &Path) -> Result<String, Error> {
    // `.` and `..` exist and have a name of their own.
    let resolved = folder.canonicalize().unwrap_or(folder.into());
    let name = resolved.file_name().unwrap_or_default().to_string_lossy();
    let is_valid = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let rule = "a package name begins with a letter and has only letters, digits, - and _";
    let error = || Error::Usage(format!("the folder {name:?}: {rule}"));
    is_valid.then(|| name.to_string()).ok_or_else(error)
}

fn new_package(copy: &Copy, folder: &Path, workspace: Option<&Path>) -> Result<String, Error> {
    let name = &package_name(folder)?;
    let (mut manifest, main) = (copy.manifest(name), copy.main());
    let this = copying::root().canonicalize()?;
    if workspace == Some(&this) {
        manifest += "\n# Not a member of the workspace around it.\n[workspace]\n";
    }
    // There is no manifest yet, but there may be a program.
    let created = create(&folder.join("src/main.rs"), &main)?;
    let mut text = create(&folder.join("Cargo.toml"), &manifest)? + &created;
    text += &format!("\nNext, in {}:\n", folder.display());
    text += if copy.program.ends_with("client") {
        "  cargo run -- 127.0.0.1:8888 hello\n"
    } else {
        "  cargo run    # on 127.0.0.1:8888, or on the address after `--`\n  \
         cargo test   # runs the server in the process of the test\n"
    };
    if main.contains("env_logger::") {
        text += "\nIt logs only errors unless the environment variable RUST_LOG is `info`.\n";
    }
    let root = workspace.filter(|root| *root != this).unwrap_or(folder);
    Ok(text + ADVICE + &kit(copy, "", root, &format!("{name} \"127.0.0.1:{{port}}\"")))
}

fn add_module(copy: &Copy, folder: &Path, manifest: &str, root: &Path) -> Result<String, Error> {
    let (_, side) = copy.program.rsplit_once('-').unwrap_or_default();
    let source = copy.module();
    let mut text = create(&folder.join(format!("src/{side}.rs")), &source)?;
    let (_, name) = manifest.split_once("\nname = \"").unwrap_or_default();
    let (package, _) = name.split_once('"').unwrap_or_default();
    let [has_main, has_lib] = ["src/main.rs", "src/lib.rs"].map(|root| folder.join(root).exists());
    let path = if has_main && has_lib { package.replace('-', "_") + "::" } else { String::new() };
    let (main, public) = if has_main && !has_lib { ("main.rs", "") } else { ("lib.rs", "pub ") };
    let (messages, returns, tests) = match side {
        "client" => (", vec![b\"hello\".to_vec()]", "", ""),
        _ => (
            "",
            " // returns when the server stops",
            " For tests in tests/, see docs/recipes.md#a-test-in-the-folder-tests.",
        ),
    };
    text += &format!(
        "\n{} is a package already, whose programs do not change. Add to {}:\n  {public}mod {side};\n\
         and inside a function that returns a Result, such as `fn main() -> std::io::Result<()>`:\n  \
         {path}{side}::run(\"127.0.0.1:8888\"{messages})?;{returns}\n\
         The address may be an option of your own.{tests}\n",
        folder.display(),
        folder.join("src").join(main).display()
    );
    for (name, note) in [
        ("tracing", "its logger must not panic: docs/copying.md#the-macros"),
        ("log", "cargo add log"),
        ("ctrlc", "cargo add ctrlc --features termination"),
    ] {
        let uses = [format!("use {name}::"), format!("    {name}::")];
        let is_done = name != "tracing" && depends_on(manifest, name);
        if uses.iter().any(|text| source.contains(text)) && !is_done {
            text += &format!("\nThe module uses the crate {name}: {note}\n");
        }
    }
    Ok(text + ADVICE + &kit(copy, "--port 8888 ", root, &format!("{package} ARGUMENTS")))
}

/// Where to read on.
const ADVICE: &str = "\nWhat to replace: docs/copying.md, docs/recipes.md, docs/more-recipes.md.\n";

/// Returns how to check a server with the fault kit, whose program is in the target folder.
fn kit(copy: &Copy, port: &str, root: &Path, command: &str) -> String {
    if copy.program.ends_with("client") {
        return String::new();
    }
    let (protocol, _) = copy.program.split_once('-').unwrap_or_default();
    let options = format!("{} {port}", copy.kit_options);
    let (options, binary) = (options.trim_start(), root.join("target/debug").join(command));
    let mut text = format!(
        "To inject faults into the server that `cargo build` makes, in this checkout:\n  \
         cargo run -p tests --bin fault-kit -- {options}{protocol} -- \\\n    {}\n",
        binary.display()
    );
    if !port.is_empty() {
        text += "If ARGUMENTS contain the address, write 127.0.0.1:{port}, and omit --port.\n";
    }
    text
}

/// Creates a file, unless it exists, and returns a line about it.
fn create(path: &Path, content: &str) -> Result<String, Error> {
    // A module may also be a folder.
    let paths = [path.with_extension("").join("mod.rs"), path.into()];
    if let Some(existing) = paths.iter().find(|path| path.exists()) {
        let path = existing.display();
        let error = format!("in the way: {path} (delete or rename it to copy again)");
        return Err(Error::Failed(error));
    }
    fs::create_dir_all(path.parent().unwrap_or(path))
        .and_then(|()| File::create_new(path)?.write_all(content.as_bytes()))
        .map_err(|e| Error::failed(format_args!("cannot create {}", path.display()), &e))?;
    Ok(format!("created {}\n", path.display()))
}
