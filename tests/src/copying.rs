//! Copies of the programs, as `docs/copying.md` describes them.
//!
//! The pages are the source: a copy consists of the part of a program before `const HELP`, and of
//! blocks of the [`PAGES`]. A line such as `<!-- copy: run udp-echo-server -->` before a block names its
//! kind, and the programs or recipes to which it belongs.
//!
//! # Panics
//!
//! A call panics if a file of the checkout cannot be read.

use crate::PAIRS;
use std::fs;
use std::path::{Path, PathBuf};

/// The pages whose blocks are copied.
pub const PAGES: [&str; 4] =
    ["docs/copying.md", "docs/recipes.md", "docs/more-recipes.md", "docs/from-python.md"];

/// The line of a server that imports the log macros.
const IMPORT: &str = "use common::{error, info, warn};\n";

/// The program that recipes change.
const RECIPES_FOR: &str = "tcp-threaded-server";

/// Returns the names of the programs.
pub fn programs() -> impl Iterator<Item = String> {
    PAIRS.iter().flat_map(|pair| [pair.server(), pair.client()])
}

/// Returns the root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a folder").into()
}

/// Reads a file of the checkout.
pub fn read(path: &str) -> String {
    let text = fs::read_to_string(root().join(path));
    text.unwrap_or_else(|error| panic!("cannot read {path} of the checkout: {error}"))
}

/// Returns the path of a program in the checkout, and its source.
pub fn source(program: &str) -> (String, String) {
    let (pair, side) = program.rsplit_once('-').expect("a program is a server or a client");
    let path = format!("{pair}/src/{side}.rs");
    let source = read(&path);
    (path, source)
}

/// Replaces a text that occurs once.
///
/// # Errors
///
/// The text does not occur, or more than once.
pub fn replace(source: &str, from: &str, to: &str) -> Result<String, String> {
    match source.matches(from).count() {
        1 => Ok(source.replacen(from, to, 1)),
        count => Err(format!("{from:?} occurs {count} times, not once")),
    }
}

/// Replaces the text that begins with one text and ends with another.
fn replace_from(source: &str, start: &str, end: &str, to: &str) -> Result<String, String> {
    let parts = source.split_once(start).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some([before, to, after].concat())
    });
    parts.ok_or_else(|| format!("no {start:?} is followed by {end:?}"))
}

/// Replaces the handler of a server.
///
/// # Errors
///
/// The source has none, or it has been replaced.
pub fn replace_handler(source: &str, handler: &str) -> Result<String, String> {
    replace_from(source, "    /// The function to replace.\n", "\n    }\n", handler)
}

/// A block of the pages.
struct Block {
    kind: String,
    /// The programs or recipes to which it belongs.
    names: Vec<String>,
    /// The code, or the first words in the font of code if a line of text follows the marker.
    code: String,
}

fn blocks() -> Vec<Block> {
    let parse = |rest: &str| {
        let (marker, rest) = rest.split_once(" -->\n")?;
        let mut words = marker.split(' ').map(String::from);
        let code = match rest.strip_prefix("```") {
            Some(block) => block.split_once('\n')?.1.split_once("```")?.0,
            None => rest.split('`').nth(1)?,
        };
        Some(Block { kind: words.next()?, names: words.collect(), code: code.into() })
    };
    PAGES.map(read).concat().split("<!-- copy: ").skip(1).filter_map(parse).collect()
}

/// Returns the names of the recipes, in the order of the pages.
pub fn recipes() -> Vec<String> {
    let mut blocks = blocks();
    blocks.retain(|block| matches!(&*block.kind, "run" | "handler" | "guard"));
    let names = blocks.into_iter().flat_map(|block| block.names);
    names.filter(|name| programs().all(|program| program != *name)).collect()
}

/// The code of the pages, and the recipes that select from it.
struct Parts<'a> {
    blocks: Vec<Block>,
    recipes: &'a [&'a str],
}

impl Parts<'_> {
    /// Returns the codes of a kind that belong to any of the names.
    fn all(&self, kind: &str, names: &[&str]) -> Vec<&str> {
        let is_wanted = |name: &String| names.contains(&name.as_str());
        let blocks = self.blocks.iter().filter(|block| block.kind == kind);
        blocks.filter(|block| block.names.iter().any(is_wanted)).map(|block| &*block.code).collect()
    }

    /// Returns the code of a kind that belongs to a recipe, of which at most one may have any.
    fn one(&self, kind: &str) -> Result<Option<&str>, String> {
        match self.all(kind, self.recipes)[..] {
            [] => Ok(None),
            [code] => Ok(Some(code)),
            _ => Err(format!("more than one of {} has a {kind}", self.recipes.join(", "))),
        }
    }

    /// Returns the code of a kind that belongs to a recipe or else to a name, or an empty text.
    fn part(&self, kind: &str, name: &str) -> Result<&str, String> {
        let default = self.all(kind, &[name]).first().copied();
        Ok(self.one(kind)?.or(default).unwrap_or_default())
    }

    /// Applies the recipes to the part of the server that is copied.
    fn apply(&self, mut head: String) -> Result<String, String> {
        for field in self.all("field", self.recipes) {
            let (name, _) = field.split_once(':').unwrap_or_default();
            head = replace(&head, "struct Server {\n", &format!("struct Server {{\n{field}"))?;
            let value = format!("Ok(Server {{\n        {name}: Default::default(),\n");
            head = replace(&head, "Ok(Server {\n", &value)?;
        }
        if let Some(handler) = self.one("handler")? {
            head = replace_handler(&head, handler)?;
        }
        if let Some(guard) = self.one("guard")? {
            head = replace(&head, "    fn handle(", "    fn respond(")?;
            let (above, _) = head.split_once("    fn respond(").unwrap_or_default();
            let comment = above.rfind("\n\n").map_or(0, |end| end + 2);
            head.insert_str(comment, &format!("{guard}\n"));
        }
        Ok(self.all("items", self.recipes).iter().fold(head, |head, items| head + "\n" + items))
    }

    fn run(&self, program: &str) -> Result<String, String> {
        const STOP: &str = "        stopper.stop();\n";
        match self.one("stop")? {
            // This recipe adds to another one.
            Some(code) => replace(self.part("run", "stop")?, STOP, &format!("{STOP}{code}")),
            None => Ok(self.part("run", program)?.into()),
        }
    }

    /// Returns the module of tests, which only servers have.
    fn test(&self, program: &str) -> Result<String, String> {
        let tests = self.all("test", &[program]).first().map(|tests| format!("\n{tests}"));
        let tests = tests.unwrap_or_default();
        match self.one("test")? {
            Some(test) => replace_from(&tests, "    #[test]\n", "\n    }\n", test),
            None => Ok(tests),
        }
    }
}

/// A copy of a program.
pub struct Copy {
    /// The program that was copied.
    pub program: String,
    /// The options of the fault kit that suit it.
    pub kit_options: String,
    /// The part of the program that is copied.
    pub head: String,
    logger: Option<&'static str>,
    main: String,
    run: String,
    test: String,
}

impl Copy {
    /// Copies a program and applies recipes. Without the name of a program, that is the TCP server.
    ///
    /// The macros of the page log, or those of a crate such as `log`. Of the comment at the top of
    /// the program, how to run the original and where to read on are left out.
    ///
    /// # Errors
    ///
    /// The names do not fit together, or a text that is replaced is missing.
    pub fn new(names: &[&str], logger: Option<&'static str>) -> Result<Copy, String> {
        let (program, recipes) = match names {
            [first, recipes @ ..] if programs().any(|name| name == *first) => (*first, recipes),
            recipes => (RECIPES_FOR, recipes),
        };
        let known = self::recipes();
        if let Some(unknown) = recipes.iter().find(|name| known.iter().all(|it| it != *name)) {
            return Err(format!("{unknown:?} is neither a program nor a recipe"));
        } else if !recipes.is_empty() && program != RECIPES_FOR {
            return Err(format!("{} changes {RECIPES_FOR}, not {program}", recipes.join(", ")));
        }
        let (_, side) = program.rsplit_once('-').unwrap_or_default();
        let parts = Parts { blocks: blocks(), recipes };
        Ok(Copy {
            program: program.into(),
            kit_options: parts.part("kit", program)?.into(),
            head: parts.apply(head(program, logger, parts.part("macros", "std")?))?,
            logger,
            main: format!("\n{}", parts.part("main", side)?),
            run: format!("\n{}", parts.run(program)?),
            test: parts.test(program)?,
        })
    }

    /// Returns the source of a program.
    pub fn main(&self) -> String {
        let init = if self.logger == Some("log") { " {\n    env_logger::init();" } else { " {" };
        [&self.head, &*self.main.replacen(" {", init, 1), &self.run, &self.test].concat()
    }

    /// Returns the source of a module with a function `run`, in which tests can use the server.
    pub fn module(&self) -> String {
        let mut source = [&*self.head, &self.run, &self.test].concat();
        if self.program.ends_with("server") {
            for item in ["struct Server {", "    fn new(", "    fn serve(", "    fn stop("] {
                let public = item.replace("struct", "pub struct").replace("fn", "pub fn");
                source = source.replacen(&format!("\n{item}"), &format!("\n{public}"), 1);
            }
        }
        source
    }

    /// Returns the manifest of a package that consists of the copy.
    pub fn manifest(&self, name: &str) -> String {
        let ctrlc = "ctrlc = { version = \"3\", features = [\"termination\"] }\n";
        let ctrlc = if self.run.contains("ctrlc::") { ctrlc } else { "" };
        let log = if self.logger.is_some() { "env_logger = \"0.11\"\nlog = \"0.4\"\n" } else { "" };
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             rust-version = \"1.85\"\n\n[dependencies]\n{ctrlc}{log}"
        )
    }
}

/// Returns the part of a program that is copied, with these macros or those of a crate.
fn head(program: &str, logger: Option<&str>, macros: &str) -> String {
    let (path, source) = source(program);
    let (copied, _) = source.split_once("const HELP").unwrap_or((&source, ""));
    let (header, code) = copied.split_once("\n\n").unwrap_or(("", copied));
    let is_kept = |part: &&str| !part.starts_with("//! ```") && !part.starts_with("//! In Python");
    let header = header.split("\n//!\n").filter(is_kept).collect::<Vec<&str>>().join("\n//!\n");
    // What was an option is a field.
    let header = header.replace("`--", "`");
    let header = header.replace("//! Version", &format!("//! Copied from `{path}`, version"));
    // Macros are defined before they are used.
    let macros = match logger {
        Some(logger) => format!("use {logger}::{{error, info, warn}};\n"),
        None => format!("{macros}\n"),
    };
    format!("{header}\n\n{}\n", code.trim_end().replacen(IMPORT, &macros, 1))
}
