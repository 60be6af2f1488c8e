//! The files, copied into projects of their own.

use crate::support::{cargo, repository, write_file};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Returns the path of a binary of the nested workspace, which the first call builds.
pub fn copied(name: &str) -> PathBuf {
    static BIN_DIR: OnceLock<PathBuf> = OnceLock::new();
    BIN_DIR.get_or_init(build).join(name).with_extension(env::consts::EXE_EXTENSION)
}

/// Builds the nested workspace, of which Cargo compiles only files that have changed.
fn build() -> PathBuf {
    let workspace = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nested");
    write_file(
        &workspace.join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\nmembers = [\"handlers\"]\n[profile.dev]\ndebug = false\n",
    );
    // In single quotes, because a path may contain backslashes.
    let manifest = format!(
        "[package]\nname = \"handlers\"\nedition = \"2024\"\n\n[dependencies]\ncommon = {{ path = '{}' }}\n",
        repository("common").display()
    );
    let package = workspace.join("handlers");
    write_file(&package.join("Cargo.toml"), &manifest);
    for (name, source) in crate::handlers::sources() {
        write_file(&package.join("src/bin").join(name).with_extension("rs"), &source);
    }
    let mut cargo = cargo(&workspace);
    cargo.args(["build", "--quiet", "--offline", "--workspace"]).env("RUSTFLAGS", "-Dwarnings");
    let output = cargo.arg("--target-dir").arg(workspace.join("target")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    workspace.join("target/debug")
}

/// Returns the source of a program.
pub fn source(program: &str) -> String {
    let (pair, side) = program.rsplit_once('-').unwrap();
    fs::read_to_string(repository(pair).join("src").join(side).with_extension("rs")).unwrap()
}
